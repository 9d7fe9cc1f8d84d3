"""People make agents and missions from a shell: the real commands against a real gateway."""

import asyncio
import json
import sys
from asyncio.subprocess import PIPE
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from tests.owners import House

pytestmark = pytest.mark.one_postgres

Mana = Callable[..., Awaitable[str]]


@pytest.fixture
def mana(house: House, tmp_path: Path) -> Mana:
    """Runs a command as u1 and returns what it prints."""
    token = tmp_path / "token"
    token.write_text(house.auth.token("u1"))
    token.chmod(0o600)
    where = ["--url", str(house.client.base_url), "--token-file", str(token)]

    async def asked(*words: str, code: int = 0) -> str:
        command = (sys.executable, "-c", "from supervisor.cli import main; main()", *words, *where)
        run = await asyncio.create_subprocess_exec(*command, stdout=PIPE, stderr=PIPE)
        said, complaint = await run.communicate()
        assert run.returncode == code, complaint.decode()
        return (complaint if code else said).decode()

    return asked


PLANS = (("older", "2026-11-27T07:00:00.000Z"), ("newer", "2026-11-28T07:00:00.000Z"))


async def test_from_nothing_to_a_mission_with_its_next_runs(mana: Mana):
    assert "planner" in await mana("agents", "templates")
    agent = json.loads(await mana("agents", "new", "--template", "planner", "--json"))
    said = await mana(
        "missions", "new", "Plan my week", "--for", f"u1/{agent['id']}", "--every", "mon 07:00",
        "--read", "goals",
    )  # fmt: skip
    assert "Plan my week is made" in said
    assert "goals: 0 records" in said
    assert "next runs (Europe/Berlin):" in said
    assert said.count("  Mon ") == 5
    (made,) = json.loads(await mana("missions", "list", "--json"))
    assert made["agentId"] == agent["id"]
    assert "Plan my week" in await mana("missions", "list")
    id_ = made["id"]
    said = await mana("missions", "edit", id_, "--every", "daily 06:30", "--missed", "none")
    assert "every, missedRuns" in said
    assert "paused" in await mana("missions", "pause", f"u1/{id_}")
    assert "06:30" in await mana("missions", "resume", id_)
    assert "daily 06:30" in await mana("missions", "show", id_)
    assert "Planner" in await mana("agents", "list")
    said = await mana("agents", "edit", f"u1/{agent['id']}", "--name", "Max", "--cap", "1000")
    assert "Max is changed" in said
    assert "Max is archived" in await mana("agents", "archive", f"u1/{agent['id']}")
    assert "deleted" in await mana("missions", "delete", id_)
    assert "no missions yet" in await mana("missions", "list")


async def test_an_owner_ends_a_run_and_comments_on_the_newest_plan(mana: Mana, house: House):
    made = json.loads(await mana("missions", "new", "Plan my week", "--json"))["id"]
    await house.mission("u1", made)
    assert "it has no plan yet" in await mana("missions", "comment", made, "less", code=1)
    assert "under way" in await mana("missions", "cancel", made, code=1)
    plans: list[dict[str, Any]] = [{"id": id_, "startedAt": at, "plan": []} for id_, at in PLANS]
    await house.sql(
        "INSERT INTO public.sync_changes (app_id, table_name, record_id, user_id, op, data,"
        " field_meta, client_id) VALUES ('ai', 'aiMissions', $1, 'u1', 'update', $2::jsonb,"
        " $3::jsonb, 'c')",
        made,
        json.dumps({"iterations": plans}),
        json.dumps({"iterations": "2099-01-01T00:00:00.000Z"}),
    )
    whole = json.dumps({"id": made, "iterations": plans})
    await house.sql("UPDATE mana_ai.mission_snapshots SET record = $1::jsonb", whole)
    said = await mana("missions", "comment", made, "Mondays are full")
    assert "before the next plan" in said
    shown = await house.sql(
        "SELECT data -> 'iterations' AS plans FROM public.sync_changes WHERE record_id = $1"
        " ORDER BY created_at DESC LIMIT 1",
        made,
    )
    words = {one["id"]: one.get("userFeedback") for one in json.loads(shown[0]["plans"])}
    assert words == {"older": None, "newer": "Mondays are full"}


async def test_a_module_stands_for_all_of_its_records_that_are_there(mana: Mana, house: House):
    await house.sql(
        "INSERT INTO public.sync_changes (app_id, table_name, record_id, user_id, op, data,"
        " field_meta, client_id, created_at)"
        " SELECT 'companion', 'companionGoals', 'g' || n, 'u1', op,"
        " CASE op WHEN 'insert' THEN jsonb_build_object('title', n::text) ELSE '{}' END, '{}', 'c',"
        " clock_timestamp() + (op = 'delete')::int * interval '1 s'"
        " FROM generate_series(1, 70) AS n, unnest(ARRAY['insert', 'delete']) AS op"
        " WHERE op = 'insert' OR n <= 5"
    )
    said = await mana("missions", "new", "Plan", "--read", "goals", "--json")
    made = json.loads(said)
    assert len({ref["id"] for ref in made["inputs"]}) == 65
    assert any("goals: 65 records as of now" in note for note in made["notes"])


async def test_a_person_says_by_which_clock_they_live(mana: Mana):
    assert "Europe/Berlin, as everybody's" in await mana("people", "zone", "u1")
    assert "Asia/Tokyo" in await mana("people", "zone", "u1", "Asia/Tokyo")
    said = await mana("missions", "new", "Plan", "--every", "daily 07:00")
    assert "next runs (Asia/Tokyo):" in said
    said = await mana("people", "zone", "u1", "Tokyo", code=2)
    assert "timeZone: must be the name of an IANA time zone" in said
    assert "Europe/Berlin" in await mana("people", "zone", "u1", "--default")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["missions", "new", "a", "--every", "sometimes"], "every: must be manual"),
        (["missions", "new", "a", "--read", "gaols"], "did you mean goals?"),
        (["missions", "new", "a", "--for", "u1/nobody"], "agentId: you have no such agent"),
        (["agents", "new"], "name: is missing"),
        (["agents", "new", "--prompt-file", "/nowhere"], "/nowhere: cannot be read"),
        (["missions", "edit", "m1"], "nothing to change"),
    ],
)
async def test_what_is_wrong_is_one_line_that_names_the_field(
    mana: Mana, words: list[str], says: str
):
    said = await mana(*words, code=2)
    assert says in said
    assert len(said.strip().splitlines()) == 1


async def test_who_has_no_such_mission_is_told_so(mana: Mana):
    assert "you have nothing of this id" in await mana("missions", "show", "m1", code=1)
