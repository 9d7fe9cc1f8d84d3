"""The whole pipeline in one process and without Ray: fold, look, run."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Callable
from typing import Any
from zoneinfo import ZoneInfo

from mana_actors.agent.attempt.lease import Capability, LeaseKeeper
from mana_actors.agent.attempt.run import Runner
from mana_actors.agent.inputs.resolvers import default_resolvers
from mana_actors.crash import CrashPoint, crash_points
from mana_actors.llm.client import HttpProvider
from mana_actors.llm.provider import ModelProvider
from mana_actors.messages import AgentSettings, Report
from state.log.tables import scope_of
from state.store.agent import AgentStore
from state.store.connect import Access, Database
from state.store.supervisor.schedule import ScheduleStore
from state.store.supervisor.snapshots import Lease, SnapshotStore
from supervisor.supervision.dispatch import Caps, Pair, Pass, dispatch, next_slot


class PlainDriver:
    """Folds and runs what is due, as one supervisor with its agents would, in this process."""

    def __init__(self, access: Callable[[str], Access], settings: AgentSettings) -> None:
        self._access = access
        self.settings = settings
        self.supervisor = Database(access("mana_supervisor"), max_connections=4)
        self.schedule = ScheduleStore(self.supervisor)
        self.snapshots: SnapshotStore | None = None
        self._databases: list[Database] = [self.supervisor]
        self.provider: ModelProvider = HttpProvider(settings.model_url)
        self.decisions: Counter[str] = Counter()
        self.resolvers = default_resolvers()

    async def start(self, shard: str = "0", lo: int = 0, hi: int = 256) -> Lease:
        """Take the shard."""
        lease = await self.schedule.take_shard(shard, lo, hi, f"driver-{os.getpid()}")
        self.snapshots = SnapshotStore(self.supervisor, lease)
        return lease

    async def close(self) -> None:
        """Close every pool."""
        await self.provider.aclose()
        for database in self._databases:
            await database.close()

    async def fold_all(self) -> int:
        """Fold until the feed is empty; returns rows taken."""
        assert self.snapshots is not None
        rows = 0
        while (folded := await self.snapshots.fold()).rows:
            rows += folded.rows
        return rows

    async def tick(self) -> tuple[Pass, list[Report]]:
        """Fold, look once at what is due, and run what may run, all at once."""
        assert self.snapshots is not None
        await self.fold_all()
        looked = dispatch(await self.schedule.due(self.snapshots.lease, 500), {}, Caps())
        await self.schedule.look_again(looked.looks)
        self.decisions.update(await self.schedule.note_decisions(looked.decided))
        for move in looked.moves:
            await self._move(move.due.user_id, move.due.mission_id, move.due)
        runs = [self.run(pair, order) for pair, orders in looked.orders.items() for order in orders]
        reports = await asyncio.gather(*runs)
        self.decisions.update(report.decision for report in reports if report.decision)
        return looked, list(reports)

    async def _move(self, user_id: str, mission_id: str, due: Any) -> None:
        found = await self.schedule.mission_record(user_id, mission_id)
        assert found is not None
        zone = ZoneInfo(found[1] or self.settings.time_zone)
        following, stamp, actor = next_slot(user_id, mission_id, found[0], zone, due.now)
        await self.schedule.move_slot(user_id, mission_id, due.next_run_at, following, stamp, actor)

    async def run(self, pair: Pair, order: Any) -> Report:
        """One order in a runner of its own."""
        runner = await self.runner(pair)
        return await (runner.heal(order) if order.kind == "heal" else runner.run(order))

    async def runner(
        self, pair: Pair, holder: str = "driver", crash: CrashPoint | None = None
    ) -> Runner:
        """A runner with a fresh capability, as an agent's process holds one."""
        user_id, agent_id = pair
        token = await self._capability(pair)
        store = self._store(pair, token)
        leases = LeaseKeeper(
            lambda: Database(self._access("mana_agent"), max_connections=1),
            user_id,
            agent_id,
            token,
            self.settings.lease_ms,
        )
        return Runner(
            user_id=user_id,
            agent_id=agent_id,
            holder=holder,
            store=store,
            provider=self.provider,
            settings=self.settings,
            leases=leases,
            resolvers=self.resolvers,
            crash=crash or crash_points(self.settings.crash_at),
        )

    async def store(self, pair: Pair) -> AgentStore:
        """What an agent's process reads and writes, with a fresh capability."""
        return self._store(pair, await self._capability(pair))

    def _store(self, pair: Pair, token: Capability) -> AgentStore:
        database = Database(self._access("mana_agent"), max_connections=2, idle_s=2)
        self._databases.append(database)
        return AgentStore(database, *pair, token)

    async def _capability(self, pair: Pair) -> Capability:
        inputs, spaces = await self.schedule.inputs_of_agent(*pair)
        scope = scope_of(inputs, await self.schedule.policy_of_agent(*pair))
        return Capability(await self.schedule.sign_capability(*pair, spaces, scope, 900))
