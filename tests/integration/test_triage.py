"""What needs somebody: every kind of trouble is found, counted and told with what helps."""

import asyncio
import html
import os
import re
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from state.runs.reasons import told
from state.store.gateway.fleet import SQL
from state.store.gateway.triage import TROUBLES
from supervisor.node.keeper.sole import sole_node
from supervisor.node.keeper.state import NodeState, write_state
from tests.gateway_parts import FakeSupervisor, fleet_of, settings_for, watch_of
from tests.integration.test_gateway import Gateway, new_session, opened_gateway
from tests.postgres import Database

pytestmark = pytest.mark.one_postgres

HOSTILE = "<script>alert(1)</script>"
RUN = """
INSERT INTO mana_ai.runs (user_id, agent_id, mission_id, due_at, state, holder, claimed_at,
                          lease_until)
SELECT $1, 'a1', $2, clock_timestamp(), 'open', 'h',
       clock_timestamp() - $3::float8 * interval '1 s',
       clock_timestamp() + $4::float8 * interval '1 s'
RETURNING run_id::text
"""
ASIDE = """
INSERT INTO mana_ai.quarantine (change_id, user_id, table_name, record_id, reason)
VALUES (gen_random_uuid(), 'u9', 'aiMissions', 'm', 'data: not an object')
"""


@pytest.fixture
async def gateway(database: Database, tmp_path: Path) -> AsyncGenerator[Gateway]:
    """An installation without people."""
    async with opened_gateway(database, tmp_path) as opened:
        yield opened


async def fill(gateway: Gateway) -> str:
    """One of each, and as many that are well; the id of the stuck run."""
    decided: dict[str, dict[str, Any]] = {
        "failed": {"decision": "failed", "reason": HOSTILE},
        "budget": {"decision": "skipped-budget"},
        "grant": {"decision": "skipped-grant"},
        "damaged": {"problems": ["cadence: not an object"]},
        "well": {"decision": "ran"},
        "resting": {"decision": "failed", "state": "paused"},
    }
    for mission, columns in decided.items():
        await gateway.add_mission("u1", mission, agent_id="a1", **columns)
    await gateway.sql(
        "INSERT INTO mana_ai.mission_snapshots (user_id, mission_id, record, state, complete,"
        " agent_id, wake_at) VALUES ('u1', 'overdue', '{}', 'active', true, 'a1',"
        " clock_timestamp() - interval '5 minutes')"
    )
    await gateway.sql(RUN, "u1", "under-way", 5.0, 60.0)
    ((stuck,),) = await gateway.sql(RUN, "u1", "left", 500.0, -100.0)
    await gateway.sql(ASIDE)
    return stuck


async def groups(gateway: Gateway, **query: Any) -> dict[str, dict[str, Any]]:
    answer = await gateway.client.get("/internal/triage", params=query)
    assert answer.status_code == 200, answer.text
    return {one["kind"]: one for one in answer.json()["groups"]}


async def test_each_kind_of_trouble_is_found_once_and_says_what_helps(gateway: Gateway):
    stuck = await fill(gateway)
    told = await groups(gateway)
    assert tuple(told) == TROUBLES
    assert {kind: group["count"] for kind, group in told.items()} == dict.fromkeys(TROUBLES, 1)
    found = {kind: group["items"][0] for kind, group in told.items()}
    assert found["stuck"]["remedy"] == f"mana cancel {stuck}"
    assert found["failed"]["remedy"] == "mana missions run u1 failed"
    assert found["budget"]["remedy"] == "mana limits set --agent u1/a1 --tokens none"
    assert found["damaged"]["reason"] == "cadence: not an object"
    assert all(found[kind]["mission_id"] == kind for kind in ("failed", "budget", "grant"))
    await gateway.add_shard()
    counted = (await gateway.client.get("/internal/status")).json()["troubles"]
    assert counted == dict.fromkeys(TROUBLES, 1)


async def test_an_attempt_that_takes_too_long_is_stuck_though_somebody_holds_it(gateway: Gateway):
    ((long,),) = await gateway.sql(RUN, "u1", "long", 3600.0, 60.0)
    assert [one["id"] for one in (await groups(gateway))["stuck"]["items"]] == [long]


async def test_a_group_goes_on_page_by_page_without_gap_or_repeat(gateway: Gateway):
    for number in range(7):
        await gateway.add_mission(f"u{number % 3}", f"m{number}", decision="failed", agent_id="a")
    seen: list[str] = []
    query: dict[str, Any] = {"kind": "failed", "limit": 3}
    while True:
        (group,) = (await groups(gateway, **query)).values()
        assert group["count"] == 7
        seen += [one["mission_id"] for one in group["items"]]
        if group["before"] is None:
            break
        query["before"] = group["before"]
    assert sorted(seen) == [f"m{number}" for number in range(7)]
    of_one = await groups(gateway, user="u1", limit=100)
    assert {one["user_id"] for one in of_one["failed"]["items"]} == {"u1"}
    assert (await gateway.client.get("/internal/triage?kind=x")).status_code == 400


async def test_the_first_page_shows_them_as_text_with_buttons_that_do_it(gateway: Gateway):
    stuck = await fill(gateway)
    await gateway.add_shard()
    session = await new_session(gateway)
    page = await gateway.stranger.get("/", headers=session)
    assert page.status_code == 200
    assert "<script>alert" not in page.text
    assert f"/agents/u1/a1/runs/{stuck}/cancel" in page.text
    assert "/limits?kind=agent&amp;user=u1&amp;agent=a1#set" in page.text
    seal = re.search('name="seal" value="([^"]*)"', page.text)
    assert seal is not None
    done = await gateway.stranger.post(
        "/agents/u1/a1/missions/failed/run",
        data={"seal": seal[1]},
        headers=session | {"Origin": "http://gateway"},
    )
    assert done.status_code == 303, done.text
    asked = await gateway.sql("SELECT mission_id FROM mana_ai.run_requests")
    assert [row["mission_id"] for row in asked] == ["failed"]
    one = await gateway.stranger.get("/?kind=failed", headers=session)
    assert "Failed for good" in one.text
    assert "Blocked by budget" not in one.text


async def test_the_first_person_is_let_in_only_by_a_form_of_the_operators_own_page(
    gateway: Gateway,
):
    session = await new_session(gateway)
    for headers, fields in (
        ({}, {}),
        (session, {"seal": "0" * 64}),
    ):
        answer = await gateway.stranger.post(
            "/people",
            data={"user": "eve", **fields},
            headers={**headers, "Origin": "http://gateway"},
        )
        assert answer.status_code in (401, 403)
    assert await gateway.sql("SELECT FROM mana_ai.people") == []


async def test_the_fleet_is_filtered_by_its_address_and_goes_on_page_by_page(gateway: Gateway):
    await gateway.add_shard()
    for number in range(230):
        user, problems = f"u{number % 2}", ["cadence: not an object"] if number < 3 else []
        await gateway.add_mission(user, f"m{number:03}", agent_id="a1", problems=problems)
    session = await new_session(gateway)

    async def see(address: str, status: int = 200) -> str:
        page = await gateway.stranger.get(address, headers=session)
        assert page.status_code == status, page.text
        return html.unescape(page.text)

    assert "12 of 230" in await see("/fleet")
    of_one = await see("/fleet?user=u1&list=missions")
    assert set(re.findall('data-key="m:(u[01])/', of_one)) == {"u1"}
    assert 'href="/fleet?list=missions"' in of_one, "a chip takes the filter away"
    assert len(re.findall('data-key="m:', await see("/fleet?problems=yes&list=missions"))) == 3
    seen: list[str] = []
    address: str | None = "/fleet?list=missions"
    while address is not None:
        page = await see(address)
        seen += re.findall('data-key="m:([^"]*)"', page)
        found = re.search('href="(/fleet[?][^"]*before=[^"]*)"', page)
        address = None if found is None else found[1]
    assert len(seen) == len(set(seen)) == 230
    await see("/fleet?list=x", 400)
    await see("/fleet?list=missions&before=x", 400)
    hostile = "%22%3E%3Cscript%3Ealert(1)%3C/script%3E"
    page = await gateway.stranger.get(f"/fleet?user={hostile}", headers=session)
    assert "<script>alert" not in page.text


async def test_a_run_is_shown_by_its_id_with_what_was_decided_about_it(gateway: Gateway):
    stuck = await fill(gateway)
    await gateway.add_shard()
    await gateway.sql(
        "INSERT INTO mana_ai.decisions (user_id, mission_id, agent_id, due_at, decision, reason)"
        " SELECT user_id, mission_id, agent_id, due_at + n * interval '1 day', 'skipped-budget',"
        " 'reason-of-day-' || n FROM mana_ai.runs, generate_series(0, 1) AS n WHERE run_id = $1",
        stuck,
    )
    session = await new_session(gateway)
    page = await gateway.stranger.get(f"/runs/{stuck}", headers=session)
    assert page.status_code == 200
    assert 'href="/agents/u1/a1"' in page.text
    assert f"/agents/u1/a1/runs/{stuck}/cancel" in page.text
    assert "Reason-of-day-0" in page.text
    assert "eason-of-day-1" not in page.text, "that is another due time"
    first = await gateway.stranger.get("/", headers=session)
    assert f'href="/runs/{stuck}"' in first.text
    for address, status in ((f"/runs/{uuid4()}", 404), ("/runs/x", 400)):
        answer = await gateway.stranger.get(address, headers=session)
        assert answer.status_code == status
        assert answer.headers["content-type"].startswith("text/html")
    moved = await gateway.stranger.get("/runs", headers=session)
    assert (moved.status_code, moved.headers["location"]) == (303, "/fleet?list=runs")


async def test_the_systems_page_says_what_the_status_says(gateway: Gateway, tmp_path: Path):
    await fill(gateway)
    await gateway.add_shard()
    lost = NodeState.of(os.getpid()).now("restarting", "Ray's raylet (process 7) ended").now("up")
    with sole_node(tmp_path):
        write_state(tmp_path, lost)
        await _says_what_the_status_says(gateway)
        assert "process 7" in str((await gateway.client.get("/internal/status")).json()["node"])


async def _says_what_the_status_says(gateway: Gateway) -> None:
    told = (await gateway.client.get("/internal/status")).json()
    session = await new_session(gateway)
    page = await gateway.stranger.get("/system", headers=session)
    assert page.status_code == 200
    shown = html.unescape(page.text)
    for sign in told["signs"]:
        assert sign["what"] in shown
        assert sign["remedy"] in shown
    assert f'/fleet?list=runs&state=open">{told["counts"]["runs_open"]}</a>' in shown
    for one in told["supervisor"]["awake"]:
        assert f'href="/agents/{one["user"]}/{one["agent"]}"' in shown
    for shard in told["shards"]:
        assert shard["holder"] in shown
    for restart in told["node"]["latest"]:
        assert restart["why"] in shown


@pytest.mark.parametrize(
    ("reason", "form"),
    [
        (told("budget-used", used=9, most=8), "kind=agent&user=u%2F1&agent=a+1"),
        (told("limit-used", scope="user", unit="tokens"), "kind=user&user=u%2F1"),
        (told("limit-used", scope="installation", unit="money"), "kind=installation"),
        (told("limit-used", scope="agent", unit="money"), "kind=agent&user=u%2F1&agent=a+1"),
    ],
)
async def test_what_waits_for_a_budget_leads_to_the_form_of_the_limit_that_holds_it(
    gateway: Gateway, reason: str, form: str
):
    more = {"decision": "skipped-budget", "agent_id": "a 1", "reason": reason}
    await gateway.add_mission("u/1", "m1", **more)
    session = await new_session(gateway)
    page = (await gateway.stranger.get("/", headers=session)).text
    (link,) = re.findall(r'href="(/limits\?[^"]*)"', page)
    assert html.unescape(link) == f"/limits?{form}#set"
    shown = await gateway.stranger.get(html.unescape(link), headers=session)
    assert shown.status_code == 200
    if "agent=" in form:
        assert 'name="agent" value="a 1"' in shown.text


async def test_a_calm_triage_says_what_would_stand_there(gateway: Gateway):
    await gateway.add_shard()
    session = await new_session(gateway)
    calm = await gateway.stranger.get("/", headers=session)
    assert "Nothing needs anybody" in calm.text
    await fill(gateway)
    busy = await gateway.stranger.get("/", headers=session)
    assert "Nothing needs anybody" not in busy.text


@pytest.mark.parametrize("index", ["mission_snapshots_in_trouble", "mission_snapshots_damaged"])
async def test_what_is_well_is_not_read(database: Database, index: str):
    connection = await database.connect("postgres")
    try:
        await connection.execute("SET enable_seqscan = off")
        wanted = {
            "mission_snapshots_in_trouble": "state = 'active' AND NOT hidden AND decision IN"
            " ('failed', 'skipped-budget', 'skipped-grant', 'skipped-unreadable',"
            " 'skipped-missing-agent', 'skipped-inputs')",
            "mission_snapshots_damaged": "(problems <> '{}' OR NOT complete OR NOT readable)",
        }
        statement = f"EXPLAIN SELECT FROM mana_ai.fleet_missions WHERE {wanted[index]}"
        plan = "\n".join(row[0] for row in await connection.fetch(statement))
        assert index in plan
    finally:
        await connection.close()


FAILED: list[Any] = [None, None, None, "failed", None, None]


@pytest.mark.parametrize(
    ("statement", "values", "index"),
    [
        ("runs", [None] * 6 + [50, None, 1000], "runs_newest"),
        ("runs", [*FAILED, 50, None, 1000], "runs_newest_of_state"),
        ("signs", [30.0], "runs_failed"),
    ],
)
async def test_runs_of_long_ago_are_not_read(
    database: Database, statement: str, values: list[Any], index: str
):
    connection = await database.connect("mana_gateway")
    try:
        await connection.execute("SET enable_seqscan = off")
        told = await connection.fetch("EXPLAIN " + SQL[statement], *values)
        plan = "\n".join(row[0] for row in told)
        assert f"{index} " in plan
        assert "Sort" not in plan
    finally:
        await connection.close()


async def test_two_looks_at_once_share_one_question_to_the_database(
    database: Database, tmp_path: Path
):
    fleet = fleet_of(database)
    try:
        watch = watch_of(fleet, FakeSupervisor(), settings_for(tmp_path))
        first, second = await asyncio.gather(watch.facts(), watch.facts())
        assert first.shards == second.shards == []
    finally:
        await fleet.close()
