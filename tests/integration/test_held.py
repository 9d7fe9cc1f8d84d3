"""An agent's login that keeps a transaction open holds up nobody but its own agent (P9)."""

import asyncio
import random
import uuid
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import asyncpg
import pytest

from mana_actors.crash import crash_points
from mana_actors.messages import Order
from mana_actors.processes import ProcessGone
from state.store.supervisor.schedule import Decided, Look, MissionKey, ScheduleStore
from state.store.supervisor.snapshots import Folded, SnapshotStore
from supervisor.cli import database as database_commands
from supervisor.supervision import fold, loop, sweep
from supervisor.supervision.dispatch import Pair
from supervisor.supervision.fold import FoldLoop
from supervisor.supervision.metrics import Metrics
from supervisor.supervision.orders import Ordering, capability_of
from supervisor.supervision.sweep import Reconciler
from tests.integration.support import DONE, LONG_AGO, World, fold_all, text, until
from tests.postgres import LOG_OWNER

pytestmark = pytest.mark.one_postgres

MANA = "legacy:ai-default"
M1 = ("u1", "aiMissions", "m1")


class Culprit:
    """An agent's login by hand: its transaction is open from `begin` to `end`."""

    def __init__(self, connection: asyncpg.Connection, capability: str) -> None:
        self.connection = connection
        self._capability = capability
        self._transaction = connection.transaction()

    async def begin(self) -> None:
        await self.connection.execute("SET idle_in_transaction_session_timeout = 0")
        await self._transaction.start()
        await self.connection.execute(
            "SELECT set_config('app.capability', $1, true)", self._capability
        )

    async def claim(self, mission: str, due: datetime = LONG_AGO) -> uuid.UUID:
        """Take an occurrence, and with it ledger, run and the mission's snapshot."""
        row = await self.connection.fetchrow(
            "SELECT * FROM mana_ai.claim(NULL, NULL, $1, $2, 60000, 'by-hand', '{}')", mission, due
        )
        assert row is not None
        assert row["outcome"] == "claimed"
        return row["run_id"]

    async def end(self) -> None:
        await self._transaction.rollback()


async def culprit_of(world: World, *missions: str, user: str = "u1") -> Culprit:
    """One that claimed these and went to lunch."""
    token = await capability_of(world.driver.schedule, (user, MANA))
    culprit = Culprit(await world.connect("mana_agent"), token)
    await culprit.begin()
    for mission in missions:
        await culprit.claim(mission)
    return culprit


async def titles(world: World) -> dict[tuple[str, str], str]:
    rows = await world.sql(
        "SELECT user_id, mission_id, record ->> 'title' AS title FROM mana_ai.mission_snapshots"
    )
    return {(row["user_id"], row["mission_id"]): row["title"] for row in rows}


async def two_people(world: World, **agent: int) -> None:
    """Each with a mission m1 and a default agent, folded."""
    for user in ("u1", "u2"):
        client = await world.client(user)
        await client.agent(MANA, **agent)
        await client.mission()
    await fold_all(world.store)


async def edits(world: World, count: int, user: str = "u1", mission: str = "m1") -> None:
    """So many edits of one mission in one transaction."""
    client = await world.connect(LOG_OWNER)
    async with client.transaction():
        await client.execute("SELECT set_config('app.current_user_id', $1, true)", user)
        await client.execute(
            "INSERT INTO public.sync_changes (app_id, table_name, record_id, user_id, op, data,"
            " client_id) SELECT 'ai', 'aiMissions', $1, $2, 'update',"
            " jsonb_build_object('f' || n % 7, n), 'c' FROM generate_series(1, $3) AS n",
            mission,
            user,
            count,
        )


def loop_of(world: World) -> FoldLoop:
    return FoldLoop(world.store, Metrics(), lambda _folded: None, crash_points(None))


# --- fold -----------------------------------------------------------------------------------------


async def test_a_held_mission_is_set_aside_and_the_others_are_folded(world: World):
    await two_people(world)
    culprit = await culprit_of(world, "m1")
    for user in ("u1", "u2"):
        await (await world.client(user)).edit(title="neu")
        await (await world.client(user)).edit(objective="auch neu")
    folded = await asyncio.wait_for(world.store.fold(), 5)
    assert (folded.rows, folded.held) == (2, (M1,))
    assert await titles(world) == {("u1", "m1"): "Wochenplan", ("u2", "m1"): "neu"}
    assert await world.value("SELECT count(*) FROM mana_ai.change_feed") == 2
    await culprit.end()
    assert [folded.rows for folded in await fold_all(world.store)] == [2]
    assert await world.wrong_snapshots() == []


async def test_an_agents_record_waits_while_one_of_its_missions_is_held(world: World):
    await two_people(world)
    culprit = await culprit_of(world, "m1")
    for user in ("u1", "u2"):
        await (await world.client(user)).edit(MANA, table="agents", state="paused")
    folded = await asyncio.wait_for(world.store.fold(), 5)
    assert (folded.rows, folded.held) == (1, (("u1", "agents", MANA),))
    states = "SELECT user_id, state FROM mana_ai.agent_snapshots ORDER BY user_id"
    assert [tuple(row) for row in await world.sql(states)] == [("u1", "active"), ("u2", "paused")]
    await culprit.end()
    assert (await world.store.fold()).rows == 1
    assert await world.wrong_snapshots() == []


async def test_a_fold_that_waited_for_rows_would_wait_for_the_culprit(
    world: World, monkeypatch: pytest.MonkeyPatch
):
    async def nothing_is_held(*_: object) -> set[tuple[str, str, str]]:
        return set()

    monkeypatch.setattr(SnapshotStore, "_held", nothing_is_held)
    await two_people(world)
    culprit = await culprit_of(world, "m1")
    for user in ("u1", "u2"):
        await (await world.client(user)).edit(title="neu")
    folding = asyncio.create_task(world.store.fold())
    done, _ = await asyncio.wait([folding], timeout=0.3)
    assert not done
    await culprit.end()
    assert (await folding).rows == 2


async def test_thousands_of_held_rows_hide_nobody_behind_them(world: World):
    await two_people(world)
    await culprit_of(world, "m1")
    await edits(world, 5001)
    await (await world.client("u2")).edit(title="dahinter")
    folding = loop_of(world)
    assert await folding.some() == 0
    assert folding.is_behind
    assert await folding.some() == 1
    assert not folding.is_behind
    assert list(folding.held) == [M1]
    assert (await titles(world))["u2", "m1"] == "dahinter"


async def test_thousands_of_held_missions_hide_nobody_behind_them(
    world: World, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(fold, "BATCH", 10)
    await two_people(world, maxConcurrentMissions=50)
    client = await world.client()
    names = [f"m{number}" for number in range(2, 42)]
    for name in names:
        await client.mission(name)
    await fold_all(world.store)
    culprit = await culprit_of(world, *names)
    for name in names:
        await client.edit(name, title="gehalten")
    await (await world.client("u2")).edit(title="dahinter")
    folding = loop_of(world)
    assert await folding.everything() == 1
    assert len(folding.held) == len(names)
    await culprit.end()
    assert await folding.everything() == len(names)
    assert await world.wrong_snapshots() == []


class Clock:
    """Seconds, moved by hand."""

    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


async def test_a_record_that_is_free_again_is_folded_with_the_next_walk(world: World):
    await two_people(world)
    culprit = await culprit_of(world, "m1")
    await (await world.client()).edit(title="neu")
    await (await world.client("u2")).edit(title="neu")
    clock = Clock()
    folding = FoldLoop(world.store, Metrics(), lambda _folded: None, crash_points(None), clock)
    assert await folding.some() == 1
    assert list(folding.held) == [M1]
    await culprit.end()
    assert await folding.some() == 0, "above the floor there is nothing"
    clock.now_s += fold.HELD_AGAIN_S
    assert await folding.some() == 1
    assert folding.held == {}


async def test_a_record_that_stays_held_is_tried_ever_less_often(world: World):
    await two_people(world)
    await culprit_of(world, "m1")
    await (await world.client()).edit(title="neu")
    walks: list[float] = []
    clock = Clock()

    class Counted(SnapshotStore):
        async def fold(self, floor: int = 0, limit: int = 5000) -> Folded:
            walks.append(clock.now_s)
            return await super().fold(floor, limit)

    store = Counted(world.driver.supervisor, world.store.lease)
    folding = FoldLoop(store, Metrics(), lambda _folded: None, crash_points(None), clock)
    for _ in range(100):
        await folding.some()
        clock.now_s += 0.05
    assert 5 <= len(walks) <= 12
    assert folding.held == {M1: 0.0}


@pytest.mark.parametrize("limit", [1, 2])
async def test_a_record_that_is_touched_takes_all_its_rows(world: World, limit: int):
    await two_people(world)
    for number in range(5):
        await (await world.client("u1")).edit(title=f"{number}")
    await (await world.client("u2")).edit(title="danach")
    first = await world.store.fold(limit=limit)
    assert first.rows == 5
    assert first.has_more
    assert (await titles(world))["u1", "m1"] == "4"
    assert (await world.store.fold(first.floor, limit=limit)).rows == 1
    assert await world.wrong_snapshots() == []


async def test_a_members_row_far_behind_comes_with_the_record(world: World):
    await (await world.client("u1")).mission(space="s1")
    await (await world.client("u2")).push("update", "m1", {"title": "eins"}, space="s1")
    await (await world.client("u3")).mission("m3")
    await (await world.client("u2")).push("update", "m1", {"title": "zwei"}, space="s1")
    folded = await world.store.fold(limit=2)
    assert folded.rows == 3
    assert await titles(world) == {("u1", "m1"): "zwei"}
    await fold_all(world.store)
    assert await world.wrong_snapshots() == []


# --- rebuild and sweep ----------------------------------------------------------------------------


async def drift(world: World) -> None:
    """Both missions' snapshots are not what the log says."""
    await world.sql("UPDATE mana_ai.mission_snapshots SET folded_digest = 5")


async def test_a_rebuild_passes_over_what_is_held(world: World):
    await two_people(world)
    await drift(world)
    culprit = await culprit_of(world, "m1")
    keys, _ = await world.store.differences("", 10)
    folded = await asyncio.wait_for(world.store.rebuild(keys), 5)
    assert (folded.replayed, folded.held) == (1, (M1,))
    assert (await world.store.differences("", 10))[0] == [M1]
    await culprit.end()
    assert (await world.store.rebuild([M1])).replayed == 1
    assert await world.wrong_snapshots() == []


async def test_the_command_tries_held_records_again(world: World, monkeypatch: pytest.MonkeyPatch):
    await two_people(world)
    await drift(world)
    culprit = await culprit_of(world, "m1")
    told: list[str] = []

    def end_culprit_later(line: str) -> None:
        told.append(line)
        ending.append(asyncio.ensure_future(culprit.end()))

    ending: list[asyncio.Future[None]] = []
    monkeypatch.setattr(database_commands, "say", end_culprit_later)
    monkeypatch.setattr(database_commands, "AGAIN_S", 0.05)
    keys, _ = await world.store.differences("", 10)
    assert await database_commands.replayed(world.store, keys) == []
    assert told[0].strip() == "1 records are held by transactions: trying again"
    await asyncio.gather(*ending)
    assert await world.wrong_snapshots() == []


async def test_the_command_leaves_what_stays_held(world: World, monkeypatch: pytest.MonkeyPatch):
    await two_people(world)
    await drift(world)
    culprit = await culprit_of(world, "m1")
    monkeypatch.setattr(database_commands, "HELD_S", 0.0)
    keys, _ = await world.store.differences("", 10)
    assert await database_commands.replayed(world.store, keys) == [M1]
    await culprit.end()


async def test_a_sweep_is_not_over_before_it_had_what_was_held(
    world: World, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(sweep, "USERS_AT_ONCE", 1)
    await two_people(world)
    await drift(world)
    culprit = await culprit_of(world, "m1")
    reconciler = Reconciler(world.store, lambda _folded: None)
    while await asyncio.wait_for(reconciler.step(), 5):
        pass
    assert (reconciler.status()["sweeps"], reconciler.status()["held"]) == (0, 1)
    assert (await world.store.differences("", 10))[0] == [M1]
    assert await world.store.reconciled_to() == "", "a restart compares u1 again"
    assert await world.value("SELECT reconciled_at FROM mana_ai.shards") is None
    await culprit.end()
    assert not await reconciler.step()
    assert (reconciler.status()["sweeps"], reconciler.status()["held"]) == (1, 0)
    assert await world.value("SELECT reconciled_at FROM mana_ai.shards") is not None
    assert await world.wrong_snapshots() == []


async def test_a_sweep_whose_statement_failed_forgets_no_record(
    world: World, monkeypatch: pytest.MonkeyPatch
):
    await two_people(world)
    await drift(world)
    reconciler = Reconciler(world.store, lambda _folded: None)

    async def fails(*_: object) -> Folded:
        raise ConnectionError("gone")

    with monkeypatch.context() as patch:
        patch.setattr(SnapshotStore, "rebuild", fails)
        with pytest.raises(ConnectionError):
            await reconciler.step()
    while await reconciler.step():
        pass
    assert not await reconciler.step()
    assert reconciler.status()["sweeps"] == 1
    assert await world.wrong_snapshots() == []


STATE_OF_THE_RUN = "SELECT state FROM mana_ai.runs WHERE user_id = 'u1'"


async def test_a_run_that_waits_and_is_held_ends_once_it_is_free(
    world: World, monkeypatch: pytest.MonkeyPatch
):
    """The owner pauses; the run's row, then the mission's snapshot, is somebody's just now."""
    monkeypatch.setattr(loop, "HELD_REST_S", 0)
    await two_people(world)
    now = datetime.now(UTC)
    await world.sql(
        "INSERT INTO mana_ai.runs (user_id, agent_id, mission_id, due_at, state, not_before)"
        " VALUES ('u1', $1, 'm1', $2, 'waiting', now() + interval '1 hour')",
        MANA,
        now,
    )
    await (await world.client()).edit(state="paused")
    await fold_all(world.store)
    holder = await world.connect("postgres")
    for rows in ("mana_ai.runs", "mana_ai.mission_snapshots"):
        async with holder.transaction():
            await holder.execute(f"SELECT FROM {rows} WHERE user_id = 'u1' FOR UPDATE")
            await asyncio.wait_for(world.driver.supervision.look(), 5)
            assert await world.value(STATE_OF_THE_RUN) == "waiting"
            assert (await world.snapshot())["wake_at"] is not None
    await world.driver.supervision.look()
    assert await world.value(STATE_OF_THE_RUN) == "withdrawn"
    assert (await world.snapshot())["wake_at"] is None


# --- the due loop ---------------------------------------------------------------------------------


async def holding_call(world: World, mission: str = "m1") -> Culprit:
    """One whose run began a call under every limit there is, and went to lunch within it."""
    culprit = await culprit_of(world)
    run = await culprit.claim(mission)
    await culprit.connection.execute(
        "SELECT * FROM mana_ai.begin_call(NULL, $1, 1, 1, 'hash', 100, 60000)", run
    )
    return culprit


async def test_every_statement_of_the_supervisor_passes_over_what_is_held(world: World):
    """Held are rows of ledger, run, hold and mission, those of u1 and of the installation."""
    await two_people(world)
    await world.sql(
        "INSERT INTO mana_ai.limits (kind, user_id, tokens) VALUES"
        " ('installation', '', 1000000), ('user', 'u1', 1000000)"
    )
    await world.sql(
        "INSERT INTO mana_ai.token_holds"
        " (user_id, agent_id, mission_id, run_id, attempt, round, tokens, opened_at, deadline)"
        " SELECT u, $1, 'm1', gen_random_uuid(), 1, 1, 70, now() - interval '1 hour',"
        " now() - interval '1 minute' FROM unnest(ARRAY['u1', 'u2']) AS u",
        MANA,
    )
    await world.sql(
        "INSERT INTO mana_ai.runs"
        " (user_id, agent_id, mission_id, due_at, state, holder, lease_until)"
        " SELECT u, $1, 'm1', $2, 'open', 'agent-dead', now() + interval '1 hour'"
        " FROM unnest(ARRAY['u1', 'u2']) AS u",
        MANA,
        LONG_AGO,
    )
    schedule, lease = world.driver.schedule, world.store.lease
    due = await schedule.due(lease, 10)
    later = datetime.now(UTC) + timedelta(hours=1)
    looks = [Look(m.user_id, m.mission_id, m.version, later, m.wake_at) for m in due]
    decided = [
        Decided(m.user_id, m.mission_id, MANA, LONG_AGO, "skipped-paused", "paused") for m in due
    ]
    assert len(due) == 2
    holder = await world.connect("postgres")
    async with asyncio.timeout(10), holder.transaction():
        for table in ("runs", "token_holds", "mission_snapshots", "ledger"):
            await holder.execute(f"SELECT FROM mana_ai.{table} WHERE user_id = 'u1' FOR UPDATE")
        await holder.execute("SELECT FROM mana_ai.install FOR UPDATE")
        settled = await schedule.settle(looks, decided)
        assert (settled.noted, settled.held) == (["skipped-paused"], {("u1", "m1")})
        assert await schedule.look_again(looks) == {("u1", "m1")}
        assert await schedule.note_decisions(decided) == []
        assert await schedule.wake_missions("u1", ["m1"]) == {("u1", "m1")}
        assert await schedule.wake_missions("u2", ["m1"]) == set()
        assert not await schedule.wake_blocked("u1", MANA), "nobody waits for a place"
        assert await schedule.wake_ordered(lease, 7200) == set(), "what is due needs no look"
        await holder.execute(
            "UPDATE mana_ai.mission_snapshots SET decision = 'deferred-disk-full',"
            " wake_at = now() + interval '1 hour' WHERE user_id = 'u1'"
        )
        assert await schedule.release_holder("agent-dead") == ([("u2", "m1")], [("u1", "m1")])
        assert await schedule.charge_expired_holds() == 1
        moved = await schedule.move_slot("u1", "m1", LONG_AGO, None, text(later), "{}")
        assert not moved
    assert await schedule.release_holder("agent-dead") == ([("u1", "m1")], [])
    assert await schedule.charge_expired_holds() == 1


async def test_a_changed_limit_is_kept_for_missions_that_are_held(world: World):
    await two_people(world)
    await world.sql(
        "UPDATE mana_ai.mission_snapshots SET decision = 'skipped-budget', wake_at = NULL"
    )
    await world.sql(
        "INSERT INTO mana_ai.budget_wakes (whose, wake_at) VALUES ('u1', now()), ('u2', now())"
    )
    schedule = world.driver.schedule
    holder = await world.connect("postgres")
    async with asyncio.timeout(10), holder.transaction():
        await holder.execute(
            "SELECT FROM mana_ai.mission_snapshots WHERE user_id = 'u1' FOR UPDATE"
        )
        assert await schedule.wake_after_limits() == 1
        wakes = await world.sql("SELECT whose FROM mana_ai.budget_wakes")
        assert [row["whose"] for row in wakes] == ["u1"]
    assert await schedule.wake_after_limits() == 1
    assert await world.value("SELECT count(*) FROM mana_ai.budget_wakes") == 0


async def test_an_open_transaction_after_a_call_began_holds_up_nobody_elses_mission(world: World):
    world.provider.script = [DONE, DONE]
    await two_people(world)
    await world.sql(
        "INSERT INTO mana_ai.limits (kind, user_id, tokens) VALUES ('user', 'u1', 1000000)"
    )
    culprit = await holding_call(world)
    async with world.driver.running():
        await until(lambda: ran(world, "u2"))
        for user in ("u1", "u2"):
            await (await world.client(user)).edit(title="neu")
        await until(lambda: has_title(world, "u2"))
        assert (await titles(world))["u1", "m1"] == "Wochenplan"
        await until(lambda: counts_held(world, 1))
        await culprit.end()
        await until(lambda: has_title(world, "u1"))
        await until(lambda: ran(world, "u1"))
        await until(lambda: is_quiet(world))
    await world.driver.fold_all()
    assert await world.wrong_snapshots() == []


async def counts_held(world: World, count: int) -> bool:
    return world.driver.supervision.status()["held"] == count


async def ran(world: World, user: str) -> bool:
    rows = await world.sql(
        "SELECT FROM mana_ai.runs WHERE user_id = $1 AND state = 'committed'", user
    )
    return bool(rows)


async def has_title(world: World, user: str) -> bool:
    return (await titles(world))[user, "m1"] == "neu"


async def test_missions_that_are_held_do_not_stand_before_the_others(world: World):
    """What was found to be held is left out of the next look, however long it is due."""
    await two_people(world)
    schedule, lease = world.driver.schedule, world.store.lease
    due = await schedule.due(lease, 10, [("u1", "m1")])
    assert [mission.user_id for mission in due] == ["u2"]


async def test_a_held_mission_rests_and_is_looked_at_again(
    world: World, monkeypatch: pytest.MonkeyPatch
):
    clock = Clock()
    monkeypatch.setattr(loop, "time", SimpleNamespace(monotonic=clock))
    await (await world.client()).agent(state="paused")
    await (await world.client()).mission()
    await world.driver.fold_all()
    holder = await world.connect("postgres")
    supervision = world.driver.supervision
    async with holder.transaction():
        await holder.execute("SELECT FROM mana_ai.mission_snapshots FOR UPDATE")
        assert (await supervision.look()).handled == 1
        assert (await supervision.look()).handled == 0, "it rests"
    assert world.driver.decisions == {}
    clock.now_s += loop.HELD_REST_S + 0.01
    assert (await supervision.look()).handled == 1
    assert world.driver.decisions == {"skipped-paused": 1}
    assert (await world.snapshot())["wake_at"] is None


NEXT_LOOK = "UPDATE mana_ai.mission_snapshots SET wake_at = now() + interval '1 hour'"


@asynccontextmanager
async def held_mission(world: World, mission: str) -> AsyncGenerator[None]:
    """Somebody keeps this mission of u1's."""
    holder = await world.connect("postgres")
    async with holder.transaction():
        await holder.execute(
            "SELECT FROM mana_ai.mission_snapshots WHERE user_id = 'u1' AND mission_id = $1"
            " FOR UPDATE",
            mission,
        )
        yield


async def is_due(world: World, mission: str = "m1") -> bool:
    at = (await world.snapshot(mission))["wake_at"]
    return at is not None and at <= datetime.now(UTC)


async def test_what_a_dead_supervisor_ordered_is_looked_at_once_it_is_free(world: World):
    """Its look lies ahead, for as long as the order might have taken."""
    await two_people(world)
    await world.sql("UPDATE mana_ai.mission_snapshots SET wake_at = now() + interval '29 s'")
    async with held_mission(world, "m1"):
        await asyncio.wait_for(world.driver.restart(), 10)
        assert await is_due_of(world, "u2")
        assert not await is_due(world)
    await until(lambda: is_due(world))


async def is_due_of(world: World, user: str) -> bool:
    return (await world.snapshot("m1", user))["wake_at"] <= datetime.now(UTC)


async def test_who_waits_for_a_place_and_is_held_gets_it_once_it_is_free(world: World):
    world.provider.script = [DONE, DONE]
    client = await world.client()
    await client.mission("m1")
    await client.mission("m2")
    await fold_all(world.store)
    await world.sql(NEXT_LOOK)
    await world.sql(
        "UPDATE mana_ai.mission_snapshots SET decision = 'skipped-concurrency'"
        " WHERE mission_id = 'm2'"
    )
    await world.sql("UPDATE mana_ai.mission_snapshots SET wake_at = now() WHERE mission_id = 'm1'")
    async with world.driver.running():
        async with held_mission(world, "m2"):
            await until(lambda: ran(world, "u1"))
            await until(lambda: reported(world, 1))
        await until(lambda: reported(world, 2))
    assert [run["state"] for run in await world.runs("m2")] == ["committed"]


async def reported(world: World, count: int) -> bool:
    return len(world.driver.reports) >= count


async def test_an_order_that_no_process_took_is_given_again_once_its_mission_is_free(
    world: World, monkeypatch: pytest.MonkeyPatch
):
    world.provider.script = [DONE]
    await (await world.client()).mission()
    await fold_all(world.store)
    hand_over, look_again = Ordering._hand_over, ScheduleStore.look_again  # pyright: ignore[reportPrivateUsage]
    lost, held = asyncio.Event(), asyncio.Event()

    async def lost_once(ordering: Ordering, pair: Pair, orders: tuple[Order, ...]) -> None:
        if held.is_set():
            return await hand_over(ordering, pair, orders)
        await stack.enter_async_context(held_mission(world, "m1"))
        lost.set()
        raise ProcessGone("agent-lost")

    async def looked_again(store: ScheduleStore, looks: Sequence[Look]) -> set[MissionKey]:
        found = await look_again(store, looks)
        if found:
            held.set()
        return found

    monkeypatch.setattr(Ordering, "_hand_over", lost_once)
    monkeypatch.setattr(ScheduleStore, "look_again", looked_again)
    async with world.driver.running():
        async with asyncio.timeout(10), AsyncExitStack() as stack:
            await lost.wait()
            await held.wait()
        await until(lambda: ran(world, "u1"))


async def test_what_waited_for_room_and_is_held_is_looked_at_once_it_is_free(world: World):
    world.provider.script = [DONE]
    await (await world.client()).mission()
    await fold_all(world.store)
    await world.sql(NEXT_LOOK)
    await world.sql("UPDATE mana_ai.mission_snapshots SET decision = 'deferred-disk-full'")
    async with held_mission(world, "m1"):
        await world.driver.supervision.look()
        assert not await is_due(world)

    async def looked_and_ran() -> bool:
        await world.driver.supervision.look()
        return await ran(world, "u1")

    await until(looked_and_ran)


async def is_quiet(world: World) -> bool:
    """Nothing is due, ordered or under way."""
    due = await world.driver.schedule.due(world.store.lease, 1)
    return not due and not world.driver.tenure.ordering.count


# --- many at once ---------------------------------------------------------------------------------


async def test_folds_against_commits_settles_and_renewals_never_wait_for_each_other(world: World):
    """Five missions of one agent run and are edited at once, many times; the server finds no
    deadlock, and all the log says is folded."""
    client = await world.client()
    names = [f"m{number}" for number in range(1, 6)]
    await client.agent(MANA, maxConcurrentMissions=2)
    for name in names:
        await client.mission(name)
    deadlocks = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
    before = await world.value(deadlocks)
    world.provider.script = [DONE] * 200
    chance = random.Random(7)
    async with world.driver.running():
        for turn in range(12):
            for name in chance.sample(names, 4):
                slot = datetime.now(UTC) - timedelta(seconds=1)
                await world.open_slot(name, slot=slot)
                await (await world.client()).edit(name, title=f"{turn}")
            await (await world.client()).edit(MANA, table="agents", role=f"{turn}")
            runs = await world.value("SELECT count(*) FROM mana_ai.runs WHERE state = 'committed'")

            async def more_runs(runs: int = runs) -> bool:
                count = "SELECT count(*) FROM mana_ai.runs WHERE state = 'committed'"
                return await world.value(count) > runs

            await until(more_runs, 30)
        await until(lambda: is_quiet(world), 30)
    await world.driver.fold_all()
    await world.sql("SELECT pg_stat_clear_snapshot()")
    assert await world.value(deadlocks) == before
    assert await world.wrong_snapshots() == []
