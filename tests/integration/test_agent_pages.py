"""The pages of an agent, a mission, the schedule and the search, after a real run."""

import asyncio
import html
import re
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4
from zoneinfo import ZoneInfo

import httpx2
import pytest

from state.log.own_changes import RecordAt, owner_writes
from state.runs.reasons import in_words, told
from state.store.connect import OneTransaction, Refused
from state.store.gateway.carry_out import Answering
from state.store.own.runs import OwnRuns
from tests.browser.household import (
    ANNA,
    ANSWERS,
    CASHFLOW,
    COACH,
    PLANNER,
    RUNNING,
    WEEK,
    household,
)
from tests.fake_provider import Entry
from tests.gateway_parts import KEY
from tests.integration.support import World, open_world, until
from tests.integration.test_owner_pages import Tab
from tests.owners import open_house
from tests.postgres import Database

pytestmark = pytest.mark.one_postgres

AGENT, MISSION = f"/me/agents/{PLANNER}", f"/me/missions/{WEEK}"
SECRET = "Never say it twice"
BERLIN = ZoneInfo("Europe/Berlin")


@pytest.fixture
async def scene(database: Database, tmp_path: Path) -> AsyncGenerator[tuple[World, Tab, Tab]]:
    """Anna in the middle of her week, her browser, and another person's."""
    async with AsyncExitStack() as stack:
        world = await stack.enter_async_context(open_world(database))
        house = await stack.enter_async_context(open_house(database, tmp_path, auth_url=None))
        tabs: list[Tab] = []
        for user in (ANNA, "berta"):
            assert (await house.operator("POST", "/people", {"user": user})).status_code == 201
            client = httpx2.AsyncClient(base_url=str(house.client.base_url), trust_env=False)
            tab = Tab(house, await stack.enter_async_context(client))
            await tab.sign_in(user)
            tabs.append(tab)
        await household(world)
        yield world, tabs[0], tabs[1]


async def run_id(world: World) -> UUID:
    (run,) = await world.runs(WEEK)
    return run["run_id"]


async def test_an_agents_page_says_what_it_did_with_which_model_and_what_it_may(
    scene: tuple[World, Tab, Tab],
):
    world, tab, _ = scene
    run = await run_id(world)
    shown = await tab.see(AGENT)
    assert f"{MISSION}?run={run}#r-{run}" in shown
    assert "Tokens by mission, last 7 days" in shown
    assert "Tokens by model, last 7 days" in shown
    assert "You set this cap." in shown
    assert "37,317 left" in shown
    assert 'name="tool.' not in shown
    assert "at most 1<" in shown
    assert re.search('does it</span> <span class="soft">[0-9]+ tools?<', shown)
    may = '<details class="more" open><summary>'
    assert may not in shown
    assert may in await tab.see(f"{AGENT}?may=all")
    opened = await tab.see(f"{AGENT}?module=todo")
    assert may in opened
    assert 'name="tool.create_task"' in opened
    assert 'name="tool.create_note"' not in opened
    assert len(shown) < 60_000


async def test_of_many_missions_those_that_run_next_are_listed_and_the_rest_is_one_click_away(
    scene: tuple[World, Tab, Tab],
):
    world, tab, _ = scene
    client = await world.client(ANNA)
    for number in range(45):
        due = f"2099-01-01T{number % 24:02}:00:00.000Z"
        await client.mission(f"far{number:02}", agentId=PLANNER, nextRunAt=due)
    listed = re.findall('<li data-key="m-([^"]+)"', shown := await tab.see(AGENT))
    assert len(listed) == 40
    assert WEEK in listed
    all_ = re.search(r'href="([^"]+)">Show all missions', shown)
    assert all_ is not None
    everything = re.findall('<li data-key="m-([^"]+)"', await tab.see(all_[1]))
    assert len(everything) > 45
    assert everything[:40] == listed


async def test_a_run_says_how_many_calls_of_tools_came_to_nothing(scene: tuple[World, Tab, Tab]):
    world, tab, _ = scene
    said = "Calls of tools: 0 made twice, 1 too many, 2 came back as failed"
    assert "Calls of tools" not in await tab.see(MISSION)
    await world.sql("UPDATE mana_ai.runs SET dropped_calls = 1, refused_calls = 2")
    assert said in await tab.see(MISSION)


async def test_a_run_says_round_by_round_what_was_asked_what_failed_and_what_it_took(
    scene: tuple[World, Tab, Tab],
):
    world, tab, _ = scene
    await world.sql(
        """UPDATE mana_ai.runs SET answers = jsonb_set(jsonb_set(answers, '{1,took_ms}', '1800'),
        '{1,refused}', '["complete_task", "another"]')"""
    )
    shown = await tab.see(MISSION)
    assert "model · 5,912 tokens in, 311 out · 1.8 s" in shown
    assert "asked Create a task \u00d72" in shown
    assert "came back as failed: Complete a task, a tool that is none" in shown
    receipt = shown.partition("<summary>Receipt</summary>")[2].partition("</table>")[0]
    assert ">fake/model<" in receipt
    assert re.findall('class="n">([^<]+)</td>', receipt) == ["2", "12,683", "0.0000"]


async def test_an_older_failure_is_told_in_the_readers_language_and_a_devices_words_are_its_own(
    scene: tuple[World, Tab, Tab],
):
    world, tab, _ = scene
    german = in_words(told("not-storable"), "de")
    ours: dict[str, Any] = {"id": "i1", "source": "server", "overallStatus": "failed", "plan": []}
    older = ours | {"startedAt": "2026-01-01T07:00:00Z", "summary": f"{german}\n\nMy own words."}
    theirs = older | {"id": "i2", "source": "browser"}
    await (await world.client(ANNA)).mission("old", iterations=[older, theirs])
    await world.driver.fold_all()
    shown = html.unescape(await tab.see("/me/missions/old"))
    mine, other = re.findall(
        '<article class="card run"><header><h3>.*?</article>', shown, re.DOTALL
    )
    if german in mine:
        mine, other = other, mine
    assert in_words(told("not-storable")).split(".")[0] in mine
    assert "My own words." in mine
    assert german not in mine
    assert german in other


async def test_a_mission_is_deleted_on_its_page_and_only_by_its_owner(
    scene: tuple[World, Tab, Tab],
):
    world, tab, other = scene
    assert f'action="{MISSION}/delete"' in await tab.see(MISSION)
    assert (await other.press(f"{MISSION}/delete")).status_code == 404
    gone = await tab.press(f"{MISSION}/delete")
    assert gone.headers["location"] == "/me/agents"
    await world.driver.fold_all()
    assert "Plan my week" not in await tab.see("/me")
    await tab.see(MISSION, 404)


async def test_a_proposal_says_until_when_it_is_asked_and_a_decided_one_why_it_was(
    scene: tuple[World, Tab, Tab],
):
    _, tab, _ = scene
    shown = await tab.see("/me/inbox")
    assert "Asked until" in shown
    rationale = "It is due on Tuesday, and the account holds enough."
    (id_, *_) = re.findall(r'id="p-([0-9a-f-]+)"(?:(?!</article>).)*Pay the rent', shown, re.DOTALL)
    await tab.press(f"/me/inbox/{id_}/approve")
    decided = (await tab.see("/me/inbox")).partition("<h2>Decided</h2>")[2]
    assert rationale in decided


async def test_missions_whose_agent_is_not_listed_are_found_below_those_that_are(
    scene: tuple[World, Tab, Tab],
):
    world, tab, _ = scene
    assert "Missions of no agent in this list" not in await tab.see("/me/agents")
    client = await world.client(ANNA)
    await client.mission("default", title="Water the plants")
    await client.mission("orphan", title="Sort receipts", agentId="gone")
    shown = (await tab.see("/me/agents")).partition("Missions of no agent in this list")[2]
    assert re.findall('href="/me/missions/([a-z]+)"', shown) == ["default", "orphan"]
    assert MISSION not in shown


async def test_history_is_filtered_and_goes_on_page_by_page(scene: tuple[World, Tab, Tab]):
    world, tab, _ = scene
    await world.sql(
        "INSERT INTO mana_ai.decisions (user_id, mission_id, agent_id, due_at, decision, reason,"
        " at) SELECT $1, $2, $3, now() - n * interval '1 hour', 'skipped-paused', 'the agent is"
        " paused', now() - n * interval '1 hour' FROM generate_series(1, 45) AS n",
        ANNA,
        WEEK,
        PLANNER,
    )
    seen: list[str] = []
    path = f"{AGENT}?outcome=not-run"
    while path:
        shown = await tab.see(path)
        seen += re.findall(r'<li data-key="(h-week-[^"]+)"', shown)
        older = re.search(r'href="([^"]+)#history">Older', shown)
        path = older[1].replace("&amp;", "&") if older else ""
    assert len(seen) == len(set(seen)) == 45
    assert "Resume the agent, if it shall run." in await tab.see(path or f"{AGENT}?outcome=not-run")
    ran = await tab.see(f"{AGENT}?outcome=ran&mission=any")
    assert len(re.findall('<li data-key="h-', ran)) == 1
    assert "Nothing fits." in await tab.see(f"{AGENT}?outcome=failed&mission={WEEK}")
    for odd in ("outcome=x", "after=x", "mission=", "after=bnVsbA=="):
        await tab.see(f"{AGENT}?{odd}", 400)


async def test_a_page_tells_what_the_process_holds_beside_its_rows(scene: tuple[World, Tab, Tab]):
    world, tab, _ = scene
    version = await world.value(
        "SELECT version FROM mana_ai.mission_snapshots WHERE mission_id = $1", WEEK
    )
    place = {"user": ANNA, "agent": PLANNER, "idle_s": 75.0, "memory_bytes": 31e6, "running": ()}
    tab.house.supervisor.more = {"awake": [place]}
    held = {"missions": {WEEK: version - 1}, "agent_version": 1, "used": 7, "held": 0}
    tab.house.supervisor.memories[ANNA, PLANNER] = {**held, "is_behind": True}
    shown = await tab.see(AGENT)
    assert "31 MB" in shown
    assert f">{version - 1}</td>" in shown
    assert str(version) in shown
    assert shown.count('title="differs"') == 2
    assert "asleep" in await tab.see(f"/me/agents/{COACH}")
    tab.house.supervisor.dead = True
    assert "Nobody could say." in await tab.see(AGENT)


async def test_a_word_that_was_said_of_an_older_record_changes_nothing(
    scene: tuple[World, Tab, Tab],
):
    world, tab, _ = scene
    found = re.search('name="version" value="([^"]+)"', await tab.see(f"{AGENT}?module=todo"))
    assert found is not None
    form = {"tool.create_task": "auto", "version": found[1]}
    await (await world.client(ANNA)).edit(PLANNER, table="agents", role="Other")
    assert (await tab.press(f"{AGENT}/policy", **form)).status_code == 412
    del form["version"]
    assert (await tab.press(f"{AGENT}/policy", **form)).status_code == 303
    assert "does it" in await tab.see(f"{AGENT}?module=goals")


async def test_a_run_says_what_its_prompts_were_made_of_and_no_word_of_them(
    scene: tuple[World, Tab, Tab],
):
    world, tab, _ = scene
    shown = await tab.see(MISSION)
    assert "What its prompts were made of" in shown
    assert "Its tools" in shown
    noted = await world.value(
        "SELECT (answers -> '1' -> 'parts')::text FROM mana_ai.runs WHERE mission_id = $1", WEEK
    )
    assert set(re.findall(r'"(\w+)"', noted)) >= {"rules", "tools", "mission", "talk"}
    assert abs(sum(map(int, re.findall(r": (\d+)", noted))) - 5912) < 9
    told = await tab.client.get(f"/api/v1/me/missions/{WEEK}/runs")
    assert told.status_code == 200
    call = (await tab.client.get(f"/api/v1/me/runs/{await run_id(world)}")).json()["calls"][0]
    assert sum(call["parts"].values()) > 5900


async def test_a_run_says_by_name_what_it_opened_and_in_words_what_it_could_not(
    scene: tuple[World, Tab, Tab],
):
    world, tab, _ = scene
    client = await world.client(ANNA)
    await client.push("insert", "n-1", {"title": "Budget"}, table="notes", app="notes")
    for record, reason in (("n-1", None), ("n-2", "expired")):
        await world.sql(
            "INSERT INTO mana_ai.decrypt_audit (user_id, mission_id, iteration_id, table_name,"
            " record_id, status, reason, run_id, attempt, ts)"
            " SELECT user_id, mission_id, 'i', 'notes', $2, 'ok', $3, run_id, 1, now()"
            "   FROM mana_ai.runs WHERE run_id = $1",
            await run_id(world),
            record,
            reason,
        )
    shown = await tab.see(MISSION)
    assert re.search(r'record=notes%3An-1"[^>]*>Budget</a>', shown)
    assert "note, not there any more</a> (the grant had ended)" in shown
    german = await tab.client.get(MISSION, headers={"Accept-Language": "de"})
    assert "(die Freigabe war abgelaufen)" in german.text


async def test_a_hostile_note_on_a_call_keeps_numbers_and_small_words_only(
    scene: tuple[World, Tab, Tab],
):
    world, _, _ = scene
    kept = await world.value(
        "SELECT mana_ai.noted_answers($1::jsonb)::text",
        '{"1": {"tokens": 1, "parts": {"rules": 5, "Pay 4711": 1, "tools": "secret", "x": {}},'
        ' "inputs": [3, "secret", 4, null]}, "2": {"tokens": 1, "parts": [1], "inputs": "secret"}}',
    )
    assert "secret" not in kept
    assert "4711" not in kept
    assert '"parts": {"rules": 5}' in kept
    assert '"inputs": [3, 4]' in kept


async def test_words_on_a_plan_are_in_the_next_prompt(scene: tuple[World, Tab, Tab]):
    world, tab, other = scene
    found = re.search('name="iteration" value="([^"]+)"', await tab.see(MISSION))
    assert found is not None
    form = {"iteration": found[1], "words": f"  {SECRET}  "}
    assert (await other.press(f"{MISSION}/feedback", **form)).status_code == 404
    assert (await tab.press(f"{MISSION}/feedback", **form)).status_code == 303
    assert (await tab.press(f"{MISSION}/feedback", **form)).status_code == 303
    assert (await tab.see(MISSION)).count(SECRET) == 1
    assert (await tab.press(f"{MISSION}/feedback", iteration="no", words="x")).status_code == 404
    assert (await tab.press(f"{MISSION}/feedback", iteration=found[1])).status_code == 400
    long = {"iteration": found[1], "words": "x" * 2001}
    assert (await tab.press(f"{MISSION}/feedback", **long)).status_code == 409
    await world.driver.fold_all()
    assert (await tab.press(f"{MISSION}/run")).status_code == 303
    await world.driver.tick()
    assert SECRET in str(world.provider.requests[-1])


async def test_words_on_a_plan_and_what_changes_it_do_not_write_over_each_other(
    scene: tuple[World, Tab, Tab],
):
    world, tab, _ = scene
    found = re.search('name="iteration" value="([^"]+)"', await tab.see(MISSION))
    assert found is not None
    comment = tab.house.owners.proposals.comment(Answering(ANNA), WEEK, found[1], SECRET)

    async def is_waiting() -> bool:
        return await world.value(
            "SELECT count(*) > 0 FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
            " AND datname = current_database()"
        )

    async with tab.house.owners.own_log.acting(ANNA) as own:
        record = await own.record(RecordAt("ai", "aiMissions", WEEK), "plan")
        saying = asyncio.create_task(comment)
        await until(is_waiting)
        (told,) = record.fields["iterations"]
        changed = {**told, "summary": "Changed meanwhile"}
        await own.update(record, {"iterations": [changed]}, owner_writes(ANNA))
    assert await saying
    await world.driver.fold_all()
    (kept,) = (await world.record(WEEK, ANNA))["iterations"]
    assert (kept["userFeedback"], kept["summary"]) == (SECRET, "Changed meanwhile")


async def test_what_is_read_in_one_transaction_is_one_persons(scene: tuple[World, Tab, Tab]):
    _, tab, _ = scene
    async with tab.house.owners.own_log.acting(ANNA) as own:
        one = OneTransaction(own.connection, ANNA)
        assert await OwnRuns(one).runs(ANNA, WEEK, 9)
        for user, spaces in (("berta", ()), (ANNA, ("s1",))):
            with pytest.raises(Refused):
                async with one.acting_for(user, spaces):
                    pass


async def test_an_owner_ends_a_run_that_waits_and_nobody_elses(scene: tuple[World, Tab, Tab]):
    world, tab, other = scene
    busy: Entry = {"status": 503, "text": "busy", "retry_after": "3600"}
    world.provider.script.insert(len(ANSWERS), busy)
    assert (await tab.press(f"{MISSION}/run")).status_code == 303
    await world.driver.tick()
    (waits,) = [run for run in await world.runs(WEEK) if run["state"] == "waiting"]
    run = str(waits["run_id"])
    shown = await tab.see(MISSION)
    assert f'action="{MISSION}/cancel"' in shown
    assert "waits" in await tab.see(AGENT)
    assert (await other.press(f"{MISSION}/cancel", run=run)).status_code == 404
    assert (await tab.press(f"{MISSION}/cancel", run="x")).status_code == 404
    assert (await tab.press(f"{MISSION}/cancel", run=run)).status_code == 303
    (ended,) = [one for one in await world.runs(WEEK) if str(one["run_id"]) == run]
    assert ended["state"] == "withdrawn"
    assert tab.house.supervisor.stopped[-1][:3] == (ANNA, PLANNER, WEEK)
    shown = await tab.see(MISSION)
    assert "Cancelled by its owner" in shown or "cancelled by its owner" in shown
    assert f'action="{MISSION}/cancel"' not in shown


async def test_over_the_api_too_a_run_is_ended_and_a_plan_gets_words(
    scene: tuple[World, Tab, Tab],
):
    world, tab, other = scene
    at = f"/api/v1/me/missions/{WEEK}"

    async def ask(who: Tab, path: str, **body: str) -> tuple[int, dict[str, Any]]:
        headers = {"Origin": who.origin, "Idempotency-Key": "once"}
        answer = await who.client.post(f"{at}/{path}", json=body, headers=headers)
        return answer.status_code, answer.json()

    (done,) = await world.runs(WEEK)
    plan = f"iterations/{done['iteration_id']}/feedback"
    for _ in range(2):
        assert await ask(tab, plan, words=f" {SECRET} ") == (
            200,
            {"missionId": WEEK, "iterationId": str(done["iteration_id"]), "words": SECRET},
        )
    assert (await tab.see(MISSION)).count(SECRET) == 1
    assert (await ask(tab, plan, words=" "))[0] == 422
    assert (await ask(other, plan, words="x"))[0] == 404
    assert (await ask(tab, "cancel"))[0] == 409
    busy: Entry = {"status": 503, "text": "busy", "retry_after": "3600"}
    world.provider.script.insert(len(ANSWERS), busy)
    assert (await tab.press(f"{MISSION}/run")).status_code == 303
    await world.driver.tick()
    (waits,) = [run for run in await world.runs(WEEK) if run["state"] == "waiting"]
    run = str(waits["run_id"])
    assert (await ask(other, "cancel"))[0] == 404
    assert (await ask(tab, "cancel", runId="x"))[0] == 422
    assert (await ask(tab, "cancel", runId=str(uuid4())))[0] == 404
    told = {"missionId": WEEK, "runId": run, "changed": True}
    assert await ask(tab, "cancel") == (200, told)
    assert await ask(tab, "cancel", runId=run) == (200, told | {"changed": False})
    assert "ancelled by its owner" in await tab.see(MISSION)


async def test_an_agents_page_tells_its_persona_and_nothing_of_a_sealed_one(
    scene: tuple[World, Tab, Tab],
):
    world, tab, _ = scene
    client = await world.client(ANNA)
    await client.edit(PLANNER, table="agents", systemPrompt="Be <b>brief</b>.", memory="Likes tea.")
    shown = await tab.see(AGENT)
    assert "Be &lt;b&gt;brief&lt;/b&gt;." in shown
    assert "Likes tea." in shown
    await client.edit(PLANNER, table="agents", systemPrompt="enc:1:abc", memory=None)
    shown = await tab.see(AGENT)
    assert "Its persona is sealed" in shown
    assert "enc:1:" not in shown


async def test_an_agent_that_nobody_made_is_named_and_not_linked(scene: tuple[World, Tab, Tab]):
    world, tab, _ = scene
    await (await world.client(ANNA)).mission("loose")
    shown = await tab.see("/me/missions/loose")
    assert "by Mana" in re.sub(r"\s+", " ", shown)
    assert 'href="/me/agents/' not in shown
    assert f'href="{AGENT}"' in await tab.see(MISSION)


async def test_what_is_paused_is_not_said_to_come(scene: tuple[World, Tab, Tab]):
    world, tab, _ = scene
    shown = await tab.see(f"/me/agents/{CASHFLOW}")
    assert "It is paused: nothing runs until you resume it." in shown
    assert "due</span>" not in shown
    assert ">next " not in shown
    assert "Watch the accounts" not in _part(await tab.see("/me"), "Next")
    assert "is not active" in await tab.see("/me/missions/accounts")
    assert (await tab.press(f"/me/agents/{COACH}/pause")).status_code == 303
    assert "Keep running" not in _part(await tab.see("/me"), "Next")
    assert await world.value("SELECT count(*) FROM mana_ai.runs") == 1


async def test_the_schedule_shows_what_ran_and_what_comes_on_the_owners_clock(
    scene: tuple[World, Tab, Tab],
):
    world, tab, other = scene
    run = await run_id(world)
    due = await world.value("SELECT due_at FROM mana_ai.runs WHERE run_id = $1", run)
    comes = (await world.snapshot(RUNNING, ANNA))["next_run_at"]
    ran, running = (at.astimezone(BERLIN).date().isoformat() for at in (due, comes))
    week = await tab.see(f"/me/schedule?week={ran}")
    assert f"{MISSION}?run={run}#r-{run}" in week
    assert "Paused, and planned at no time:" in week
    assert "Keep running" in await tab.see(f"/me/schedule?week={running}")
    assert f"{MISSION}?run={run}" in await tab.see(f"/me/schedule?day={ran}")
    await tab.see("/me/schedule")
    before = (due - timedelta(days=60)).date().isoformat()
    assert f"?run={run}" not in await tab.see(f"/me/schedule?week={before}")
    for odd in ("day=x", "week=2026-13-01", "day=0001-01-01", "day=9999-12-31", "month=1"):
        await tab.see(f"/me/schedule?{odd}", 400)
    assert "No missions yet" in await other.see("/me/schedule")


async def test_search_finds_ones_own_by_words_and_runs_by_id(scene: tuple[World, Tab, Tab]):
    world, tab, other = scene
    run = await run_id(world)
    assert f'href="{MISSION}"' in await tab.see("/me/search?q=my+WEEK+plan")
    assert f'href="{AGENT}"' in await tab.see("/me/search?q=planner")
    assert f"{MISSION}?run={run}" in await tab.see(f"/me/search?q={run}")
    assert "Nothing found" in await tab.see("/me/search?q=nothing-like-it")
    assert "What do you look for?" in await tab.see("/me/search?q=")
    for wanted in ("planner", str(run), WEEK):
        assert "Nothing found" in await other.see(f"/me/search?q={wanted}")
    hostile = await tab.see("/me/search?q=%3Cscript%3E")
    assert "<script>" not in hostile
    assert "&lt;script&gt;" in hostile


async def test_operators_find_ids_and_no_titles(scene: tuple[World, Tab, Tab]):
    world, tab, _ = scene
    run = await run_id(world)
    headers = {"X-Service-Key": KEY}
    token = (await tab.client.post("/internal/login", headers=headers)).json()["token"]
    await tab.client.get("/login", params={"token": token})
    for wanted in (f"{ANNA}/{PLANNER}", PLANNER, WEEK, ANNA):
        shown = await tab.see(f"/search?q={wanted}")
        assert f'href="/agents/{ANNA}/{PLANNER}"' in shown
    assert f'href="/runs/{run}"' in await tab.see(f"/search?q={run}")
    assert "Nothing found" in await tab.see("/search?q=Plan+my+week")


async def test_a_run_that_is_older_than_the_page_is_shown_by_its_link(
    scene: tuple[World, Tab, Tab],
):
    world, tab, other = scene
    run = await run_id(world)
    await world.sql(
        "INSERT INTO mana_ai.runs SELECT (jsonb_populate_record(r, jsonb_build_object('run_id',"
        " gen_random_uuid(), 'due_at', r.due_at + n * interval '1 minute'))).*"
        " FROM mana_ai.runs AS r, generate_series(1, 25) AS n WHERE r.run_id = $1",
        run,
    )
    assert f'id="r-{run}"' not in await tab.see(MISSION)
    assert f'id="r-{run}"' in await tab.see(f"{MISSION}?run={run}")
    await tab.see(f"/me/missions/{RUNNING}?run={run}", 404)
    await tab.see(f"{MISSION}?run=nothing", 404)
    await other.see(f"{MISSION}?run={run}", 404)


def _part(page: str, title: str) -> str:
    """A section of a page."""
    return page.partition(f"<h2>{title}</h2>")[2].partition("</section>")[0]
