"""How each suite of golden cases is put to our code: `SUITES`, from name to judge of one case."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import msgspec

from mana_actors.agent.tools.catalogue import Tool, Toolbox
from state.log import principals
from state.log.cadence import next_run, parse_cadence
from state.log.iterations import (
    Author,
    PlannedStep,
    append_iteration,
    iteration_from_plan,
    row_actor,
)
from state.log.merge import Change, Snapshot, decode_record, encode_record, fold, hidden, is_late
from state.log.records import InputRef, Mission, is_due, mission_from_record
from state.log.stamps import datetime_of, format_instant, instant_of, parse_instant
from state.rules.policy import parse_policy, resolve
from tests.vectors import actors, planner
from tests.vectors.llm import give_llm, view_llm
from tests.vectors.mcp_gate import may_invoke
from tests.vectors.overrides import OVERRIDES
from tests.vectors.staging import give_staging, view_staging
from tests.vectors.verdict import Case, Outcome, View, as_is, judge

Given = dict[str, Any]
Key = tuple[str, str]


# --- lww and due --------------------------------------------------------------------------------


def changes_of(rows: list[Given], first: int = 0) -> list[Change]:
    """The rows as changes, with ids that rise in the order given."""
    return [
        Change(
            str(uuid.UUID(int=first + at + 1)),
            (parse_instant(row["created_at"]) or 0) // 1000,
            row["op"],
            row["data"],
            row["field_meta"],
            row["user_id"],
        )
        for at, row in enumerate(rows)
    ]


def _record(snapshot: Snapshot, record_id: str, *, meta: bool) -> Given | None:
    if not snapshot.exists:
        return None
    shown = {"id": record_id, **snapshot.fields}
    return {**shown, "__fieldMeta": snapshot.stamps} if meta else shown


def give_lww(given: Given) -> Any:
    """The folded record, or the stored ones after each refresh."""
    projection = given["projection"]
    if projection == "incremental":
        return {"after": _refreshes(given["batches"])}
    snapshot = fold(None, changes_of(given["rows"]))
    if projection in ("agent", "resolver") and hidden(snapshot):
        return {"record": None}
    record_id = given["rows"][0]["record_id"] if given["rows"] else ""
    meta = projection not in ("import", "resolver")
    return {"record": _record(snapshot, record_id, meta=meta)}


def _refreshes(batches: list[list[Given]]) -> list[Given]:
    """Fold batch by batch with the late-row rule, snapshots passing through storage in between."""
    log: dict[Key, list[Change]] = {}
    stored: dict[Key, Snapshot] = {}
    after: list[Given] = []
    seen = 0
    for batch in batches:
        for row, change in zip(batch, changes_of(batch, seen), strict=True):
            if row.get("table_name", "aiMissions") != "aiMissions":
                continue  # the refresh is one of missions
            key = (row["user_id"], row["record_id"])
            log.setdefault(key, []).append(change)
            before = stored.get(key)
            late = before is not None and is_late(before, change)
            stored[key] = _reloaded(
                fold(None, sorted(log[key], key=_order)) if late else fold(before, [change])
            )
        seen += len(batch)
        after.append({"snapshots": _stored(stored)})
    return after


def _order(change: Change) -> tuple[int, str]:
    return change.created_at, change.id


def _reloaded(snapshot: Snapshot) -> Snapshot:
    return decode_record(
        encode_record(snapshot),
        exists=snapshot.exists,
        complete=snapshot.complete,
        newest_at=snapshot.newest_at,
        newest_id=snapshot.newest_id,
        count=snapshot.count,
        digest=snapshot.digest,
    )


def _stored(stored: dict[Key, Snapshot]) -> list[Given]:
    return [
        {"user_id": user, "mission_id": mission, "record": _record(snapshot, mission, meta=True)}
        for (user, mission), snapshot in sorted(stored.items())
        if snapshot.exists
    ]


def view_lww(value: Any, case: Case) -> Any:
    """Without the original's counters, and stored snapshots in one order."""
    if "after" not in value:
        return value
    return [sorted(step["snapshots"], key=_owner) for step in value["after"]]


def _owner(snapshot: Given) -> Key:
    return snapshot["user_id"], snapshot["mission_id"]


def give_due(given: Given) -> Any:
    """The missions of one user that are due, as the planner gets them."""
    now = _moment(given["now"])
    rows: dict[str, list[Given]] = {}
    for row in given["rows"]:
        is_mission = row.get("table_name", "aiMissions") == "aiMissions"
        if is_mission and row["user_id"] == given["userId"]:
            rows.setdefault(row["record_id"], []).append(row)
    missions: list[Mission] = []
    for record_id, mine in rows.items():
        snapshot = fold(None, changes_of(mine))
        if snapshot.exists and snapshot.complete:
            missions.append(mission_from_record(given["userId"], record_id, snapshot.fields))
    return {"missions": [_planned(mission) for mission in missions if is_due(mission, now)]}


def _planned(mission: Mission) -> Given:
    shown: Given = {
        "id": mission.id,
        "userId": mission.user_id,
        "title": mission.title,
        "objective": mission.objective,
        "conceptMarkdown": mission.concept_markdown,
        "state": mission.state,
        "nextRunAt": mission.next_run_at,
        "inputs": list(mission.inputs),
        "iterations": list(mission.iterations),
        "cadence": mission.cadence,
    }
    optional = {"grant": mission.grant, "agentId": mission.agent_id}
    return shown | {key: value for key, value in optional.items() if value is not None}


def view_due(value: Any, case: Case) -> Any:
    """Missions by id, expected ones with their next run, cadence and inputs read."""
    return {mission["id"]: _read(mission) for mission in value["missions"]}


def _read(mission: Given) -> Given:
    at, cadence = mission["nextRunAt"], mission.get("cadence")
    parsed = cadence if isinstance(cadence, msgspec.Struct) else parse_cadence(cadence)
    return mission | {
        "nextRunAt": _moment(at) if isinstance(at, str) else at,
        "cadence": None if isinstance(parsed, str) else parsed,
        "inputs": [_ref(part) for part in mission["inputs"]],
    }


def _ref(part: Any) -> Any:
    return msgspec.to_builtins(part) if isinstance(part, InputRef) else part


def _moment(text: str) -> datetime:
    return datetime_of(parse_instant(text) or 0)


# --- actor, cadence, policy, iteration ----------------------------------------------------------


def _user(user_id: str, name: str | None = None) -> Any:
    return principals.user_actor(user_id) if name is None else principals.user_actor(user_id, name)


def _agent(fields: Given) -> Any:
    return principals.agent_actor(
        fields["agentId"],
        fields["displayName"],
        mission_id=fields["missionId"],
        iteration_id=fields["iterationId"],
        rationale=fields["rationale"],
    )


ACTOR_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "make_user_actor": _user,
    "make_agent_actor": _agent,
    "make_system_actor": principals.system_actor,
    "normalize_actor": principals.normalize_actor,
    "is_user_actor": actors.is_user_actor,
    "is_ai_actor": actors.is_ai_actor,
    "is_system_actor": actors.is_system_actor,
    "is_from_mission_runner": actors.is_from_mission_runner,
    "origin_from_actor": actors.origin_from_actor,
    "make_field_meta": actors.field_meta,
    "is_user_originated_field": actors.is_user_originated_field,
}


def give_actor(given: Given) -> Any:
    """What our writer of actors, or a client's reader of them, returns."""
    return {"value": ACTOR_FUNCTIONS[given["fn"]](*given["args"])}


def view_actor(value: Any, case: Case) -> Any:
    """Without the keys that the case leaves open."""
    left_open = case["expected"].get("unspecified", ())
    shown = value["value"]
    if not isinstance(shown, dict):
        return shown
    return {key: part for key, part in shown.items() if key not in left_open}  # pyright: ignore[reportUnknownVariableType]


def give_cadence(given: Given) -> Any:
    """When the cadence runs next, as text."""
    cadence = parse_cadence(given["cadence"])
    if isinstance(cadence, str):
        return {"nextRunAt": None}
    moment = next_run(cadence, _moment(given["from"]), ZoneInfo(given["tz"]))
    return {"nextRunAt": None if moment is None else format_instant(instant_of(moment))}


def give_policy(given: Given) -> Any:
    """A decision, the tools offered, or the verdict of the invocation gate."""
    if given["fn"] == "gate":
        return _gate(given)
    modules = {tool["name"]: tool["module"] for tool in given["tools"]}
    if given["fn"] == "resolve":
        policy, _ = parse_policy(given["policy"])
        name = given["toolName"]
        return {"decision": resolve(name, modules.get(name), policy, given["actor"]["kind"])}
    agent: Given = given["agent"] or {}
    policy, _ = parse_policy(agent.get("policy"))
    return {"tools": [tool.name for tool in toolbox(modules.items()).offered(policy)]}


def toolbox(named: Iterable[tuple[str, str]]) -> Toolbox:
    """Proposals alone, by name and module."""
    tools = (Tool(name, module, "propose", "", ()) for name, module in named)
    return Toolbox({tool.name: tool for tool in tools})


def _gate(given: Given) -> Any:
    settings = given["settings"]
    limits = {"rate_limit": settings["perToolRateLimit"]} if "perToolRateLimit" in settings else {}
    verdict = may_invoke(
        given["spec"],
        given["rawInput"],
        allow_destructive=settings["allowDestructive"],
        recent=[(call["toolName"], call["at"]) for call in given["recentInvocations"]],
        now_ms=given["now"],
        **limits,
    )
    reminder = verdict.reminder is not None
    return {"allow": verdict.allow, "reason": verdict.reason, "reminder": reminder}


def give_iteration(given: Given) -> Any:
    """The iteration of a plan, or the row that carries it."""
    if given["fn"] == "append":
        return _append(given)
    steps = [
        PlannedStep(step["toolName"], step["params"], step["summary"])
        for step in given["plan"]["steps"]
    ]
    summary = given["plan"]["summary"]
    return {"iteration": iteration_from_plan(steps, summary, given["iterationId"], given["now"])}


ROW = {
    "app_id": "ai",
    "table_name": "aiMissions",
    "op": "update",
    "client_id": "mana-ai-runner",
    "schema_version": 1,
    "origin": "agent",
}
"""What the database writes into each such row; tests/integration/test_written_rows.py reads one."""


def _append(given: Given) -> Any:
    if not given["userId"]:
        return {"error": True}  # a capability names its user, so that no such row can be written
    agent = given["agent"]
    author = Author(agent["id"], agent["name"]) if agent else None
    row = ROW | {
        "user_id": given["userId"],
        "record_id": given["missionId"],
        "data": {"iterations": append_iteration(given["existing"], given["newIteration"])},
        "field_meta": {"iterations": given["now"]},
        "actor": row_actor(given["missionId"], given["iterationId"], author, given["rationale"]),
    }
    return {"row": row}


# --- the table ----------------------------------------------------------------------------------


def _suite(
    name: str, give: Callable[[Given], Any], view: View = as_is
) -> Callable[[Case], Outcome]:
    return lambda case: judge(case, give, OVERRIDES[name], view)


def _grant(case: Case) -> Outcome:
    """Grants and sealed values stand in files of their own."""
    from tests.vectors.granting import give_grant

    return judge(case, give_grant, OVERRIDES["grant"])


def _aesgcm(case: Case) -> Outcome:
    from tests.vectors.granting import give_sealed, view_sealed

    return judge(case, give_sealed, OVERRIDES["aesgcm"], view_sealed)


def _tick(case: Case) -> Outcome:
    """A case of the one suite that needs a database: one is started when the first case asks."""
    from tests.vectors.tick import give_tick, view_tick

    return judge(case, give_tick, OVERRIDES["tick"], view_tick)


def _prompt(case: Case) -> Outcome:
    """A case of suite `prompt`, held against what our rules demand; runs need a database."""
    matching = [each for each in OVERRIDES["prompt"] if each.applies(case["input"])]
    demanded = matching[0].value(case["input"]) if matching else case["expected"]
    outcome = _prompt_as_demanded(case | {"expected": demanded})
    if outcome.status != "passed" or demanded == case["expected"]:
        return outcome
    return Outcome("overridden", tuple(each.name for each in matching))


def _prompt_as_demanded(case: Case) -> Outcome:
    if case["input"]["fn"] != "run":
        return judge(case, planner.give_prompt, (), planner.view_prompt)
    from tests.vectors.prompt_runs import give_run, view_run

    return judge(case, give_run, (), view_run)


SUITES: dict[str, Callable[[Case], Outcome]] = {
    "lww": _suite("lww", give_lww, view_lww),
    "due": _suite("due", give_due, view_due),
    "actor": _suite("actor", give_actor, view_actor),
    "cadence": _suite("cadence", give_cadence),
    "iteration": _suite("iteration", give_iteration),
    "policy": _suite("policy", give_policy),
    "grant": _grant,
    "aesgcm": _aesgcm,
    "planner_loop": _suite("planner_loop", planner.give_loop),
    "reminders": _suite("reminders", planner.give_reminders, planner.view_reminders),
    "injection": _suite("injection", planner.give_injection),
    "prompt": _prompt,
    "tick": _tick,
    "llm_alias": _suite("llm_alias", give_llm, view_llm),
    "staging": _suite("staging", give_staging, view_staging),
}
