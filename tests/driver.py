"""A real supervision with its agents in this process, taken step by step: fold, scan, run."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any

from mana_actors.agent.actor import AgentActor, http_provider, new_runner
from mana_actors.agent.attempt.lease import Capability
from mana_actors.agent.attempt.run import Runner
from mana_actors.agent.inputs.resolvers import default_resolvers
from mana_actors.crash import CrashPoint
from mana_actors.llm.provider import ModelProvider
from mana_actors.local_processes import LocalProcesses
from mana_actors.messages import AgentSettings, Bind, Report, decode_report
from state.store.agent import AgentStore
from state.store.connect import Access, Database
from state.store.janitor import JanitorStore
from state.store.supervisor.schedule import ScheduleStore
from state.store.supervisor.snapshots import Lease, SnapshotStore
from supervisor.node.settings import Settings
from supervisor.supervision.dispatch import Pair, Pass
from supervisor.supervision.loop import Supervision
from supervisor.supervision.orders import capability_of
from supervisor.supervision.upkeep import Tenure

NAME, RELEASE = "supervisor-test-0", "test"
SCAN_TIMEOUT_S = 60.0


class Driver:
    """What a node would run without Ray; `reports` are all that its agents sent."""

    def __init__(
        self, access: Callable[[str], Access], settings: AgentSettings, **more: Any
    ) -> None:
        self._access = access
        self.settings = settings
        self.supervisor = Database(access("mana_supervisor"), max_connections=4)
        self._janitor = Database(access("mana_janitor"), max_connections=1)
        self.schedule = ScheduleStore(self.supervisor)
        self.new_provider: Callable[[AgentSettings], ModelProvider] = http_provider
        self.resolvers = default_resolvers()
        self.processes = LocalProcesses(
            lambda name, host: AgentActor(name, RELEASE, host, self._new_runner)
        )
        self.processes.supervisors[NAME] = self._take
        self._more = more
        self.supervision = self._new_supervision()
        self.reports: list[Report] = []
        self._taking = 0
        self._runners: list[Runner] = []

    def _new_supervision(self) -> Supervision:
        known: dict[str, Any] = {
            "data_dir": "/",
            "secrets_dir": "/",
            "warm_pool": 0,
            "prepare_ahead_s": 0,
            "agent_memory_mb": 1_000_000,  # each says what this whole process takes
            "fold_poll_ms": 5,
            "agent": self.settings,
        }
        return Supervision(
            Settings(**known | self._more),
            self.settings,
            self.supervisor,
            self.processes,
            name=NAME,
            release=RELEASE,
            janitor=JanitorStore(self._janitor),
        )

    def _new_runner(
        self,
        bind: Bind,
        holder: str,
        capability: Capability,
        crash: CrashPoint | None = None,
    ) -> Runner:
        return new_runner(
            bind,
            holder,
            capability,
            provider=self.new_provider,
            resolvers=self.resolvers,
            crash=crash,
        )

    async def _take(self, raw: bytes) -> None:
        report = decode_report(raw)
        self._taking += 1
        try:
            await self.supervision.report(report)
        finally:
            self._taking -= 1
            self.reports.append(report)

    async def start(self) -> Lease:
        """Take the shard."""
        await self.supervision.begin()
        return self.tenure.lease

    async def restart(self) -> None:
        """Another supervision in place of this one, whose agents carry on meanwhile."""
        await self.tenure.placement.watches.cancel()
        await self.supervision.background.cancel()
        successor = self._new_supervision()
        await successor.begin()
        self.supervision = successor

    @property
    def tenure(self) -> Tenure:
        """What the supervision holds since it took the shard."""
        assert self.supervision.tenure is not None
        return self.supervision.tenure

    @property
    def snapshots(self) -> SnapshotStore:
        """What the supervision folds into."""
        return self.tenure.snapshots

    @property
    def decisions(self) -> Counter[str]:
        """What the supervision counted so far."""
        counters = self.supervision.metrics.snapshot()["counters"]
        counted: dict[str, float] = counters.get("agent_decisions_total", {})
        return Counter({json.loads(labels)[0]: int(n) for labels, n in counted.items() if n})

    async def close(self) -> None:
        """End the agents and close every pool."""
        if self.supervision.tenure is not None:
            await self.tenure.placement.watches.cancel()
        await self.processes.aclose()
        await self.supervision.background.cancel()
        while self.supervision.pruning.background:  # noqa: ASYNC110  # it closes its connection
            await asyncio.sleep(0.002)
        for runner in self._runners:
            await runner.aclose()
        await self.supervisor.close()
        await self._janitor.close()

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """The supervision turns by itself while the block lasts."""
        turning = asyncio.create_task(self.supervision.run())
        try:
            yield
        finally:
            self.supervision.stand_down("the test is over")
            await turning

    async def fold_all(self) -> int:
        """Fold until the feed is empty; returns rows taken."""
        return await self.tenure.folding.everything()

    async def settled(self) -> None:
        """Everything folded, and told to whom it concerns."""
        await self.fold_all()
        async with asyncio.timeout(SCAN_TIMEOUT_S):
            while self.supervision.background:  # noqa: ASYNC110  # many tasks, no event of all
                await asyncio.sleep(0.002)

    async def tick(self) -> tuple[Pass, list[Report]]:
        """One scan, and the reports of all that it began."""
        first = len(self.reports)
        looked = await self.supervision.scan()
        async with asyncio.timeout(SCAN_TIMEOUT_S):
            while self._is_at_work:  # noqa: ASYNC110  # many tasks, and no event of them all
                await asyncio.sleep(0.002)
        return looked, self.reports[first:]

    @property
    def _is_at_work(self) -> bool:
        return bool(self.tenure.ordering.count or self._taking or self.supervision.background)

    async def runner(
        self, pair: Pair, holder: str = "driver", crash: CrashPoint | None = None
    ) -> Runner:
        """What runs an agent's missions, apart from any process; built as its actor builds it."""
        token = await capability_of(self.schedule, pair)
        bind = Bind(*pair, 0, NAME, token, self.settings)
        runner = self._new_runner(bind, holder, Capability(token), crash=crash)
        self._runners.append(runner)
        return runner

    async def store(self, pair: Pair) -> AgentStore:
        """What an agent's process reads and writes, with a fresh capability."""
        return (await self.runner(pair)).store
