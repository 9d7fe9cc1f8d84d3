"""Two devices that were away, a runtime that planned meanwhile, and one inbox: all end the same."""

import asyncio

import pytest

from mana_actors.client import Client
from mana_actors.client.records import MISSIONS, TASKS
from state.log.principals import normalize_actor
from tests.devices import Home
from tests.inbox import log_record
from tests.integration.support import DONE, PLAN, Json
from tests.integration.test_device_proposals import shown

pytestmark = pytest.mark.one_postgres

APPS = ("ai", "todo")


async def everything(client: Client) -> dict[tuple[str, str], tuple[Json, dict[str, str]]]:
    """All records as a device has them, with the time of each field."""
    found: dict[tuple[str, str], tuple[Json, dict[str, str]]] = {}
    for name in ("tasks", "aiMissions"):
        for record in await client.table(name).list():
            stamps = {field: meta.at for field, meta in record.field_meta.items()}
            found[name, record.id] = record.fields, stamps
    return found


async def test_offline_edits_a_plan_and_two_answers_at_once_converge(home: Home):
    seal = home.keys.seal
    async with home.device("a") as a:
        await a.table("tasks").insert(seal("tasks", {"title": "Steuer", "order": 0}), "t1")
        await a.sync("todo")
    await (await home.world.client()).mission()
    await home.world.driver.fold_all()
    async with home.device("b") as b:
        await b.sync(*APPS)
    async with home.device("a") as a:
        await a.sync(*APPS)

    # Both are away, and the runtime plans meanwhile.
    async with home.device("a", away=True) as a:
        await a.table("tasks").update("t1", seal("tasks", {"title": "Steuer 2026"}))
        await a.table("tasks").insert(seal("tasks", {"title": "Von A", "order": 1}), "ta")
        await a.table("aiMissions").update("m1", {"conceptMarkdown": "Ruhig"})
    async with home.device("b", away=True) as b:
        await b.table("tasks").update("t1", {"isCompleted": True})
        await b.table("tasks").insert(seal("tasks", {"title": "Von B", "order": 1}), "tb")
    home.world.provider.script.extend([PLAN, DONE])
    assert (await home.world.run()).outcome == "ran"
    await home.world.driver.fold_all()

    async with home.device("a") as a, home.device("b") as b:
        await asyncio.gather(a.sync(*APPS), b.sync(*APPS))
        assert await shown(a) == await shown(b)
        (one,) = await a.proposals.list()
        await asyncio.gather(
            a.proposals.approve(one.id, {"title": "Milch holen"}),
            b.proposals.approve(one.id, {"title": "Brot holen"}),
        )
        both = await asyncio.gather(a.proposals.carry_out(), b.proposals.carry_out())
        assert [each.outcome for told in both for each in told] == ["done"]
        for _ in range(2):
            await asyncio.gather(a.sync(*APPS), b.sync(*APPS))
        here, there = await everything(a), await everything(b)
        (last_a,), (last_b,) = await a.proposals.list(), await b.proposals.list()
        assert last_a.state == last_b.state == "done"
        late = [each.refused_answer for each in (last_a, last_b) if each.refused_answer]
        assert len(late) == 1, "one of two answers at once comes too late, and says so"
        assert [await a.refused(), await b.refused()] == [[], []]
        typed = {record.id: record for record in await a.table(TASKS).list()}
        (mission,) = await a.table(MISSIONS).list()

    assert here == there
    for (table, id_), (fields, stamps) in here.items():
        replay = await log_record(home.world, table, id_)
        assert replay.fields == fields, "what a device shows is what a replay of the log makes"
        assert replay.stamps.items() <= stamps.items()
    await home.world.driver.fold_all()
    assert await home.world.wrong_snapshots() == []
    made = [task for id_, task in typed.items() if id_ not in ("t1", "ta", "tb")]
    titles = {home.keys.open({"t": task.title})["t"] for task in made}
    assert (len(made), len(titles & {"Milch holen", "Brot holen"})) == (1, 1)
    assert typed["t1"].is_completed is True
    assert home.keys.open({"t": typed["t1"].title})["t"] == "Steuer 2026"
    assert (mission.concept_markdown, len(mission.iterations or ())) == ("Ruhig", 1)


async def test_nothing_that_any_writer_of_ours_writes_carries_updated_at(home: Home):
    """The library, the runtime, the server's hands, and a device in an agent's name."""
    await (await home.world.client()).mission()
    await home.world.driver.fold_all()
    home.world.provider.script.extend([PLAN, DONE])
    await home.world.run()
    await home.world.driver.fold_all()
    async with home.device("a") as a:
        await a.table("aiMissions").put("m2", {"title": "Zweite", "state": "paused"})
        await a.table("aiMissions").delete("m2")
        await a.sync(*APPS)
        (one,) = await a.proposals.list()
        await a.proposals.approve(one.id)
        await a.proposals.carry_out()
    asked = {"title": "Dritte", "every": "daily 07:00"}
    made = await home.desk.ask("POST", "/api/v1/me/missions", json=asked)
    assert made.status_code == 201, made.text
    rows = await home.world.sql(
        "SELECT client_id, op, data ? 'updatedAt' AS has, field_meta ? 'updatedAt' AS stamps,"
        " actor::text AS actor FROM public.sync_changes WHERE client_id <> 'c-1'"
    )
    writers = {row["client_id"] for row in rows}
    assert {"mana-ai-runner", "mana-api"} < writers, writers
    assert not any(row["has"] or row["stamps"] for row in rows)
    told = (await home.desk.ask("GET", "/api/v1/me/timeline", params={"limit": 200})).json()
    assert {deed["actor"]["kind"] for deed in told["items"]} == {"user", "ai"}
    whole = [deed["actor"] for deed in told["items"]]
    assert all(normalize_actor(actor) is actor for actor in whole), "whoever reads it mends none"
