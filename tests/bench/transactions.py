"""What a run costs in the database, beside a bare transaction."""

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from mana_actors.agent.attempt.lease import Capability, LeaseKeeper
from mana_actors.agent.attempt.run import Runner
from mana_actors.agent.inputs.resolvers import default_resolvers
from mana_actors.llm.client import HttpProvider
from mana_actors.messages import Order
from state.runs.commit import Commit
from state.store.agent import AgentStore, Basis, Claim, Closing, Ended
from state.store.connect import Database
from state.store.supervisor.schedule import ScheduleStore
from state.store.supervisor.snapshots import SnapshotStore
from tests.bench.figures import Figure, Say, median, side_by_side
from tests.bench.ground import Ground, ground
from tests.fake_provider import FakeProvider

PAIR = ("u1", "planner")
CHECKS = 1000


class TimedStore(AgentStore):
    """Remembers how long each claim and each commit took, in milliseconds."""

    def __init__(
        self, database: Database, user_id: str, agent_id: str, capability: Callable[[], str]
    ) -> None:
        super().__init__(database, user_id, agent_id, capability)
        self.claims: list[float] = []
        self.commits: list[float] = []

    async def claim(self, *order: Any, **more: Any) -> Claim:
        began = time.perf_counter()
        claim = await super().claim(*order, **more)
        self.claims.append((time.perf_counter() - began) * 1000)
        return claim

    async def commit(self, closing: Closing, commit: Commit, basis: Basis) -> Ended:
        began = time.perf_counter()
        ended = await super().commit(closing, commit, basis)
        self.commits.append((time.perf_counter() - began) * 1000)
        return ended


async def measure(say: Say, *, quick: bool) -> list[Figure]:
    """Transactions of one agent on one connection."""
    times = 50 if quick else 200
    async with ground(say) as made:
        supervisor = Database(made.access("mana_supervisor"), max_connections=2)
        schedule = ScheduleStore(supervisor)
        snapshots = SnapshotStore(supervisor, await made.lease(schedule))
        await made.agents(1)
        await made.missions("m", 1, times, datetime.now(UTC) - timedelta(seconds=1))
        while (await snapshots.fold()).rows:
            pass
        token = await schedule.sign_capability(*PAIR, [], [], 900)
        await supervisor.close()
        agent = Database(made.access("mana_agent"), max_connections=2)
        store = TimedStore(agent, *PAIR, Capability(token))
        say("transactions, bare and with a capability")
        bare, shown, read = await side_by_side(
            [lambda: _bare(agent), lambda: _shown(store), lambda: store.mission("m1-1")], times
        )
        check = await check_ms(store)
        say(f"{times} runs")
        whole = await _runs(made, store, token, times)
        await agent.close()
    against = "a transaction of SELECT 1"

    def beside_bare(name: str, value: float) -> Figure:
        return Figure(
            name=name, value=value, unit="ms", beside=against, other=bare, ratio=value / bare
        )

    return [
        Figure(
            name="capability check",
            value=check,
            unit="ms",
            beside=against,
            other=bare,
            ratio=check / bare,
        ),
        beside_bare("transaction that presents its capability", shown),
        beside_bare("read one mission under its capability", read),
        beside_bare("claim", median(store.claims)),
        beside_bare("commit (settle, compare, write the plan, close)", median(store.commits)),
        beside_bare("whole run without Ray, model answers at once", whole),
    ]


async def _bare(database: Database) -> None:
    async with database.transaction() as connection:
        await connection.fetchval("SELECT 1")


async def _shown(store: AgentStore) -> None:
    async with store.transaction() as connection:
        await connection.fetchval("SELECT mana_ai.capability() ->> 'u'")


async def check_ms(store: AgentStore) -> float:
    """Milliseconds of one capability check, from many in one statement."""
    many = (
        f"SELECT count(mana_ai.capability() ->> 'u') FROM generate_series(1, {CHECKS}) AS i"
        " WHERE i > 0"
    )
    taken: list[float] = []
    async with store.transaction() as connection:
        for _ in range(9):
            began = time.perf_counter()
            if await connection.fetchval(many) != CHECKS:
                raise AssertionError("the capability is not valid")
            taken.append((time.perf_counter() - began) * 1000 / CHECKS)
    return median(taken)


async def _runs(ground: Ground, store: AgentStore, token: str, times: int) -> float:
    """The median milliseconds of whole runs."""
    taken: list[float] = []
    with FakeProvider() as model:
        settings = ground.agent_settings(model.url)
        provider = HttpProvider(model.url)
        access = ground.access("mana_agent")
        leases = LeaseKeeper(
            lambda: Database(access, max_connections=1), *PAIR, Capability(token), settings.lease_ms
        )
        runner = Runner(
            user_id=PAIR[0],
            agent_id=PAIR[1],
            holder="bench",
            store=store,
            provider=provider,
            settings=settings,
            leases=leases,
            resolvers=default_resolvers(),
        )
        for number in range(1, times + 1):
            began = time.perf_counter()
            report = await runner.run(Order(f"m1-{number}", 0))
            taken.append((time.perf_counter() - began) * 1000)
            if report.outcome != "ran":
                raise AssertionError(f"a run ended with {report.outcome}: {report.reason}")
        await provider.aclose()
    return median(taken)
