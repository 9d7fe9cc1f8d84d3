"""A claim is taken on what it was decided by, can be asked again, and brings what a run reads."""

import asyncio
import json
import random
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable
from datetime import datetime
from typing import Any

import pytest
from msgspec.structs import replace

from state.store.agent import AgentStore, Basis, Claim
from state.store.connect import Database as Pool
from tests.integration.hand import MANA, claimed
from tests.integration.support import LONG_AGO, World, open_world
from tests.postgres import SUPERUSER, Database

NOTE = ("notes", "notes", "n1")
OTHER = ("notes", "notes", "n2")
LEASE = "SELECT lease_until FROM mana_ai.runs"


@pytest.fixture
async def world(database: Database) -> AsyncGenerator[World]:
    async with open_world(database) as opened:
        for user in ("u1", "u2"):
            client = await opened.client(user)
            await client.agent()
            await client.mission()
            for _, table, record in (NOTE, OTHER):
                await client.push("insert", record, {"of": user}, app="notes", table=table)
        await opened.driver.fold_all()
        yield opened


async def ask(store: AgentStore, holder: str = "h", **more: Any) -> Claim:
    return await store.claim("m1", LONG_AGO, 60_000, holder, "{}", **more)


def told(claim: Claim) -> tuple[Any, ...]:
    return claim.outcome, claim.run_id, claim.attempt, claim.pinned, claim.record


# --- asked again ----------------------------------------------------------------------------------


async def test_a_claim_whose_reply_was_lost_gets_the_same_answer(world: World):
    store, claim_id = await world.driver.store(MANA), uuid.uuid4()
    first = await ask(store, claim_id=claim_id)
    lease = await world.value(LEASE)
    again = await ask(store, claim_id=claim_id)
    assert told(again) == told(first)
    assert (first.outcome, first.attempt) == ("claimed", 1)
    assert await world.value(LEASE) > lease
    assert (await world.snapshot())["wake_at"] == await world.value(LEASE)
    await world.sql("UPDATE mana_ai.runs SET lease_until = clock_timestamp() - interval '1 second'")
    assert told(await ask(store, claim_id=claim_id)) == told(first)


async def test_what_the_owner_did_since_changes_no_answer_to_the_same_claim(world: World):
    """That is the commit's business: an open run whose holder does not know of it helps nobody."""
    store, claim_id = await world.driver.store(MANA), uuid.uuid4()
    first = await ask(store, claim_id=claim_id)
    await (await world.client()).edit(state="paused")
    await world.driver.fold_all()
    again = await ask(store, claim_id=claim_id, decided_by=first.basis)
    assert (again.outcome, again.attempt) == ("claimed", 1)


@pytest.mark.parametrize("what", ["another holder", "another order", "no order", "another agent"])
async def test_only_the_same_holder_with_the_same_order_is_answered_again(world: World, what: str):
    store, claim_id = await world.driver.store(MANA), uuid.uuid4()
    await ask(store, claim_id=claim_id)
    if what == "another agent":
        theirs = await world.driver.store(("u1", "a2"))
        assert (await ask(theirs, claim_id=claim_id)).outcome == "unwanted"
        return
    if what == "another holder":
        assert (await ask(store, "other", claim_id=claim_id)).outcome == "held"
    else:
        other = None if what == "no order" else uuid.uuid4()
        assert (await ask(store, claim_id=other)).outcome == "held"


async def test_a_claim_that_was_passed_by_is_not_answered_again(world: World):
    store, claim_id = await world.driver.store(MANA), uuid.uuid4()
    await ask(store, claim_id=claim_id)
    await world.sql("UPDATE mana_ai.runs SET lease_until = clock_timestamp() - interval '1 second'")
    assert (await ask(store, "other", claim_id=uuid.uuid4())).attempt == 2
    assert (await ask(store, claim_id=claim_id)).outcome == "held"


async def test_two_processes_of_one_pair_take_it_once(world: World):
    stores = [await world.driver.store(MANA) for _ in range(4)]
    claims = await asyncio.gather(
        *(ask(store, f"h{n}", claim_id=uuid.uuid4()) for n, store in enumerate(stores))
    )
    assert sorted(claim.outcome for claim in claims) == ["claimed", "held", "held", "held"]


# --- decided by -----------------------------------------------------------------------------------


async def basis_of(world: World) -> Basis:
    """What a decision would be made by now."""
    (row,) = await world.sql(
        "SELECT m.version AS mission, a.version AS agent FROM mana_ai.mission_snapshots AS m"
        " JOIN mana_ai.agent_snapshots AS a USING (user_id) WHERE user_id = 'u1'"
    )
    return Basis(row["mission"], row["agent"], "")


async def edited(world: World) -> None:
    await (await world.client()).edit(title="Neu")
    await world.driver.fold_all()


async def agent_edited(world: World) -> None:
    await (await world.client()).edit(MANA[1], table="agents", role="anders")
    await world.driver.fold_all()


async def moved(world: World) -> None:
    await world.sql("INSERT INTO mana_ai.user_settings VALUES ('u1', 'Pacific/Auckland')")


@pytest.mark.parametrize("change", [edited, agent_edited, moved])
async def test_what_was_decided_by_something_older_takes_nothing(world: World, change: Any):
    store, basis = await world.driver.store(MANA), await basis_of(world)
    await change(world)
    found = await ask(store, decided_by=basis)
    assert (found.outcome, found.record) == ("changed", None)
    assert await world.runs() == []
    assert (await ask(store, decided_by=found.basis)).outcome == "claimed"


async def test_what_is_not_known_is_not_compared(world: World):
    assert (await ask(await world.driver.store(MANA))).outcome == "claimed"


async def test_no_record_of_the_agent_is_a_version_too(world: World):
    await (await world.client("u3")).mission()
    await world.driver.fold_all()
    store = await world.driver.store(("u3", MANA[1]))
    claim = await ask(store, decided_by=replace(await basis_of(world), agent_version=5))
    assert claim.outcome == "changed"
    assert claim.agent_version == 0
    assert (await ask(store, decided_by=claim.basis)).outcome == "claimed"


async def test_an_unwanted_mission_stays_unwanted_whatever_the_versions(world: World):
    basis = await basis_of(world)
    await (await world.client()).edit(state="paused")
    await world.driver.fold_all()
    assert (await ask(await world.driver.store(MANA), decided_by=basis)).outcome == "unwanted"


# --- whatever its process believes ----------------------------------------------------------------

AHEAD = LONG_AGO.replace(year=2099)
REQUEST = "INSERT INTO mana_ai.run_requests (user_id, request_key, mission_id, due_at, closed_at)"
RUN = (
    "INSERT INTO mana_ai.runs (user_id, agent_id, mission_id, due_at, state, requested, holder,"
    " lease_until, not_before, cancelled_at)"
)
ASKED = LONG_AGO.replace(day=7)


async def run_is(world: World, state: str, more: str, mission: str = "m1", who: str = "") -> None:
    """A run of the slot in that state; `more` are lease, earliest time, and when cancelled."""
    values = f"($1, $2, $3, $4, $5, false, 'another', {more})"
    await world.sql(f"{RUN} VALUES {values}", "u1", who or MANA[1], mission, LONG_AGO, state)


async def another_mission_runs(world: World, lease: str, who: str = "") -> None:
    await (await world.client()).mission("m2")
    await world.driver.fold_all()
    await run_is(world, "open", f"clock_timestamp() + interval '{lease}', NULL, NULL", "m2", who)


async def asked_for(world: World, closed: str = "NULL") -> None:
    await world.sql(f"{REQUEST} VALUES ('u1', 'k', 'm1', $1, {closed})", ASKED)


async def owner_writes(world: World, **fields: Any) -> None:
    await (await world.client()).edit(**fields)
    await world.driver.fold_all()


async def only_an_update_came(world: World) -> None:
    await world.sql("UPDATE mana_ai.mission_snapshots SET complete = false")


Setting = Callable[[World], Awaitable[Any]]
BELIEFS: dict[str, tuple[Setting, datetime, str]] = {
    "deleted": (lambda w: owner_writes(w, deletedAt="2026-01-01T00:00:00Z"), LONG_AGO, "unwanted"),
    "without an insert": (only_an_update_came, LONG_AGO, "unwanted"),
    "no slot": (lambda w: owner_writes(w, nextRunAt=None), LONG_AGO, "stale"),
    "another slot": (lambda w: owner_writes(w, title="T"), ASKED, "stale"),
    "asked for at another time": (asked_for, LONG_AGO.replace(day=8), "stale"),
    "asked for and closed": (lambda w: asked_for(w, "now()"), ASKED, "stale"),
    "not due yet": (lambda w: owner_writes(w, nextRunAt="2099-01-05T07:00:00Z"), AHEAD, "early"),
    "planned": (lambda w: run_is(w, "committed", "NULL, NULL, NULL"), LONG_AGO, "served"),
    "failed": (lambda w: run_is(w, "failed", "NULL, NULL, NULL"), LONG_AGO, "served"),
    "cancelled": (lambda w: run_is(w, "withdrawn", "NULL, NULL, now()"), LONG_AGO, "served"),
    "held": (lambda w: run_is(w, "open", "'2099-01-05 07:00Z', NULL, NULL"), LONG_AGO, "held"),
    "waits": (
        lambda w: run_is(w, "waiting", "NULL, '2099-01-05 07:00Z', NULL"),
        LONG_AGO,
        "waiting",
    ),
    "no place": (lambda w: another_mission_runs(w, "1 hour"), LONG_AGO, "concurrency"),
    "a lost run's place": (lambda w: another_mission_runs(w, "-1 s"), LONG_AGO, "claimed"),
    "another's place": (lambda w: another_mission_runs(w, "1 hour", "a2"), LONG_AGO, "claimed"),
}


@pytest.mark.one_postgres
@pytest.mark.parametrize("belief", BELIEFS)
async def test_the_rows_have_the_last_word_on_a_claim(world: World, belief: str):
    setting, due_at, outcome = BELIEFS[belief]
    await setting(world)
    store = await world.driver.store(MANA)
    claim = await store.claim("m1", due_at, 60_000, "h", "{}")
    assert claim.outcome == outcome
    if outcome in ("early", "held", "waiting"):
        assert claim.look_at == AHEAD


@pytest.mark.one_postgres
@pytest.mark.parametrize("is_moved", [True, False])
async def test_a_run_under_way_is_finished_first_where_it_is_asked_for_still(
    world: World, is_moved: bool
):
    """Else it ends, and what it was told is forgotten."""
    hand = await claimed(world)
    await hand.store.end_call(await hand.answered())
    await hand.store.wait(hand.closing(), "later", -1, "back-off", failed=False)
    await asked_for(world)
    if is_moved:
        await owner_writes(world, nextRunAt="2026-01-06T07:00:00Z")
    claim = await hand.store.claim("m1", ASKED, 60_000, "h", "{}")
    assert (claim.outcome, claim.due_at) == ("claimed", ASKED if is_moved else LONG_AGO)
    states = [run["state"] for run in await world.runs()]
    assert states == (["withdrawn", "open"] if is_moved else ["open"])
    assert await world.value("SELECT count(*) FROM mana_ai.journal") == (not is_moved)


@pytest.mark.one_postgres
async def test_a_run_that_goes_over_to_another_agent_keeps_nothing_of_its_wait(world: World):
    hand = await claimed(world)
    await hand.store.wait(hand.closing(), "later", -1, "back-off", failed=True)
    await (await world.client()).agent("a2")
    await owner_writes(world, agentId="a2")
    await world.sql("UPDATE mana_ai.runs SET closed_at = now()")
    (before,) = await world.runs()
    await claimed(world, pair=("u1", "a2"), holder="other")
    (run,) = await world.runs()
    assert (run["agent_id"], run["attempt"], run["failures"], run["lost"]) == ("a2", 2, 1, 0)
    waited = ("closed_at", "not_before", "waiting_for", "reason")
    assert [run[name] for name in waited] == [None] * len(waited)
    assert run["claimed_at"] > before["claimed_at"]
    await world.sql("UPDATE mana_ai.runs SET lease_until = now()")
    await claimed(world, pair=("u1", "a2"), holder="third")
    assert (await world.runs())[0]["lost"] == 1


# --- what its process reads before ----------------------------------------------------------------


async def test_deleted_missions_stay_out_of_memory_unless_they_run_or_are_asked_for(world: World):
    client, store = await world.client(), await world.driver.store(MANA)
    for mission in ("gone", "runs"):
        await client.mission(mission)
    await world.driver.fold_all()
    assert (await store.claim("runs", LONG_AGO, 60_000, "h", "{}")).outcome == "claimed"
    for mission in ("runs", "gone"):
        await client.push("delete", mission, {})
        await world.driver.fold_all()
    found = await store.memory()
    asked = await store.memory(["gone"])
    assert set(found.missions) == {"m1", "runs"}
    assert found.missions["runs"].columns.hidden
    assert asked.missions["gone"].columns.hidden
    assert found.forgotten == asked.missions["gone"].version
    assert asked.forgotten == 0


# --- what comes with it ---------------------------------------------------------------------------


async def store_of(world: World, pool: Pool, user: str, *scope: tuple[str, str, str]) -> AgentStore:
    names = ["/".join(name) for name in scope]
    token = await world.driver.schedule.sign_capability(user, MANA[1], [], names, 900)
    return AgentStore(pool, user, MANA[1], lambda: token)


@pytest.fixture
async def pool(world: World) -> AsyncGenerator[Pool]:
    made = Pool(world.access("mana_agent"), max_connections=1)
    yield made
    await made.close()


def contents(claim: Claim) -> list[Any]:
    return [rows and [row.data for row in rows] for rows in claim.inputs]


async def test_record_and_inputs_come_with_the_claim_in_their_order(world: World, pool: Pool):
    store = await store_of(world, pool, "u1", NOTE, OTHER)
    await (await world.client()).push("update", "n1", {"x": 1}, app="notes", table="notes")
    claim = await ask(store, inputs=[OTHER, ("notes", "notes", "gone"), NOTE])
    assert contents(claim) == [[{"of": "u1"}], [], [{"of": "u1"}, {"x": 1}]]
    assert json.loads(claim.record or "")["title"] == "Wochenplan"
    assert claim.basis == await basis_of(world)


async def test_what_the_capability_does_not_list_is_not_read(world: World, pool: Pool):
    """Another mission's input, asked for by this one's claim."""
    store = await store_of(world, pool, "u1", OTHER)
    assert contents(await ask(store, inputs=[NOTE, OTHER])) == [[], [{"of": "u1"}]]


async def test_tenants_alternating_on_one_connection_read_their_own(world: World, pool: Pool):
    stores = [await store_of(world, pool, user, NOTE) for user in ("u1", "u2")]
    for _ in range(3):
        for user, store in zip(("u1", "u2"), stores, strict=True):
            claim = await ask(store, claim_id=uuid.UUID(int=1), inputs=[NOTE])
            assert (claim.outcome, claim.attempt) == ("claimed", 1)
            assert contents(claim) == [[{"of": user}]]


@pytest.mark.parametrize("local", ["true", "false"])
async def test_settings_put_by_the_client_change_nothing(world: World, pool: Pool, local: str):
    store = await store_of(world, pool, "u1", NOTE)
    await (await world.client("u2")).push(
        "insert", "n1", {"shared": 1}, app="notes", table="notes", space="s1"
    )
    planted = (
        f"SELECT set_config('app.current_user_id', 'u2', {local}),"
        f" set_config('app.current_user_space_ids', 's1,s2', {local})"
    )
    statement = (
        "SELECT inputs, current_setting('app.current_user_space_ids') AS spaces FROM mana_ai.claim("
        "$1, NULL, 'm1', $2, 60000, 'h', '{}', NULL, NULL, NULL, $3)"
    )
    capability = store._capability()  # pyright: ignore[reportPrivateUsage]
    async with pool.connection() as connection, connection.transaction():
        await connection.execute(planted)
        asked = json.dumps([NOTE])
        row = await connection.fetchrow(statement, capability, LONG_AGO, asked)
    assert row is not None
    assert [change["data"] for (change,) in json.loads(row["inputs"])] == ['{"of": "u1"}']
    assert row["spaces"] == ""


async def test_what_a_claim_presents_is_gone_with_its_statement(world: World, pool: Pool):
    await ask(await store_of(world, pool, "u1", NOTE))
    row = await pool.fetchrow(
        "SELECT current_setting('app.capability', true) AS capability,"
        " (SELECT count(*) FROM mana_ai.runs) AS runs"
    )
    assert row is not None
    assert (row["capability"] or "", row["runs"]) == ("", 0)


async def test_more_than_64_kib_is_left_for_afterwards(world: World, pool: Pool):
    noise = random.Random(1).randbytes(40_000).hex()
    client = await world.client()
    await client.push("update", "n1", {"noise": noise}, app="notes", table="notes")
    store = await store_of(world, pool, "u1", NOTE, OTHER)
    assert contents(await ask(store, inputs=[NOTE, OTHER])) == [None, [{"of": "u1"}]]


async def test_many_inputs_share_the_64_kib(world: World, pool: Pool):
    client, names = await world.client(), [("notes", "notes", f"n{n}") for n in range(10, 16)]
    for _, table, record in names:
        await client.push("insert", record, {"t": "x" * 20_000}, app="notes", table=table)
    store = await store_of(world, pool, "u1", *names)
    assert [rows is None for rows in (await ask(store, inputs=names)).inputs] == [False] * 3 + [
        True
    ] * 3


async def test_a_large_record_is_left_for_afterwards(world: World, pool: Pool):
    await (await world.client()).edit(conceptMarkdown="x" * 70_000)
    await world.driver.fold_all()
    claim = await ask(await store_of(world, pool, "u1"))
    assert (claim.outcome, claim.record) == ("claimed", None)


async def test_a_claim_that_ran_as_its_owner_would_read_what_it_may_not(world: World, pool: Pool):
    """The policies are what refuses: without them another mission's note comes along."""
    admin = await world.connect(SUPERUSER)
    await admin.execute("ALTER FUNCTION mana_ai.claim SECURITY DEFINER")
    store = await store_of(world, pool, "u1", OTHER)
    assert contents(await ask(store, inputs=[NOTE]))[0] == [{"of": "u1"}]


async def test_every_reply_tells_the_databases_time(world: World):
    hand = await claimed(world)
    (row,) = await world.sql("SELECT clock_timestamp() AS now")
    times = [hand.claim.now, (await hand.store.withdraw(hand.closing(), "why", 1)).now]
    assert times[0] < row["now"] < times[1]
