"""An agent: what it is doing, its budget, its missions, what it may do and read, what happened."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from datetime import timedelta
from typing import Any

import msgspec
from starlette.responses import Response

from mana_actors.agent.tools.catalogue import catalogue
from mana_actors.http.bodies import BadRequest
from mana_actors.http.paths import segment
from state.log.own_changes import RecordAt
from state.rules.policy import decide, parse_policy
from state.store.gateway.own_log import NoSuchRecord
from state.store.own.glance import DayUse
from state.store.owner import AgentBudget, OwnMission
from supervisor.gateway.answers import path_part, query
from supervisor.gateway.api.requests import form_as
from supervisor.gateway.pages import words
from supervisor.gateway.pages.charts import BarChart, bar_chart, gauge
from supervisor.gateway.pages.owner.gate import Visit
from supervisor.gateway.pages.owner.overview import Overview, cadence_of, overview_of
from supervisor.gateway.pages.owner.things import verb_of
from supervisor.gateway.pages.page import page, seen
from supervisor.gateway.pages.reader import Reader
from supervisor.gateway.pages.translations import translations_of
from supervisor.gateway.people.inbox.proposals import inbox_of
from supervisor.gateway.people.made.agents import agent_changed, agent_switched
from supervisor.gateway.people.made.wire import AgentFields, AgentShown, MissionShown
from supervisor.gateway.supervisor import SupervisorSilent, asked

MOST_BUDGETS, MOST_HAPPENED = 200, 30
MONTH = timedelta(days=30)
EDITED = ("name", "role", "systemPrompt", "memory")
PERMISSIONS = ("deny", "propose", "auto")


class ToolShown(msgspec.Struct, frozen=True):
    """A tool: what it does in words, and whether the agent may."""

    name: str
    verb: str
    decision: str


class ModuleTools(msgspec.Struct, frozen=True):
    """The tools of a module; `decision` is all tools' where they have the same, else `mixed`."""

    module: str
    decision: str
    tools: list[ToolShown]


class MissionLine(msgspec.Struct, frozen=True):
    """One of its missions: its record, its cadence, and what was decided last."""

    mission: MissionShown
    cadence: Any
    decided: OwnMission | None


async def get_agent(visit: Visit) -> Response:
    """`/me/agents/{agent}`."""
    query(visit.request, ())
    id_, owners, user = path_part(visit.request, "agent"), visit.owners, visit.caller.user
    reader = visit.reader
    overview = await overview_of(visit)
    agent = overview.agents.get(id_)
    if agent is None:
        raise NoSuchRecord
    store, _ = await inbox_of(visit.caller, owners)
    today = reader.now.astimezone(reader.zone).replace(hour=0, minute=0, second=0, microsecond=0)
    since = today - timedelta(days=6)
    used, (budgets, together), decided, happened, approvals, memory = await asyncio.gather(
        owners.glance.use_by_day(user, reader.zone.key, since),
        owners.view.budgets(user, MOST_BUDGETS),
        owners.view.missions(user, MOST_BUDGETS),
        owners.glance.history(user, reader.now - MONTH, MOST_HAPPENED, id_),
        store.approvals(user),
        _memory(visit, id_),
    )
    budget = next((one for one in budgets if one.agent_id == id_), None)
    by_mission = {one.mission_id: one for one in decided}
    missions = [one for one in overview.missions.values() if one.agent_id == id_]
    own = [use for use in used if use.agent_id == id_]
    return page(
        reader,
        "owner/agent.html",
        agent=agent,
        here=f"/me/agents/{segment(id_)}",
        overview=overview,
        budget=budget,
        together=together,
        gauge=_gauge(budget, reader),
        chart=use_chart(own, overview, reader) if own else None,
        micros=sum(use.micros for use in own),
        missions=[MissionLine(one, cadence_of(one), by_mission.get(one.id)) for one in missions],
        modules=modules_of(agent, reader),
        approvals=[
            (one, verb_of(one.tool, reader) if one.tool else one.module)
            for one in approvals
            if one.agent_id == id_
        ],
        reads=_reads(missions),
        happened=happened,
        memory=memory,
    )


async def post_agent(visit: Visit) -> Response:
    """What a button of the page says."""
    query(visit.request, ())
    id_, verb = path_part(visit.request, "agent"), path_part(visit.request, "verb")
    async with visit.owners.own_log.acting(visit.caller.user, visit.caller.spaces) as own:
        match verb:
            case "pause" | "resume" | "archive":
                await agent_switched(own, id_, verb)
            case "edit":
                given = {name: visit.form[name] for name in EDITED if name in visit.form}
                asked_ = form_as(given, AgentFields)
                await agent_changed(own, id_, asked_, visit.form.get("version"))
            case "policy":
                record = await own.record(RecordAt("ai", "agents", id_))
                policy = policy_with(record.fields.get("policy"), visit.form)
                await agent_changed(own, id_, AgentFields(policy=policy))
            case _:
                raise BadRequest("verb", "is not known here")
    return seen(f"/me/agents/{segment(id_)}")


async def post_revoke(visit: Visit) -> Response:
    """End a standing approval; nothing more is approved by it."""
    query(visit.request, ())
    id_, agent = path_part(visit.request, "id"), path_part(visit.request, "agent")
    store, asking = await inbox_of(visit.caller, visit.owners)
    listed = [one.id for one in await store.approvals(visit.caller.user)]
    if id_ not in listed or not await store.revoke_approval(asking, id_):
        raise NoSuchRecord
    return seen(f"/me/agents/{segment(agent)}")


def modules_of(agent: AgentShown, reader: Reader) -> list[ModuleTools]:
    """What it may do, module by module, as offering and accepting a tool decide it."""
    policy, _ = parse_policy(agent.policy)
    by_module: defaultdict[str, list[ToolShown]] = defaultdict(list)
    for tool in catalogue().values():
        said = decide(tool.name, tool.module, tool.default_policy, policy)
        by_module[tool.module].append(ToolShown(tool.name, verb_of(tool.name, reader), said))
    return [
        ModuleTools(
            module,
            tools[0].decision if len({one.decision for one in tools}) == 1 else "mixed",
            tools,
        )
        for module, tools in sorted(by_module.items())
    ]


def policy_with(raw: object, form: dict[str, str]) -> dict[str, Any]:
    """A policy with what a form says of tools (`tool.NAME`); raises BadRequest."""
    policy, _ = parse_policy(raw)
    tools = {
        tool.name: decide(tool.name, tool.module, tool.default_policy, policy)
        for tool in catalogue().values()
    }
    for name, text in form.items():
        tool = name.removeprefix("tool.")
        if tool == name:
            continue
        if tool not in tools:
            raise BadRequest("tool", "is not known here")
        said = next((one for one in PERMISSIONS if one == text), None)
        if said is None:
            raise BadRequest(tool, f"must be one of {', '.join(PERMISSIONS)}")
        tools[tool] = said
    default = policy.default if raw is not None else "propose"
    return {"tools": tools, "defaultsByModule": {}, "defaultForAi": default}


def use_chart(used: list[DayUse], overview: Overview, reader: Reader) -> BarChart:
    """Tokens by mission over seven days."""
    _ = translations_of(reader.language).gettext
    today = reader.now.astimezone(reader.zone).date()
    series: defaultdict[str, list[int]] = defaultdict(_a_week)
    for use in used:
        if 0 <= (back := (today - use.day).days) < 7:
            series[overview.title(use.mission_id, reader)][6 - back] += use.tokens
    days = [words.weekday(reader.now - timedelta(days=back), reader) for back in range(6, -1, -1)]
    return bar_chart(_("Tokens by mission, last 7 days"), days, series, _("others"))


def _a_week() -> list[int]:
    return [0] * 7


def _gauge(budget: AgentBudget | None, reader: Reader) -> Any:
    if budget is None or budget.own.cap is None:
        return None
    of = budget.own
    label = translations_of(reader.language).gettext("%(used)s of %(cap)s tokens in 24 hours") % {
        "used": words.number(of.used, reader),
        "cap": words.number(of.cap, reader),
    }
    return gauge(budget.own.cap, of.used, of.held, label)


def _reads(missions: list[MissionShown]) -> list[tuple[str, int, str]]:
    """Tables that its missions are given, with how many records, by mission."""
    found: list[tuple[str, int, str]] = []
    for one in missions:
        by_table: defaultdict[str, int] = defaultdict(int)
        for ref in one.inputs:
            by_table[ref["table"]] += 1
        found += [(table, count, one.id) for table, count in by_table.items()]
    return found


async def _memory(visit: Visit, agent: str) -> dict[str, Any]:
    """What its process holds now, in its own words."""
    try:
        held = await asked(visit.deps.supervisor.memory_of(visit.caller.user, agent))
    except SupervisorSilent:
        return {"state": "unknown", "held": None}
    return {"state": "asleep" if held is None else "awake", "held": held}
