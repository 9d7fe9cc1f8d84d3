"""A Ray of the bench's own, with the settings a node gives it, and actors in it."""

import asyncio
import logging
import os
import shutil
import signal
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, cast

import ray

from mana_actors import fork_server
from mana_actors.agent.actor import AgentActor
from mana_actors.messages import Order, Report, decode_report
from mana_actors.release import release
from mana_actors.remote import NAMESPACE, RayProcesses
from state.store.connect import Database
from state.store.supervisor.schedule import ScheduleStore
from state.store.supervisor.snapshots import SnapshotStore
from supervisor.node.settings import Settings
from supervisor.supervision.dispatch import Pair
from supervisor.supervision.metrics import Metrics
from supervisor.supervision.orders import Ordering
from supervisor.supervision.placement import Placement
from supervisor.supervision.ticks import Ticks
from tests.bench.bare import Bare, ReportSink
from tests.bench.figures import Say
from tests.bench.ground import Ground
from tests.postgres import new_folder

SINK = "supervisor-bench"
_OBJECT_STORE_BYTES = 80 * 1024 * 1024
_ANSWER_S = 120.0


@asynccontextmanager
async def local_ray(say: Say, *, forks: bool = True) -> AsyncGenerator[None]:
    """Ray in this process's name, ended with the block; its workers are forks, as a node's are."""
    say("starting a Ray")
    folder = new_folder()  # named so that the next run removes what a killed one left
    os.environ.setdefault("RAY_worker_register_timeout_seconds", "120")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    path = os.environ.get("PYTHONPATH")
    if forks:
        os.environ |= fork_server.variables(folder / "forks", path)
    try:
        ray.init(
            namespace=NAMESPACE,
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
            object_store_memory=_OBJECT_STORE_BYTES,
            num_cpus=max(1, os.cpu_count() or 1),
            _temp_dir=str(folder),
        )
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # Ray's ends without cleaning up
        while forks and not (folder / "forks" / "socket").exists():  # noqa: ASYNC110 - a file
            await asyncio.sleep(0.1)
        yield
    finally:
        os.environ.pop(fork_server.FOLDER_VARIABLE, None)
        os.environ.pop("PYTHONPATH", None)
        if path is not None:
            os.environ["PYTHONPATH"] = path
        await asyncio.to_thread(cast("Any", ray).shutdown)
        shutil.rmtree(folder, ignore_errors=True)


def new_bare() -> Any:
    """A bare actor with the options of an agent's; it may still be on its way."""
    return _remote(Bare).options(num_cpus=0, max_restarts=0, max_concurrency=1000).remote()


async def answer(call: Any) -> Any:
    """What a remote call returned."""
    return await asyncio.wait_for(_awaited(call), _ANSWER_S)


async def _awaited(call: Any) -> Any:
    return await call


def end(actor: Any) -> None:
    """End an actor now."""
    ray.kill(actor)


def named(name: str) -> Any:
    """An actor by its name."""
    return cast("Any", ray.get_actor(name, namespace=NAMESPACE))


def _remote(actor_class: type) -> Any:
    return cast("Any", ray.remote(actor_class))


class Stand:
    """The supervisor's placement and ordering in this process, with real agents."""

    def __init__(self, ground: Ground, actor_class: type[AgentActor], model_url: str) -> None:
        self._ground = ground
        self._actor_class = actor_class
        self._model_url = model_url
        self._database = Database(ground.access("mana_supervisor"), max_connections=8)
        self.schedule = ScheduleStore(self._database)

    async def begin(self) -> None:
        """Take the shard, fold what is there, stand ready for reports."""
        lease = await self._ground.lease(self.schedule)
        snapshots = SnapshotStore(self._database, lease)
        while (await snapshots.fold()).rows:
            pass
        self.epoch = lease.epoch
        self._sink: Any = (
            _remote(ReportSink)
            .options(name=SINK, namespace=NAMESPACE, num_cpus=0, max_concurrency=1000)
            .remote()
        )
        processes = RayProcesses(self._actor_class, release())
        self.placement = Placement(processes, release(), SINK, lease.epoch, lambda _n, _p: None)
        self.ordering = Ordering(
            settings=Settings(data_dir="/", secrets_dir="/"),
            agent_settings=self._ground.agent_settings(self._model_url),
            supervisor=SINK,
            lease=lease,
            schedule=self.schedule,
            placement=self.placement,
            metrics=Metrics(),
            ticks=Ticks(),
        )

    async def warm(self, wanted: int) -> None:
        """Return once the pool holds so many."""
        while self.placement.warm < wanted:
            self.placement.refill(wanted)
            await asyncio.sleep(0.05)

    async def give(self, pair: Pair, mission: str) -> None:
        """Order one run; returns once the agent has accepted it."""
        await self.ordering.give(pair, [Order(mission, 0)], [])
        if pair not in self.placement.awake:
            raise AssertionError("the order was not delivered")

    async def report(self) -> Report:
        """The next report."""
        return decode_report(await answer(self._sink.take.remote()))

    async def close(self) -> None:
        """Drop the connections; the processes end with Ray."""
        await self._database.close()
