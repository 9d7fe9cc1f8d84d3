"""What the compaction of the log removes is missed by nobody who reads the rest."""

import asyncio
import json
import os
import sys
import uuid
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from state.log import merge
from state.log.merge import Change, Snapshot
from state.store.connect import Access
from state.store.connect import Database as Connections
from state.store.janitor import Compacted, JanitorStore, TableToCompact
from state.store.own.runs import OwnRuns
from tests.integration.steps import session
from tests.integration.support import World, fold_all, text, until
from tests.postgres import LOG_OWNER, SUPERUSER, Database

KEEP = timedelta(days=30)
OLD = datetime(2026, 3, 1, tzinfo=UTC)
JANITOR = "mana_janitor"
INSERT = """
INSERT INTO public.sync_changes (id, app_id, table_name, record_id, user_id, op, data, field_meta,
                                 client_id, created_at, space_id)
VALUES ($1, $2, $3, $4, $5, $6, $7::jsonb, $8::jsonb, 'c', $9, $10)
"""
ROWS = """
SELECT id, created_at, op, data, field_meta, user_id, space_id FROM public.sync_changes
 WHERE record_id = $1 ORDER BY created_at, id
"""


class Row(msgspec.Struct, frozen=True):
    """A row of a made-up history; `at` and stamps count seconds from `OLD`."""

    user: str
    space: str | None
    op: str
    data: dict[str, Any] | None
    meta: dict[str, Any] | None
    at: int


def stamp(second: int) -> str:
    return text(OLD + timedelta(seconds=second))


ODD_STAMPS: list[Any] = [
    "2026-03-01T00:00:05Z",
    "2026-03-01T02:00:05.000+02:00",
    "9999-99-99T99:99:99.999Z",
    "2026-02-30T00:00:00.000Z",
    "",
    None,
    7,
    {"at": stamp(6), "origin": "user"},
    {"by": "nobody"},
]
plain = st.integers(0, 30).map(stamp)
stamps = st.one_of(plain, plain, plain, plain, st.sampled_from(ODD_STAMPS))
values = st.one_of(st.integers(0, 9), st.none(), st.just("x" * 9000), st.just([[1]]))


@st.composite
def rows(draw: st.DrawFn) -> Row:
    user = draw(st.sampled_from(["u1", "u1", "u2"]))
    space = draw(st.sampled_from([None, "_personal:" + user, "s1", "s1", "s2"]))
    op = draw(st.sampled_from(["update"] * 8 + ["insert", "delete", "hard"]))
    at = draw(st.integers(0, 30))
    if op == "hard":
        return Row(
            user, space, "delete", draw(st.sampled_from([None, {}, {"deletedAt": ""}])), {}, at
        )
    if op == "delete":
        return Row(user, space, op, {"deletedAt": draw(stamps)}, {}, at)
    names = draw(st.sampled_from([["a"], ["a"], ["b"], ["a", "b"], ["deletedAt", "id"], []]))
    data: dict[str, Any] = {name: draw(values) for name in names}
    if op == "insert" and draw(st.booleans()):
        data["createdAt"] = stamp(draw(st.integers(0, 12)))
    guarded = draw(st.sampled_from([[], ["c"]]))  # a stamp without a value
    meta = {name: draw(stamps) for name in [*names, *guarded]}
    if op == "insert" and draw(st.booleans()):
        meta = {}
    return Row(user, space, op, data, draw(st.sampled_from([meta, meta, meta, None])), at)


def changes_of(found: Iterable[asyncpg.Record]) -> list[Change]:
    return [
        merge.read_change(
            str(row["id"]),
            int((row["created_at"] - datetime(1970, 1, 1, tzinfo=UTC)) / timedelta(microseconds=1)),
            row["op"],
            row["data"],
            row["field_meta"],
            user_id=row["user_id"],
        )
        for row in found
    ]


def told(snapshot: Snapshot) -> tuple[Any, ...]:
    """What a reader sees of a record; true and 1 are not the same here."""
    return (
        snapshot.exists,
        snapshot.complete,
        json.dumps(snapshot.fields, sort_keys=True),
        json.dumps(snapshot.stamps, sort_keys=True),
    )


VIEWS = [
    (user, spaces) for user in ("u1", "u2", "u3") for spaces in ([], ["s1"], ["s2"], ["s1", "s2"])
]


def visible(found: Sequence[asyncpg.Record], view: tuple[str, list[str]]) -> list[asyncpg.Record]:
    user, spaces = view
    return [row for row in found if row["user_id"] == user or row["space_id"] in spaces]


class Scene:
    """The janitor, and a session that sees everything."""

    def __init__(self, admin: asyncpg.Connection, janitor: JanitorStore) -> None:
        self.admin, self.janitor = admin, janitor

    async def push(self, record: str, history: Sequence[Row], app: str = "notes") -> None:
        await self.admin.executemany(
            INSERT,
            [
                (
                    uuid.uuid4(),
                    app,
                    "notes" if app == "notes" else "aiMissions",
                    record,
                    row.user,
                    row.op,
                    None if row.data is None else json.dumps(row.data),
                    None if row.meta is None else json.dumps(row.meta),
                    OLD + timedelta(seconds=row.at),
                    row.space,
                )
                for row in history
            ],
        )

    async def rows(self, record: str) -> list[asyncpg.Record]:
        return await self.admin.fetch(ROWS, record)

    async def compact(self, record: str, user: str = "u1", **more: Any) -> Compacted:
        at = TableToCompact(user, more.pop("app", "notes"), more.pop("table", "notes"), [])
        return await self.janitor.compact(at, record, KEEP, **{"removes": True, **more})


@asynccontextmanager
async def janitor_of(database: Database) -> AsyncGenerator[JanitorStore]:
    access = Access(database.dsn(JANITOR), JANITOR, str(database.password_file(JANITOR)))
    store = JanitorStore(Connections(access, max_connections=2))
    yield store
    await store.close()


@pytest.fixture
async def scene(database: Database) -> AsyncGenerator[Scene]:
    async with session(database, SUPERUSER) as admin, janitor_of(database) as janitor:
        yield Scene(admin, janitor)


async def holds(scene: Scene, history: Sequence[Row], first: int) -> None:
    """Compact after so many rows, and again after all: nobody's record is another."""
    record = uuid.uuid4().hex
    await scene.push(record, history[:first])
    for user in ("u1", "u2"):
        await scene.compact(record, user)
    await scene.push(record, history[first:])
    before = await scene.rows(record)
    gone = sum([(await scene.compact(record, user)).rows for user in ("u2", "u1")])
    after = await scene.rows(record)
    assert gone == len(before) - len(after)
    kept = {row["id"] for row in after}
    assert all(row["op"] == "update" for row in before if row["id"] not in kept)
    for view in VIEWS:
        old, new = visible(before, view), visible(after, view)
        whole = told(merge.fold(None, changes_of(old)))
        assert told(merge.fold(None, changes_of(new))) == whole, view
        for cursor in range(len(old)):  # a device that was away since that row
            place = old[cursor]["created_at"], old[cursor]["id"]
            rest = [row for row in new if (row["created_at"], row["id"]) > place]
            seen = merge.fold(None, changes_of(old[: cursor + 1]))
            assert told(merge.fold(seen, changes_of(rest))) == whole, (view, cursor)


def updates(user: str, space: str | None, *written: tuple[int, Any, str]) -> list[Row]:
    """Updates of the field `a`: when, to what, with which stamp."""
    return [Row(user, space, "update", {"a": what}, {"a": at}, n) for n, what, at in written]


def overtaken_by(at: str) -> list[Row]:
    return updates("u1", None, (0, 0, stamp(0)), (1, "kept", stamp(5)), (2, "older", at))


UNSTAMPED_INSERT = Row("u1", "s1", "insert", {"b": 2}, {}, 4)
SEEDED_ANEW = updates("u1", "s1", (3, 1, stamp(9)), (5, 2, stamp(10)))
GUARDED = {
    "a stamp of no day": overtaken_by("2027-02-30T00:00:00.000Z"),
    "a stamp that is none": overtaken_by("tomorrow"),
    "a field without stamp": [
        *updates("u1", None, (0, 0, stamp(0)), (2, 2, stamp(3))),
        Row("u1", None, "update", {"a": 1, "b": "only here"}, {"a": stamp(2)}, 1),
    ],
    "what a space sees": [
        *updates("u1", "s1", (0, 0, stamp(0)), (1, "theirs", stamp(2))),
        *updates("u1", None, (2, 1, stamp(3)), (3, 2, stamp(4))),
    ],
    "what seeds a record": [
        *updates("u1", None, (0, 0, stamp(0)), (2, 1, stamp(1))),
        Row("u1", None, "insert", {"b": 2}, {}, 1),
    ],
    "what seeds it after a hard delete": [
        *updates("u1", "s1", (0, 0, stamp(0))),
        Row("u1", "s1", "delete", {}, {}, 2),
        UNSTAMPED_INSERT,
        *SEEDED_ANEW,
    ],
    "what seeds it after a member's hard delete": [
        *updates("u1", "s1", (0, 0, stamp(0))),
        Row("u2", "s1", "delete", {}, {}, 2),
        UNSTAMPED_INSERT,
        *SEEDED_ANEW,
    ],
}


@pytest.mark.parametrize("name", GUARDED)
async def test_what_somebody_would_miss_stays(scene: Scene, name: str):
    await holds(scene, GUARDED[name], 0)


def test_nobody_misses_what_is_removed(database: Database):
    """For every person, every set of spaces, and every row they may have stopped at."""
    with asyncio.Runner() as runner:
        stack = AsyncExitStack()
        admin = runner.run(stack.enter_async_context(session(database, SUPERUSER)))
        scene = Scene(admin, runner.run(stack.enter_async_context(janitor_of(database))))

        @given(history=st.lists(rows(), min_size=2, max_size=24), first=st.integers(0, 24))
        @settings(
            max_examples=60,
            deadline=None,
            database=None,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
        )
        def check(history: list[Row], first: int) -> None:
            runner.run(holds(scene, history, first))

        try:
            check()
        finally:
            runner.run(stack.aclose())


async def test_a_tie_of_stamps_stays_since_devices_may_take_either_first(scene: Scene):
    await scene.push("r", [Row("u1", None, "insert", {"a": 0}, {}, 0)])
    for second in range(1, 5):
        await scene.push("r", [Row("u1", None, "update", {"a": second}, {"a": stamp(3)}, second)])
    assert await scene.compact("r") == Compacted()
    await scene.push("r", [Row("u1", None, "update", {"a": 9}, {"a": stamp(4)}, 9)])
    assert (await scene.compact("r")).rows == 3, "all but the first, which seeds without stamps"


async def test_what_is_younger_than_it_is_kept_stays_and_removes_nothing(scene: Scene):
    await scene.push(
        "r", [Row("u1", None, "update", {"a": n}, {"a": stamp(n)}, n) for n in range(4)]
    )
    now = int((datetime.now(UTC) - OLD).total_seconds())
    young = [
        Row("u1", None, "update", {"a": n}, {"a": stamp(now + n)}, now - 3600 - n) for n in range(3)
    ]
    await scene.push("r", young)
    assert (await scene.compact("r")).rows == 2, "the last old one stays: a young one stands alone"
    at = TableToCompact("u1", "notes", "notes", [])
    assert (await scene.janitor.compact(at, "r", timedelta(0), removes=True)).rows == 0
    assert len(await scene.rows("r")) == 5


async def test_row_security_keeps_what_no_compaction_may_remove(scene: Scene):
    now = int((datetime.now(UTC) - OLD).total_seconds())
    history = [
        Row("u1", None, "insert", {"a": 0}, {}, 0),
        Row("u1", None, "delete", {}, {}, 1),
        Row("u1", None, "update", {"a": 1}, {"a": stamp(1)}, 2),
        Row("u1", None, "update", {"a": 1}, {"a": stamp(1)}, now - 60),
    ]
    await scene.push("r", history)
    async with scene.admin.transaction():
        await scene.admin.execute("SET LOCAL ROLE mana_compactor")
        await scene.admin.execute("SELECT set_config('app.current_user_id', 'u1', true)")
        await scene.admin.execute("DELETE FROM public.sync_changes")
    assert [row["op"] for row in await scene.rows("r")] == ["insert", "delete", "update"]
    assert (await scene.rows("r"))[-1]["created_at"] > datetime.now(UTC) - timedelta(hours=1)


@pytest.mark.parametrize("role", ["mana_gateway", "mana_agent", "mana_supervisor", "mana_issuer"])
async def test_nobody_else_removes_a_row(database: Database, scene: Scene, role: str):
    await scene.push("r", [Row("u1", None, "update", {"a": 1}, {"a": stamp(1)}, 2)])
    async with session(database, role) as other:
        await other.execute("SELECT set_config('app.current_user_id', 'u1', false)")
        for attempt in (
            "DELETE FROM public.sync_changes",
            "DELETE FROM mana_ai.compactor_log",
            "DELETE FROM mana_ai.log_rows",
            "SELECT mana_ai.compact_record('u1', 'n', 'n', 'r', '9 d', now(), NULL, true)",
        ):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await other.execute(attempt)
    async with session(database, JANITOR) as janitor:
        for attempt in ("DELETE FROM public.sync_changes", "SELECT FROM mana_ai.compactor_log"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await janitor.execute(attempt)


async def test_what_is_odd_neither_goes_nor_overtakes(scene: Scene):
    """A row that readers skip must not take the place of one that they read."""
    deep: Any = 1
    for _ in range(200):
        deep = [deep]
    for name, odd in {"deep": deep, "long": "1" * 400, "huge": 10**320}.items():
        history = [Row("u1", None, "update", {"a": 0}, {"a": stamp(0)}, 0)]
        history += [Row("u1", None, "update", {"a": 1}, {"a": stamp(1)}, 1)]
        history += [Row("u1", None, "update", {"a": odd}, {"a": stamp(2)}, 2)]
        await scene.push(name, history)
        assert await scene.compact(name) == Compacted(), name


async def test_what_is_removed_is_not_late_any_more(scene: Scene):
    update = [Row("u1", None, "update", {"a": n}, {"a": stamp(n)}, n) for n in range(1, 5)]
    await scene.push("r", [Row("u1", None, "insert", {"a": 0}, {"a": stamp(0)}, 0), *update])
    await scene.admin.execute(
        "INSERT INTO mana_ai.sync_late SELECT f, now(), id FROM public.sync_changes,"
        " unnest(ARRAY['user:u1', 'space:s1']) AS f"
    )
    done = await scene.compact("r")
    assert done.rows == 2
    late = await scene.admin.fetch("SELECT DISTINCT change_id AS id FROM mana_ai.sync_late")
    assert {row["id"] for row in late} == {row["id"] for row in await scene.rows("r")}


async def test_a_long_record_is_worked_through_in_steps(scene: Scene):
    history = [Row("u1", None, "insert", {"a": 0, "b": 0}, {}, 0)]
    history += [
        Row("u1", None, "update", {name: n}, {name: stamp(n % 86_000)}, n)
        for n in range(1, 700)
        for name in ("ab"[n % 2],)
    ]
    await scene.push("r", history)
    whole = told(merge.fold(None, changes_of(await scene.rows("r"))))
    counted = await scene.compact("r", removes=False)
    assert len(await scene.rows("r")) == 700
    assert counted.rows > 650
    assert (await scene.compact("r")).rows == 696
    assert told(merge.fold(None, changes_of(await scene.rows("r")))) == whole
    assert await scene.compact("r") == Compacted()


# --- missions, which are folded -------------------------------------------------------------------


def iteration(number: int, status: str) -> dict[str, Any]:
    return {"id": f"i{number}", "startedAt": stamp(number), "source": "server", "plan": [],
            "overallStatus": status}  # fmt: skip


async def mission_with_runs(world: World, runs: int, kept: int) -> None:
    """Runs of months ago, each answered after the next one began; the array keeps the newest."""
    client = await world.client()
    await client.push("insert", "m1", {"id": "m1", "title": "T", "iterations": []}, at=OLD)
    for number in range(1, runs):
        planned = [iteration(n, "approved") for n in range(max(1, number - kept), number - 1)]
        planned += [iteration(n, "awaiting-review") for n in (number - 1, number) if n > 0]
        meta = {"iterations": stamp(number), "state": stamp(number)}
        fields = {"iterations": planned, "state": "paused"}
        await client.push("update", "m1", fields, meta=meta, at=OLD + timedelta(seconds=number))
    await fold_all(world.store)


async def iterations_of(world: World) -> list[dict[str, Any]]:
    """All that the owner's API tells, page by page."""
    connections = Connections(world.access("mana_gateway"), max_connections=1)
    runs = OwnRuns(connections)
    found: list[dict[str, Any]] = []
    page = await runs.iterations("u1", "m1", 7)
    while page is not None and page[1] is not None:
        found += [each.iteration for each in page[0]]
        page = await runs.iterations("u1", "m1", 7, page[1])
    await connections.close()
    return found


async def compact_mission(world: World, **more: Any) -> Compacted:
    at = TableToCompact("u1", "ai", "aiMissions", ["m1"])
    async with janitor_of(world.database) as janitor:
        return await janitor.compact(at, "m1", KEEP, **{"removes": True, **more})


async def test_a_mission_keeps_its_snapshot_and_every_iteration_that_is_told(world: World):
    await mission_with_runs(world, 150, kept=20)
    before, snapshot = await iterations_of(world), await world.snapshot()
    assert len(before) == 149
    done = await compact_mission(world)
    assert done.rows > 120
    assert await iterations_of(world) == before
    after = await world.snapshot()
    changed = {name for name in after if after[name] != snapshot[name]}
    assert changed == {"folded_count", "folded_digest"}
    assert await world.wrong_snapshots() == []
    await (await world.client()).edit("m1", title="danach")
    await fold_all(world.store)
    assert await world.wrong_snapshots() == []
    assert (await compact_mission(world)).rows == 0


async def test_a_mission_whose_snapshot_lags_or_is_held_is_passed_over(world: World):
    await mission_with_runs(world, 12, kept=5)
    await (await world.client()).edit("m1", title="noch nicht gefaltet")
    assert await compact_mission(world) == Compacted("unfolded")
    await fold_all(world.store)
    await world.sql("UPDATE mana_ai.mission_snapshots SET folded_count = folded_count + 1")
    assert await compact_mission(world) == Compacted("unfolded")
    await world.sql("UPDATE mana_ai.mission_snapshots SET folded_count = folded_count - 1")
    await world.sql("UPDATE mana_ai.mission_snapshots SET heal = true")
    assert await compact_mission(world) == Compacted("held"), "the log has what is to be put back"
    await world.sql("UPDATE mana_ai.mission_snapshots SET heal = false")
    async with session(world.database, SUPERUSER) as other, other.transaction():
        await other.execute("SELECT FROM mana_ai.mission_snapshots FOR UPDATE")
        assert await compact_mission(world) == Compacted("held"), "nobody is waited for"
    assert (await compact_mission(world)).rows > 0


async def test_a_members_rows_are_counted_in_the_owners_snapshot(world: World):
    owner, member = await world.client("u1"), await world.client("u2")
    await owner.mission("m1", space="s1")
    for second in range(1, 9):
        meta = {"title": stamp(second)}
        at = OLD + timedelta(days=1, seconds=second)
        await member.push("update", "m1", {"title": str(second)}, meta=meta, space="s1", at=at)
    await world.sql("UPDATE public.sync_changes SET created_at = $1 WHERE op = 'insert'", OLD)
    await fold_all(world.store)
    at = TableToCompact("u2", "ai", "aiMissions", [])
    async with janitor_of(world.database) as janitor:
        assert (await janitor.compact(at, "m1", KEEP, removes=True)).rows == 6
    assert await world.wrong_snapshots() == []
    assert (await world.record())["title"] == "8"


async def few_are_left(world: World) -> bool:
    return await world.value("SELECT count(*) FROM public.sync_changes") < 6 * 60 / 4


async def test_compactions_pushes_and_folds_at_once_lose_nothing(world: World):
    client = await world.client()
    for mission in range(6):
        await client.push("insert", f"m{mission}", {"id": f"m{mission}"}, at=OLD)
        for second in range(60):
            at = OLD + timedelta(seconds=second)
            meta = {"title": stamp(second)}
            await client.push("update", f"m{mission}", {"title": second}, meta=meta, at=at)
    is_over = asyncio.Event()

    async def compacting() -> int:
        rows = 0
        async with janitor_of(world.database) as janitor:
            while not is_over.is_set():
                async for table in janitor.tables_to_compact(KEEP):
                    for record in table.records:
                        rows += (await janitor.compact(table, record, KEEP, removes=True)).rows
        return rows

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(compacting()) for _ in range(2)]
        for round_ in range(30):
            late = OLD + timedelta(hours=1, seconds=round_)
            meta = {"objective": stamp(round_)}
            await client.push("update", f"m{round_ % 6}", {"objective": round_}, meta=meta, at=late)
            await world.store.fold(limit=7)
        await fold_all(world.store)
        await until(lambda: few_are_left(world))
        is_over.set()
    await fold_all(world.store)  # what was set aside while a compaction held its snapshot
    assert sum(task.result() for task in tasks) > 300
    assert await world.wrong_snapshots() == []
    assert {(await world.record(f"m{n}"))["title"] for n in range(6)} == {59}


# --- as operators run it --------------------------------------------------------------------------


STOPS_HALFWAY = """
CREATE FUNCTION public.halfway() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN
  IF (SELECT count(*) FROM public.sync_changes) < 1200 THEN
    PERFORM pg_advisory_xact_lock(4711);
  END IF;
  RETURN NULL;
END $$;
CREATE TRIGGER halfway AFTER DELETE ON public.sync_changes EXECUTE FUNCTION public.halfway();
"""
WAITS = "SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted)"
ALL_GONE = (
    "SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database()"
    f" AND usename = '{JANITOR}' AND xact_start IS NOT NULL)"
)
"""Else the record that the killed one was at is passed over as held."""


async def test_the_command_counts_removes_and_goes_on_after_a_kill(database: Database):
    async with session(database, SUPERUSER) as admin, janitor_of(database) as janitor:
        scene = Scene(admin, janitor)
        for record in range(40):
            await scene.push(
                f"r{record}", updates("u1", None, *((n, n, stamp(n)) for n in range(60)))
            )
        count = "SELECT count(*) FROM public.sync_changes"
        said = json.loads(await mana_log_compact(database, "--dry-run", "--json"))
        assert (said["rows"], said["compacted"]) == (40 * 58, 40)
        assert await admin.fetchval(count) == 2400
        await admin.execute(STOPS_HALFWAY)
        await admin.execute("SELECT pg_advisory_lock(4711)")
        process = await started(database)
        await until(lambda: admin.fetchval(WAITS), 60)
        process.kill()
        await process.wait()
        assert 80 < await admin.fetchval(count) < 2400, "killed halfway"
        await admin.execute("SELECT pg_advisory_unlock(4711)")
        await until(lambda: admin.fetchval(ALL_GONE), 60)
        assert "removed" in await mana_log_compact(database)
        assert await admin.fetchval(count) == 80
        for record in range(40):
            found = merge.fold(None, changes_of(await scene.rows(f"r{record}")))
            assert found.fields == {"a": 59}


async def started(database: Database, *options: str) -> asyncio.subprocess.Process:
    env = {**os.environ, "MANA_SECRETS_DIR": str(database.secrets_dir)}
    command = ("-c", "from mana_actors.command import main; main()", "log", "compact", *options)
    url = ("--database-url", database.dsn(LOG_OWNER))
    pipe = asyncio.subprocess.PIPE
    return await asyncio.create_subprocess_exec(
        sys.executable, *command, *url, env=env, stdout=pipe, stderr=pipe
    )


async def mana_log_compact(database: Database, *options: str) -> str:
    process = await started(database, *options)
    out, err = await process.communicate()
    assert process.returncode == 0, err
    return out.decode()
