"""What pages of agents are made of: what they may do, why they run or not, their schedule."""

from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest

from mana_actors.agent.tools.catalogue import catalogue
from mana_actors.http.bodies import BadRequest
from state.log.merge import Change, fold
from state.log.own_changes import RecordAt
from state.rules.policy import decide, parse_policy
from state.runs.reasons import Language, in_words, told
from state.store.gateway.limits import LimitState
from state.store.gateway.own_log import OwnRecord
from state.store.own.runs import OwnDecided, OwnRun
from state.store.owner import AgentBudget, OwnMission
from supervisor.gateway.pages.owner.agent import reads_of
from supervisor.gateway.pages.owner.mission import summary_of
from supervisor.gateway.pages.owner.overview import Overview, overview_from
from supervisor.gateway.pages.owner.parts.policy import modules_of, policy_with
from supervisor.gateway.pages.owner.parts.process import Process, held_missions, why_now
from supervisor.gateway.pages.owner.parts.refusal_words import refusal_said
from supervisor.gateway.pages.owner.parts.template_words import role_said
from supervisor.gateway.pages.owner.parts.tool_words import module_said, verb_of
from supervisor.gateway.pages.owner.schedule import TimeLine, lines_between, midnight
from supervisor.gateway.pages.reader import Reader
from supervisor.gateway.people.made.templates import templates

NOW = datetime(2026, 11, 27, 11, 30, tzinfo=UTC)


def reader(language: Language = "en") -> Reader:
    return Reader(
        language=language, theme="auto", zone=ZoneInfo("Europe/Berlin"), now=NOW, path="/"
    )


def decisions(policy: object) -> dict[str, str]:
    parsed, _ = parse_policy(policy)
    return {
        tool.name: decide(tool.name, tool.module, tool.default_policy, parsed)
        for tool in catalogue().values()
    }


# --- what it may do -------------------------------------------------------------------------------

POLICY: dict[str, Any] = {
    "tools": {"create_task": "auto", "ring_a_bell": "deny"},
    "defaultsByModule": {"todo": "deny", "goals": "auto"},
    "defaultForAi": "deny",
    "later": 1,
}


@pytest.mark.parametrize(
    "raw", [None, POLICY, {"tools": {}, "defaultForAi": "auto"}, ["odd"], {"tools": 3}]
)
def test_saving_one_word_changes_no_other_decision(raw: object):
    before = decisions(raw)
    after = decisions(policy_with(raw, {"tool.create_note": "deny"}))
    assert after.pop("create_note") == "deny"
    before.pop("create_note")
    assert after == before


def test_saving_keeps_words_for_modules_and_for_tools_that_are_not_known_here():
    saved = policy_with(POLICY, {"tool.create_note": "auto"})
    assert saved["defaultsByModule"] == POLICY["defaultsByModule"]
    assert saved["tools"]["ring_a_bell"] == "deny"
    assert saved["later"] == 1
    assert "complete_task" not in saved["tools"]  # its module's word counts on


def test_a_word_for_a_module_is_one_for_all_its_tools_but_those_said_otherwise_beside():
    form = {"module.todo": "propose", "tool.create_task": "deny", "tool.list_tasks": "deny"}
    saved = policy_with(POLICY, form)
    found = decisions(saved)
    assert found["create_task"] == "deny"
    assert found["list_tasks"] == found["complete_task"] == "propose"  # it stood at "deny"
    assert saved["defaultsByModule"] == {"todo": "propose", "goals": "auto"}


@pytest.mark.parametrize(
    "form", [{"tool.create_task": "yes"}, {"tool.nothing": "deny"}, {"module.nothing": "deny"}]
)
def test_a_word_that_means_nothing_is_refused(form: dict[str, str]):
    with pytest.raises(BadRequest):
        policy_with(POLICY, form)


def test_what_is_listed_is_what_offering_decides():
    listed = {t.name: t.decision for m in modules_of(POLICY, reader()) for t in m.tools}
    assert listed == decisions(POLICY)
    for module in modules_of(POLICY, reader()):
        assert sum(len(verbs) for _, verbs in module.groups) == len(module.tools)


def test_every_tool_and_module_has_words_in_both_languages():
    for tool in catalogue().values():
        assert verb_of(tool.name, reader()) != verb_of(tool.name, reader("de")), tool.name
        assert module_said(tool.module, reader("de"))[0].isupper()


@pytest.mark.parametrize(
    ("why_not", "german"),
    [
        ("it is rejected already", "es ist schon entschieden: abgelehnt"),
        ("it is done", "sein Stand ist: erledigt"),
        ("its agent is paused", "sein Agent ist pausiert"),
        ("rating must be from 1 to 5", "rating muss zwischen 1 und 5 liegen"),
        ("tasks t%1 was changed since: title", "tasks t%1 wurde inzwischen geändert: title"),
        ("something nobody has words for: 100 %", "something nobody has words for: 100 %"),
    ],
)
def test_why_an_answer_does_not_count_is_told_in_german(why_not: str, german: str):
    assert refusal_said(why_not, "de") == german
    assert refusal_said(why_not, "en") == why_not


# --- now ------------------------------------------------------------------------------------------


def mission(**said: Any) -> OwnMission:
    """A row of a mission that is due in an hour, but for what is said of it."""
    fields: dict[str, Any] = dict.fromkeys(OwnMission.__struct_fields__)
    fields |= {"mission_id": "m1", "agent_id": "a1", "state": "active", "now": NOW}
    fields |= {"next_run_at": NOW + timedelta(hours=1), **said}
    fields["live_id"] = UUID(int=1) if fields["live_state"] else None
    return OwnMission(**fields)


def overview(state: str = "active") -> Overview:
    said = {"title": "Woche", "agentId": "a1"}
    agent = record("agents", "a1", {"name": "Coach", "state": state})
    return overview_from([agent], [record("aiMissions", "m1", said)], reader())


def why(state: str = "active", *missions: OwnMission, full: bool = False) -> str:
    own = LimitState("agent", "owner", 5, 5, 0, None, 0, 0, None)
    budget = AgentBudget("a1", own, "agent", "tokens", NOW + timedelta(hours=2)) if full else None
    seen = overview(state)
    return why_now(seen.agents["a1"], list(missions), budget, seen, reader())


def test_one_sentence_says_why_it_runs_or_not():
    assert why("archived", mission(live_state="open")).startswith("It is archived")
    assert why("active", mission(live_state="open"), full=True) == "“Woche” is running."
    waits = why("active", mission(live_state="waiting", live_reason=told("agent-taken")))
    assert waits.startswith("“Woche” waits. ")
    assert why("paused", mission()).startswith("It is paused")
    assert why("active", mission(), full=True).endswith("room returns 14:30.")
    assert why("active") == "It has no mission that is active."
    assert why("active", mission(next_run_at=None)) == "Its missions run only when asked."
    assert why("active", mission()) == "Nothing to do before 13:30, when “Woche” is due."
    skipped = {
        "decision": "skipped-budget",
        "reason": told("room-of-others", need="9 tokens", scope="agent"),
    }
    assert "does not run" in why("active", mission(next_run_at=NOW, **skipped))
    assert why("active", mission(next_run_at=NOW)).endswith("has its turn next.")


def test_what_a_process_holds_stands_beside_its_row_also_where_one_of_them_lacks_it():
    process = Process(state="awake", held={"missions": {"m1": 3, "m2": 4}})
    found = {
        one.mission: (one.held, one.row)
        for one in held_missions(process, {"": 9, "m1": 3, "m3": 1})
    }
    assert found == {"m1": (3, 3), "m2": (4, None), "m3": (None, 1)}


# --- what a run says ------------------------------------------------------------------------------


def test_of_a_run_that_gave_up_only_the_models_words_are_told_as_they_are():
    reason = told("refused")
    ours = {"source": "server", "overallStatus": "failed", "summary": f"{in_words(reason)}\n\nNo."}
    assert summary_of(ours, reason) == ("No.", True)
    assert summary_of({**ours, "summary": in_words(reason)}, reason) == ("", True)
    assert summary_of({**ours, "source": "browser"}, reason)[0].startswith("The model declined")
    assert summary_of({**ours, "overallStatus": "approved"}, reason)[0].startswith("The model")
    assert summary_of({"summary": 7}, None) == ("", False)


# --- what one may begin with ----------------------------------------------------------------------


def test_what_each_template_does_is_said_in_german():
    roles = [one.role for one in templates().values()]
    assert [one for one in roles if role_said(one, reader("de")) == one] == []
    assert [role_said(one, reader()) for one in roles] == roles


# --- what it reads --------------------------------------------------------------------------------


def test_what_missions_read_is_summed_by_module_and_names_the_first_few():
    ref = {"module": "todo", "table": "tasks", "id": "t1"}
    records = [
        record("aiMissions", f"m{at}", {"inputs": [ref, {**ref, "id": "t2"}]}) for at in range(5)
    ]
    (read,) = reads_of(list(overview_from([], records, reader()).missions.values()), reader())
    assert (read.records, read.missions, read.more) == (10, ["m0", "m1", "m2"], 2)


# --- schedule -------------------------------------------------------------------------------------


def record(table: Any, id_: str, fields: dict[str, Any]) -> OwnRecord:
    at = NOW - timedelta(days=40)
    us = int(at.timestamp() * 1_000_000)
    whole = {"id": id_, "createdAt": at.isoformat(), "state": "active", "cadence": None, **fields}
    change = Change("c1", us, "insert", whole, {})
    return OwnRecord(RecordAt("ai", table, id_), fold(None, [change]), "u1", None, True, NOW)


def daily(state: str = "active", hour: int = 7) -> OwnRecord:
    said = {
        "title": "Woche",
        "agentId": "a1",
        "state": state,
        "cadence": {"kind": "daily", "atHour": hour, "atMinute": 0},
        "nextRunAt": datetime(2026, 11, 28, 6, tzinfo=UTC).isoformat(),
    }
    return record("aiMissions", "m1", said)


def lines(
    mission: OwnRecord,
    runs: list[OwnRun] | None = None,
    decided: list[OwnDecided] | None = None,
    agent: str = "active",
) -> list[TimeLine]:
    """Monday to Sunday around now, a Friday."""
    seen = overview_from([record("agents", "a1", {"state": agent})], [mission], reader())
    since = midnight(date(2026, 11, 23), reader())
    until = midnight(date(2026, 11, 30), reader())
    return lines_between([mission], runs or [], decided or [], seen, reader(), since, until)


def test_each_time_of_a_week_has_one_outcome_or_is_to_come():
    tuesday = datetime(2026, 11, 24, 6, tzinfo=UTC)
    skipped = OwnDecided("m1", tuesday, "skipped-budget", told("agent-taken"))
    found = lines(daily(), decided=[skipped])
    assert [one.at.day for one in found] == [23, 24, 25, 26, 27, 28, 29]
    assert [one.outcome for one in found] == ["missed", "skipped", *["missed"] * 3, None, None]
    assert found[1].reason == told("agent-taken")


def test_nothing_is_to_come_of_what_is_paused():
    assert all(one.outcome for one in lines(daily(), agent="paused"))
    assert lines(daily("paused")) == []


def test_a_week_ends_on_the_readers_clock():
    since = midnight(date(2026, 11, 23), reader())
    assert since.astimezone(UTC) == datetime(2026, 11, 22, 23, tzinfo=UTC)
