"""A process belongs to one agent, once and for ever; real AgentActors on a local Ray."""

import asyncio
import logging
import os
import signal
import tempfile
import uuid
from collections.abc import Iterator

import pytest
import ray

from mana_actors.agent.actor import AgentActor
from mana_actors.messages import AgentSettings, Bind, Hello, Identity, Order, Orders
from mana_actors.processes import AgentProcess, ProcessGone
from mana_actors.remote import NAMESPACE, RayProcesses

SETTINGS = AgentSettings("postgresql:///nowhere", "mana_agent", "/nowhere", "http://n", None, "m")


@pytest.fixture(scope="module")
def processes() -> Iterator[RayProcesses]:
    """Agent processes on a small Ray of our own."""
    with tempfile.TemporaryDirectory(prefix="mana-ray-", ignore_cleanup_errors=True) as folder:
        ray.init(
            address="local",
            namespace=NAMESPACE,
            include_dashboard=False,
            num_cpus=1,
            object_store_memory=80 * 1024 * 1024,
            log_to_driver=False,
            logging_level=logging.ERROR,
            _temp_dir=folder,
        )
        try:
            yield RayProcesses(AgentActor, "test")
        finally:
            ray.shutdown()


@pytest.fixture
def process(processes: RayProcesses) -> Iterator[AgentProcess]:
    """One process that is nobody's yet."""
    made = processes.create(f"agent-test-{uuid.uuid4().hex[:12]}")
    yield made
    made.kill()


def bind(user: str, epoch: int = 5) -> Bind:
    return Bind(user, "a1", epoch, "nobody", "capability", SETTINGS)


async def test_a_second_bind_is_refused(process: AgentProcess) -> None:
    first = await process.tell(bind("u1"), 60)
    assert (first.accepted, first.user_id) == (True, "u1")
    second = await process.tell(bind("u2", epoch=6))
    assert (second.accepted, second.user_id) == (False, "u1")
    same = await process.tell(bind("u1", epoch=6))
    assert not same.accepted, "not even for the one it belongs to"


async def test_an_older_epoch_is_refused_whatever_it_says(process: AgentProcess) -> None:
    await process.tell(Hello(9, "nobody"), 60)
    refused = await process.tell(bind("u1", epoch=8))
    assert (refused.accepted, refused.user_id) == (False, None)
    orders = await process.tell(Orders(8, "capability", (Order("m1", 1),)))
    assert (orders.accepted, orders.running) == (False, ())
    assert (await process.tell(bind("u1", epoch=9))).accepted


async def test_of_two_binds_at_once_exactly_one_is_accepted(process: AgentProcess) -> None:
    await process.tell(Hello(5, "nobody"), 60)
    answers = await asyncio.gather(*(process.tell(bind(f"u{n}")) for n in range(8)))
    accepted = [answer for answer in answers if answer.accepted]
    assert len(accepted) == 1
    assert {answer.user_id for answer in answers} == {accepted[0].user_id}
    now: Identity = await process.tell(Hello(5, "nobody"))
    assert now.user_id == accepted[0].user_id


async def test_an_unbound_process_takes_no_orders(process: AgentProcess) -> None:
    answer = await process.tell(Orders(5, "capability", (Order("m1", 1),)), 60)
    assert (answer.accepted, answer.running) == (False, ())


async def test_a_process_that_ended_is_heard_of_and_never_comes_back(process: AgentProcess) -> None:
    pid = (await process.tell(Hello(5, "nobody"), 60)).pid
    gone = asyncio.create_task(process.gone())
    os.kill(pid, signal.SIGKILL)
    await asyncio.wait_for(gone, 30)
    with pytest.raises(ProcessGone, match="gone"):
        await process.tell(Hello(5, "nobody"), 5)
