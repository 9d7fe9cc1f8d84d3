"""A plan is written only on what it was decided by, whoever wrote into the record since."""

import asyncio
import time
from collections.abc import AsyncGenerator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from msgspec.structs import replace

from mana_actors.messages import Order
from state.log import merge
from state.log.stamps import parse_instant
from tests.integration.hand import MANA, Hand, claimed
from tests.integration.support import DONE, Client, World, open_world, text, until
from tests.postgres import SUPERUSER, Database

SPACE = "s1"
CHANGES: dict[str, dict[str, Any]] = {
    "edit": {"title": "Neu"},
    "pause": {"state": "paused"},
    "move": {"nextRunAt": "2099-01-01T07:00:00.000Z"},
    "give away": {"agentId": "a2"},
    "delete": {"deletedAt": "2026-11-01T00:00:00.000Z"},
}


@pytest.fixture
async def world(database: Database) -> AsyncGenerator[World]:
    """Two people's missions of one name: u1's is shared, and u2 is a member of that space."""
    async with open_world(database) as opened:
        client = await opened.client()
        await client.agent()
        await client.mission(space=SPACE)
        await (await opened.client("u3")).mission()
        await opened.driver.fold_all()
        yield opened


async def write(client: Client, **fields: Any) -> None:
    """A change of the shared mission by whoever it is."""
    meta = dict.fromkeys(fields, text(datetime.now(UTC)))
    await client.push("update", "m1", fields, meta=meta, space=SPACE)


@pytest.mark.parametrize("folded", [False, True])
@pytest.mark.parametrize("author", ["u1", "u2"])
@pytest.mark.parametrize("change", CHANGES)
async def test_a_change_since_the_claim_is_told_and_nothing_is_written(
    world: World, change: str, author: str, folded: bool
):
    hand = await claimed(world)
    await write(await world.client(author), **CHANGES[change])
    if folded:
        await world.driver.fold_all()
    newer = await hand.changed()
    assert CHANGES[change].items() <= newer.snapshot.fields.items()
    assert merge.hidden(newer.snapshot) == (change == "delete")
    assert [run["state"] for run in await world.runs()] == ["open"]
    assert await world.written() == []
    # What is merged already is no reason to refuse, though it waits to be folded still.
    assert bool(newer.basis.merged) == (not folded)
    assert (await hand.commit(newer.basis)).outcome == "done"
    assert len(await world.written()) == 1
    await world.driver.fold_all()
    assert await world.wrong_snapshots() == []


async def test_a_hard_delete_is_told(world: World):
    hand = await claimed(world)
    await (await world.client()).push("delete", "m1", {}, space=SPACE)
    assert not (await hand.changed()).snapshot.exists


async def test_a_row_more_than_was_merged_is_told_again(world: World):
    hand = await claimed(world)
    owner, member = await world.client(), await world.client("u2")
    await write(owner, title="A")
    newer = await hand.changed()
    await write(member, title="B")
    again = await hand.commit(newer.basis)
    assert again.newer is not None
    assert again.newer.snapshot.fields["title"] == "B"
    assert len(again.newer.basis.merged) == 2
    assert (await hand.commit(again.newer.basis)).outcome == "done"


async def test_a_fold_of_what_was_merged_is_told_again(world: World):
    hand = await claimed(world)
    await write(await world.client(), title="A")
    newer = await hand.changed()
    await world.driver.fold_all()
    again = await hand.commit(newer.basis)
    assert again.newer is not None
    assert again.newer.basis.merged == ()
    assert (await hand.commit(again.newer.basis)).outcome == "done"


@pytest.mark.parametrize("folded", [False, True])
async def test_what_others_call_by_the_same_name_is_nobody_elses_business(
    world: World, folded: bool
):
    """Neither another person's mission of that id, nor a row of another space, nor an insert."""
    hand = await claimed(world)
    await (await world.client("u3")).edit(state="paused")
    stranger = await world.client("u4")
    await stranger.push("update", "m1", {"state": "paused"}, space="s2")
    await stranger.push("insert", "m1", {"state": "paused"}, space=SPACE)
    await stranger.push("update", "m1", {"state": "paused"}, space=SPACE)
    if folded:
        await world.driver.fold_all()
    assert (await hand.commit()).outcome == "done"


@pytest.mark.parametrize("folded", [False, True])
@pytest.mark.parametrize("change", [{"state": "paused"}, {"deletedAt": "2026-11-01T00:00:00.000Z"}])
async def test_a_change_of_the_agent_is_told(world: World, change: dict[str, Any], folded: bool):
    hand = await claimed(world)
    await (await world.client()).edit(MANA[1], table="agents", **change)
    if folded:
        await world.driver.fold_all()
    newer = await hand.changed()
    assert newer.agent is not None
    assert (newer.agent["state"], newer.agent["hidden"]) == (
        change.get("state", "active"),
        "deletedAt" in change,
    )
    assert (await hand.commit(newer.basis)).outcome == "done"


async def test_an_agent_that_comes_into_being_is_told(world: World):
    hand = await claimed(world, pair=("u3", MANA[1]))
    assert hand.basis.agent_version == 0
    await (await world.client("u3")).agent()
    newer = await hand.changed()
    assert newer.agent is not None
    assert newer.agent["state"] == "active"


async def test_another_zone_is_told(world: World):
    hand = await claimed(world)
    await world.sql("INSERT INTO mana_ai.user_settings VALUES ('u1', 'Pacific/Auckland')")
    newer = await hand.changed()
    assert newer.time_zone == "Pacific/Auckland"
    assert (await hand.commit(newer.basis)).outcome == "done"


async def test_a_plan_sealed_for_another_key_is_told(world: World):
    hand = await claimed(world)
    sealed_for = replace(hand.basis, owner_key="")
    await world.sql(
        "INSERT INTO mana_ai.owner_keys (user_id, key_id, public_key)"
        " VALUES ('u1', 'k', sha256(''))"
    )
    assert (await hand.commit(sealed_for)).outcome == "changed"
    assert (await hand.commit(replace(hand.basis, owner_key="k"))).outcome == "done"


@pytest.mark.parametrize("left_out", ["mission_version", "agent_version", "time_zone", "merged"])
async def test_what_a_basis_does_not_say_does_not_fit(world: World, left_out: str):
    hand = await claimed(world)
    await write(await world.client(), title="A")
    basis = (await hand.changed()).basis
    whole = {field: getattr(basis, field) for field in basis.__struct_fields__}
    assert whole.pop("owner_key") is not None
    del whole[left_out]
    assert (await hand.commit(whole)).outcome == "changed"  # type: ignore[arg-type]


# --- the stamp ------------------------------------------------------------------------------------


async def test_the_stamp_is_the_databases_clock(world: World):
    hand = await claimed(world)
    (before,) = await world.sql("SELECT clock_timestamp() AS at")
    await hand.commit()
    (row,) = await world.written()
    assert set(row["field_meta"]) == {"iterations", "nextRunAt"}
    for stamp in row["field_meta"].values():
        assert len(stamp) == len("2026-04-27T05:00:41.120Z")
        at = datetime.fromisoformat(stamp)
        assert before["at"] <= at < before["at"] + timedelta(seconds=30)


async def test_a_stamp_is_never_below_its_floor(world: World):
    hand = await claimed(world)
    ahead = "2098-01-01T00:00:00.001Z"
    await hand.commit(plan=hand.plan(floor=ahead))
    (row,) = await world.written()
    assert set(row["field_meta"].values()) == {ahead}


@pytest.mark.parametrize("hours", [-1, 1])
async def test_a_process_whose_clock_is_an_hour_off_beats_no_edit(
    world: World, hours: int, monkeypatch: pytest.MonkeyPatch
):
    """It has the time from the database's replies: its own is asked for nothing that is written."""
    right = time.time
    monkeypatch.setattr(time, "time", lambda: right() + hours * 3600)
    assert (await world.run()).outcome == "ran"
    (row,) = await world.written()
    now = datetime.now(UTC)
    for stamp in row["field_meta"].values():
        assert abs(datetime.fromisoformat(stamp) - now) < timedelta(minutes=5)
    (iteration,) = row["data"]["iterations"]
    assert abs(datetime.fromisoformat(iteration["startedAt"]) - now) < timedelta(minutes=5)


# --- beside a real run ----------------------------------------------------------------------------


async def test_an_owner_who_edits_all_the_time_costs_a_bounded_number_of_tries(world: World):
    """Every 20 ms, from before the answer to the end: planned, or put off with its answer kept."""
    world.provider.script = [DONE]
    world.provider.hold()
    running = asyncio.create_task((await world.driver.runner(MANA)).run(Order("m1", 0)))
    await asyncio.to_thread(world.provider.wait_for_requests, 1)
    client, number = await world.client(), 0
    while not running.done():
        number += 1
        await write(client, title=f"T{number}")
        world.provider.release()
        await asyncio.sleep(0.02)
    report = await running
    assert report.outcome in ("ran", "waiting")
    await world.driver.fold_all()
    assert (await world.record())["title"] == f"T{number}"
    while report.outcome == "waiting":  # nobody edits now, and the answer is in the journal
        await world.sql("UPDATE mana_ai.runs SET not_before = now()")
        report = await world.run()
    assert report.outcome == "ran"
    await world.driver.fold_all()
    assert await world.wrong_snapshots() == []
    assert await world.spent() == [50]


@pytest.mark.parametrize("author", ["u1", "u2"])
async def test_a_pause_during_a_plan_withdraws_it_whoever_paused(world: World, author: str):
    world.provider.hold()
    running = asyncio.create_task((await world.driver.runner(MANA)).run(Order("m1", 0)))
    await asyncio.to_thread(world.provider.wait_for_requests, 1)
    await write(await world.client(author), state="paused")
    world.provider.release()
    report = await running
    assert (report.outcome, report.reason) == ("withdrawn", "the mission is paused")
    assert await world.written() == []
    assert len(await world.spent()) == 1


# --- switched off ---------------------------------------------------------------------------------

SEES_OWN_ROWS = """
CREATE OR REPLACE FUNCTION mana_ai.unfolded_rows(p_user text, p_table text, p_record text)
RETURNS SETOF mana_ai.router_log
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
  SELECT c.* FROM mana_ai.change_feed AS f JOIN mana_ai.router_log AS c ON c.id = f.change_id
   WHERE f.record_id = p_record AND f.table_name = p_table AND f.user_id = p_user;
END"""
COMPARES_NOTHING = """
CREATE OR REPLACE FUNCTION mana_ai.is_as_decided(p_user text, p_mission text, p_agent text,
  p_basis jsonb) RETURNS boolean LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
RETURN true"""


@pytest.mark.parametrize(("author", "guard"), [("u2", SEES_OWN_ROWS), ("u1", COMPARES_NOTHING)])
async def test_without_the_comparison_a_paused_mission_is_planned(
    world: World, author: str, guard: str
):
    hand = await claimed(world)
    await (await world.connect(SUPERUSER)).execute(guard)
    await write(await world.client(author), state="paused")
    assert (await hand.commit()).outcome == "done"


async def test_the_snapshot_stays_as_compared_until_the_plan_is_written(world: World):
    """A fold passes the record over while the statement that compares and writes is at it."""
    hand = await claimed(world)
    holding = await world.connect(SUPERUSER)
    await holding.execute("BEGIN; LOCK mana_ai.journal IN SHARE MODE")
    committing = asyncio.create_task(hand.commit())
    waits = (
        "SELECT count(*) = 1 FROM pg_stat_activity WHERE usename = 'mana_agent'"
        " AND wait_event_type = 'Lock' AND datname = current_database()"
    )
    await until(lambda: world.value(waits))
    await write(await world.client(), title="Neu")
    version = "SELECT version FROM mana_ai.mission_snapshots WHERE user_id = 'u1'"
    before = await world.value(version)
    await world.driver.snapshots.fold()
    assert await world.value(version) == before
    await holding.execute("ROLLBACK")
    assert (await committing).outcome == "done"
    await world.driver.fold_all()
    assert (await world.record())["title"] == "Neu"
    assert parse_instant((await world.written())[0]["field_meta"]["iterations"])


async def test_two_processes_of_one_pair_commit_one_plan(world: World):
    hand = await claimed(world)
    await world.sql("UPDATE mana_ai.runs SET lease_until = clock_timestamp() - interval '1 second'")
    other: Hand = await claimed(world, holder="other")
    outcomes = await asyncio.gather(hand.commit(), other.commit())
    assert sorted(ended.outcome for ended in outcomes) == ["done", "superseded"]
    assert len(await world.written()) == 1
