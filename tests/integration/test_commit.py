"""Plan, next run and run state land together or not at all, beside whatever the owner does (P2)."""

import asyncio
import re
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from mana_actors.messages import Order, Report
from state.log.cadence import Daily, next_run
from state.log.stamps import parse_instant
from state.store.connect import Database as Connections
from state.store.connect import Unavailable
from tests.integration.support import (
    DONE,
    LONG_AGO,
    PLAN,
    Client,
    Json,
    World,
    occurrence,
    text,
    until,
)
from tests.postgres import SUPERUSER

MANA = ("u1", "legacy:ai-default")
LATER = "2099-01-01T07:00:00.000Z"
WAITS = (
    "SELECT pid FROM pg_stat_activity WHERE usename = 'mana_agent' AND wait_event_type = 'Lock'"
    " AND query LIKE '%commit_run%' AND datname = current_database()"
)
WAITING = f"SELECT count(*) > 0 FROM ({WAITS}) AS waits"


async def meanwhile(world: World, happening: Callable[[Client], Awaitable[Any]]) -> Report:
    """A run during whose model call something happens, folded or not."""
    await world.driver.fold_all()
    world.provider.hold()
    running = asyncio.create_task((await world.driver.runner(MANA)).run(Order("m1", 0)))
    await asyncio.to_thread(world.provider.wait_for_requests, 1)
    await happening(await world.client())
    world.provider.release()
    return await running


async def folded_record(world: World) -> Json:
    await world.driver.fold_all()
    assert await world.wrong_snapshots() == []
    return await world.record()


# --- the row --------------------------------------------------------------------------------------


async def test_the_row_is_what_the_sync_service_would_hand_out(world: World):
    world.provider.script = [PLAN, DONE]
    client = await world.client()
    await client.agent("a1", name="Cashflow Watcher")
    await client.mission(agentId="a1", space="_personal:u1")
    await world.driver.fold_all()
    await world.run(pair=("u1", "a1"))
    (row,) = await world.written()
    id_ = occurrence(LONG_AGO)
    stamp = row["field_meta"]["iterations"]
    (iteration,) = row["data"].pop("iterations")
    following = next_run(Daily(7, 0), row["created_at"], ZoneInfo("Europe/Berlin"))
    assert following is not None
    assert row["data"] == {"nextRunAt": text(following)}
    assert iteration.pop("startedAt") == iteration.pop("finishedAt")
    assert iteration == {
        "id": id_,
        "plan": [
            {
                "id": f"{id_}-0",
                "summary": "create_task",
                "intent": {
                    "kind": "toolCall",
                    "toolName": "create_task",
                    "params": {"title": "Einkaufen"},
                },
                "status": "planned",
            }
        ],
        "summary": "Ein Task vorgeschlagen.",
        "overallStatus": "awaiting-review",
        "source": "server",
    }
    assert row["field_meta"] == {"iterations": stamp, "nextRunAt": stamp}
    assert stamp.endswith("Z")
    assert len(stamp) == len("2026-04-27T05:00:41.120Z")
    assert row["actor"] == {
        "kind": "ai",
        "principalId": "a1",
        "displayName": "Cashflow Watcher",
        "missionId": "m1",
        "iterationId": id_,
        "rationale": "Plane die Woche",
    }
    fixed = ("app_id", "table_name", "op", "client_id", "schema_version", "origin", "space_id")
    assert [row[column] for column in fixed] == [
        "ai",
        "aiMissions",
        "update",
        "mana-ai-runner",
        1,
        "agent",
        "_personal:u1",
    ]


async def test_the_space_is_the_rows_though_the_record_lacks_it(world: World):
    await (await world.client()).push(
        "insert",
        "m1",
        {
            "title": "x",
            "state": "active",
            "nextRunAt": text(LONG_AGO),
            "cadence": {"kind": "manual"},
        },
        space="s1",
    )
    await world.driver.fold_all()
    await world.run()
    assert [row["space_id"] for row in await world.written()] == ["s1"]


async def test_the_owners_zone_says_when_it_runs_next(world: World):
    await world.sql("INSERT INTO mana_ai.user_settings VALUES ('u1', 'Pacific/Auckland')")
    await (await world.client()).mission()
    await world.driver.fold_all()
    await world.run()
    (row,) = await world.written()
    following = next_run(Daily(7, 0), row["created_at"], ZoneInfo("Pacific/Auckland"))
    assert following is not None
    assert row["data"]["nextRunAt"] == text(following)


async def test_the_slot_after_an_interval_is_the_text_that_its_owner_reads(world: World):
    await (await world.client()).mission(cadence={"kind": "interval", "everyMinutes": 60})
    await world.driver.fold_all()
    assert (await world.run()).outcome == "ran"
    waits_for = (await world.snapshot())["wake_at"]
    record = await folded_record(world)
    assert re.fullmatch(r".{19}\.[0-9]{3}Z", record["nextRunAt"])
    slot = (await world.snapshot())["next_run_at"]
    assert record["nextRunAt"] == text(slot)
    assert waits_for == slot  # as the commit set it, before any fold


@pytest.mark.parametrize("ahead", [timedelta(0), timedelta(hours=1)])
async def test_our_stamps_win_against_any_clock(world: World, ahead: timedelta):
    client = await world.client()
    await client.mission()
    stamp = datetime.now(UTC) + ahead
    await client.edit(iterations=[], nextRunAt=text(LONG_AGO), stamp=stamp)
    await world.driver.fold_all()
    assert (await world.run()).outcome == "ran"
    (row,) = await world.written()
    for field in ("iterations", "nextRunAt"):
        assert (parse_instant(row["field_meta"][field]) or 0) > (parse_instant(text(stamp)) or 0)
    record = await folded_record(world)
    assert [i["id"] for i in record["iterations"]] == [occurrence(LONG_AGO)]
    assert record["nextRunAt"] > text(datetime.now(UTC))


# --- the owner does something meanwhile -----------------------------------------------------


@pytest.mark.parametrize("folded", [True, False])
async def test_an_edit_during_a_plan_and_the_plan_both_survive(world: World, folded: bool):
    await (await world.client()).mission()

    async def edited(client: Client) -> None:
        await client.edit(title="Neu", cadence={"kind": "interval", "everyMinutes": 60})
        if folded:
            await world.driver.fold_all()

    assert (await meanwhile(world, edited)).outcome == "ran"
    record = await folded_record(world)
    assert record["title"] == "Neu"
    assert len(record["iterations"]) == 1
    next_hour = datetime.now(UTC) + timedelta(minutes=60)
    assert text(next_hour - timedelta(minutes=1)) < record["nextRunAt"] <= text(next_hour)


@pytest.mark.parametrize("folded", [True, False])
async def test_iterations_written_during_a_plan_are_kept_beside_it(world: World, folded: bool):
    await (await world.client()).mission(iterations=[{"id": "old", "plan": []}])

    async def rewritten(client: Client) -> None:
        await client.edit(
            iterations=[{"id": "old", "plan": [], "userFeedback": "gut"}, {"id": "b"}]
        )
        if folded:
            await world.driver.fold_all()

    await meanwhile(world, rewritten)
    iterations = (await folded_record(world))["iterations"]
    assert [i["id"] for i in iterations] == ["old", "b", occurrence(LONG_AGO)]
    assert iterations[0]["userFeedback"] == "gut"


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"state": "paused"}, "the mission is paused"),
        ({"state": "done"}, "the mission is done"),
        ({"deletedAt": "2026-11-01T00:00:00.000Z"}, "the mission was deleted"),
        ({"agentId": "a2"}, "the mission belongs to another agent now"),
    ],
)
@pytest.mark.parametrize("folded", [True, False])
async def test_what_the_owner_no_longer_wants_is_withdrawn(
    world: World, fields: Json, reason: str, folded: bool
):
    await (await world.client()).mission()

    async def changed(client: Client) -> None:
        await client.edit(**fields)
        if folded:
            await world.driver.fold_all()

    report = await meanwhile(world, changed)
    assert (report.outcome, report.reason) == ("withdrawn", reason)
    assert await world.written() == []
    assert (await world.runs())[0]["state"] == "withdrawn"
    assert len(await world.spent()) == 1
    assert await world.value("SELECT count(*) FROM mana_ai.journal") == 0


async def test_a_hard_delete_during_a_plan_withdraws_it(world: World):
    await (await world.client()).mission()
    report = await meanwhile(world, lambda client: client.push("delete", "m1", {}))
    assert report.outcome == "withdrawn"
    assert await world.written() == []


@pytest.mark.parametrize("fields", [{"state": "paused"}, {"deletedAt": text(LONG_AGO)}])
async def test_a_paused_or_deleted_agent_withdraws_its_plan(world: World, fields: Json):
    client = await world.client()
    await client.agent()
    await client.mission()

    async def changed(client: Client) -> None:
        await client.edit("legacy:ai-default", table="agents", **fields)
        await world.driver.fold_all()

    assert (await meanwhile(world, changed)).outcome == "withdrawn"


async def test_a_next_run_that_the_owner_moved_stays(world: World):
    await (await world.client()).mission()
    report = await meanwhile(world, lambda client: client.edit(nextRunAt=LATER))
    assert report.outcome == "ran"
    record = await folded_record(world)
    assert (record["nextRunAt"], len(record["iterations"])) == (LATER, 1)
    (row,) = await world.written()
    assert set(row["data"]) == set(row["field_meta"]) == {"iterations"}


async def test_a_slot_that_a_browser_served_meanwhile_is_withdrawn(world: World):
    await (await world.client()).mission()
    now = text(datetime.now(UTC))
    browser = {"id": "b1", "startedAt": now, "finishedAt": now, "overallStatus": "approved"}
    report = await meanwhile(
        world, lambda client: client.edit(iterations=[browser], nextRunAt=LATER)
    )
    assert (report.outcome, report.reason) == ("withdrawn", "a browser served this occurrence")
    assert (await folded_record(world))["iterations"] == [browser]


async def test_a_withdrawn_slot_may_be_taken_up_again(world: World):
    await (await world.client()).mission()
    await meanwhile(world, lambda client: client.edit(state="paused"))
    await (await world.client()).edit(state="active")
    _, (report,) = await world.driver.tick()
    assert report.outcome == "ran"
    assert len(await world.runs()) == 1
    assert len((await folded_record(world))["iterations"]) == 1


async def test_a_poison_row_during_a_plan_stops_nothing(world: World):
    await (await world.client()).mission()
    report = await meanwhile(
        world, lambda client: client.push("update", "m1", '{"title": "x", "n": 1e400}')
    )
    assert report.outcome == "ran"
    assert len((await folded_record(world))["iterations"]) == 1


# --- the connection goes --------------------------------------------------------------------


async def test_a_commit_whose_reply_was_lost_counts_once(
    world: World, monkeypatch: pytest.MonkeyPatch
):
    fetchrow, heard = Connections.fetchrow, list[str]()

    async def reply_lost(self: Connections, statement: str, *values: object) -> Any:
        row: Any = await fetchrow(self, statement, *values)
        if "commit_run" in statement:
            heard.append(row["outcome"])
            if len(heard) == 1:
                raise Unavailable("ConnectionDoesNotExistError")
        return row

    monkeypatch.setattr(Connections, "fetchrow", reply_lost)
    await (await world.client()).mission()
    await world.driver.fold_all()
    assert (await world.run()).outcome == "ran"
    assert heard == ["done", "landed"]
    assert len(await world.written()) == 1
    assert [run["state"] for run in await world.runs()] == ["committed"]


async def test_a_connection_cut_in_a_commit_is_tried_again(world: World):
    """Its statement has begun and waits for the mission's row when its server process ends."""
    await (await world.client()).mission()
    holding = await world.connect(SUPERUSER)

    async def hold_its_row(_client: Client) -> None:
        await holding.execute("BEGIN; SELECT FROM mana_ai.mission_snapshots FOR UPDATE")

    running = asyncio.create_task(meanwhile(world, hold_its_row))
    await until(lambda: world.value(WAITING))
    await world.sql(f"SELECT pg_terminate_backend(pid) FROM ({WAITS}) AS waits")
    await until(lambda: world.value(WAITING))
    await holding.execute("ROLLBACK")
    assert (await running).outcome == "ran"
    assert len(await world.written()) == 1


async def test_a_cut_connection_anywhere_in_a_run_is_survived(world: World):
    world.provider.script = [PLAN, DONE]
    await (await world.client()).mission()

    async def cut(_client: Client) -> None:
        await world.sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE usename = 'mana_agent' AND datname = current_database()"
        )

    assert (await meanwhile(world, cut)).outcome == "ran"
    assert await world.spent() == [100, 50]


async def test_iterations_stay_bounded_over_many_runs(world: World):
    many: list[Json] = [{"id": f"i{n}", "source": "server", "plan": []} for n in range(250)]
    await (await world.client()).mission(iterations=many)
    await world.driver.fold_all()
    await world.run()
    record = await folded_record(world)
    assert len(record["iterations"]) == 200
    assert record["iterations"][-1]["id"] == occurrence(LONG_AGO)
