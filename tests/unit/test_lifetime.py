"""An agent's process ends when nobody asks for it, and soon after decrypting something."""

import asyncio
from datetime import UTC, datetime

import pytest

from mana_actors.agent import actor
from mana_actors.agent.actor import AFTER_SECRETS_S, AgentActor, why_end
from mana_actors.agent.attempt.run import Runner
from mana_actors.background import Background
from mana_actors.messages import (
    AgentMessage,
    AgentSettings,
    Bind,
    Hello,
    Identity,
    Order,
    Orders,
    Report,
    Sleep,
    decode_identity,
    decode_report,
    encode,
)
from state.runs.outcome import Ran

RAN = Ran(datetime(2026, 4, 27, tzinfo=UTC), "i1", 1)
SETTINGS = AgentSettings("postgresql:///nowhere", "mana_agent", "/nowhere", "http://n", None, "m")
BIND = Bind("u1", "a1", 1, "supervisor", "capability", SETTINGS)


def ends(idle_s: float = 0.0, unheard_s: float = 0.0, *, held_a_key: bool = False) -> bool:
    return (
        why_end(idle_s=idle_s, unheard_s=unheard_s, held_a_key=held_a_key, heard_timeout_s=120)
        is not None
    )


def test_a_process_that_decrypted_something_does_not_outlive_its_run_for_long() -> None:
    assert not ends(AFTER_SECRETS_S, held_a_key=True), "its supervisor is given that time"
    assert ends(AFTER_SECRETS_S + 1, held_a_key=True)
    assert not ends(3600, held_a_key=False), "kept awake for as long as somebody asks for it"


def test_a_process_that_nobody_asks_for_ends() -> None:
    assert not ends(unheard_s=120)
    assert ends(unheard_s=121)


class Process:
    """An agent's process without Ray: its reports as they come, and its end."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.reports: asyncio.Queue[Report] = asyncio.Queue()
        self.ended = asyncio.Event()
        self._held_a_key = False
        patch.setattr(actor, "keep_to_ourselves", lambda: None)
        patch.setattr(Runner, "run", self._run)
        patch.setattr(Runner, "held_a_key", property(lambda _: self._held_a_key))
        self.work = Background()
        self._actor = AgentActor("agent-1", "r1", self)

    def end(self) -> None:
        """The actor ends it."""
        self.ended.set()

    async def report(self, supervisor: str, raw: bytes) -> None:
        """The actor reports."""
        self.reports.put_nowait(decode_report(raw))

    async def _run(self, order: Order) -> Report:
        self._held_a_key |= order.mission_id == "secret"
        return Report("agent-1", "u1", "a1", order.mission_id, order.version, RAN)

    async def tell(self, message: AgentMessage) -> Identity:
        """What it answers."""
        return decode_identity(await self._actor.tell(encode(message)))

    async def order(self, mission: str) -> Identity:
        """What it answers to an order."""
        return await self.tell(Orders(1, "capability", (Order(mission, 1),)))


@pytest.fixture
async def process(monkeypatch: pytest.MonkeyPatch) -> Process:
    """A process that is bound."""
    made = Process(monkeypatch)
    await made.tell(BIND)
    return made


async def test_reports_say_that_the_process_held_a_key_from_then_on(process: Process) -> None:
    for mission, expected in (("plain", False), ("secret", True), ("plain-again", True)):
        assert (await process.order(mission)).accepted
        report = await process.reports.get()
        assert (report.mission_id, report.held_a_key) == (mission, expected)
        told = await process.tell(Hello(1, "supervisor"))
        assert told.held_a_key == expected, "a supervisor that adopts it hears it too"


async def test_an_order_is_refused_and_not_lost_on_the_way_to_sleep(process: Process) -> None:
    await process.tell(Sleep(1))
    assert not (await process.order("m1")).accepted
    await process.ended.wait()
    assert process.reports.empty()
