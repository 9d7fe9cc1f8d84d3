"""An agent: what it is doing, its budget, its missions, what it may do and read, what happened."""

from __future__ import annotations

from collections import Counter, defaultdict
from datetime import timedelta
from typing import Any

import msgspec
from starlette.responses import Response

from mana_actors.http.bodies import BadRequest
from mana_actors.http.paths import segment
from state.log.own_changes import RecordAt
from state.rules.budgets import room
from state.store.gateway.own_log import NoSuchRecord
from state.store.gateway.proposals import approvals_in
from state.store.own.runs import OwnRuns
from state.store.owner import AgentBudget, OwnMission
from supervisor.gateway.answers import path_part, query
from supervisor.gateway.pages import words
from supervisor.gateway.pages.charts import gauge
from supervisor.gateway.pages.owner.consent.grants import grants_of
from supervisor.gateway.pages.owner.gate import Visit
from supervisor.gateway.pages.owner.overview import MOST, cadence_of, overview_from, reading
from supervisor.gateway.pages.owner.parts import history, policy
from supervisor.gateway.pages.owner.parts.process import (
    LiveRun,
    held_missions,
    process_of,
    why_now,
)
from supervisor.gateway.pages.owner.parts.tool_words import module_said, verb_of
from supervisor.gateway.pages.owner.parts.use import DAYS, use_of
from supervisor.gateway.pages.page import page, seen
from supervisor.gateway.pages.reader import Reader
from supervisor.gateway.pages.translations import translations_of
from supervisor.gateway.people.inbox.proposals import inbox_of
from supervisor.gateway.people.made.agents import agent_changed, agent_switched
from supervisor.gateway.people.made.wire import AgentFields, MissionShown

MOST_MISSIONS, MOST_LIVE, MOST_NAMED = 200, 3, 3
LISTED = 40
"""Missions that are listed at first, those that run next before all others."""


class Read(msgspec.Struct, frozen=True):
    """Records of a module that are read, and for which missions; `more` are not named."""

    module: str
    records: int
    missions: list[str]
    more: int


class MissionLine(msgspec.Struct, frozen=True):
    """One of its missions: its record, its cadence, and what was decided last."""

    mission: MissionShown
    cadence: Any
    decided: OwnMission | None


async def get_agent(visit: Visit) -> Response:
    """`/me/agents/{agent}`; `module` opens its tools, `list` all missions, the rest is history.

    `may` opens the list of what it may do.
    """
    given = query(visit.request, ("module", "may", "list", *history.FIELDS))
    id_, user, reader = path_part(visit.request, "agent"), visit.caller.user, visit.reader
    today = reader.now.astimezone(reader.zone).replace(hour=0, minute=0, second=0, microsecond=0)
    since = today - timedelta(days=DAYS - 1)
    async with reading(visit) as look:
        async with look.owners.own_log.acting(user) as log:
            agents = await log.records("agents", MOST)
            records = await log.records("aiMissions", MOST)
            approvals = await approvals_in(log)
        overview = overview_from(agents, records, reader)
        agent = overview.agents.get(id_)
        if agent is None:
            raise NoSuchRecord
        view, glance = look.owners.view, look.owners.glance
        decided = await view.missions(user, MOST_MISSIONS)
        budgets, together = await view.budgets(user, 1, agent=id_)
        used = await glance.use_of_agent(user, id_, reader.zone.key, since)
        happened = await history.history_of(look, id_, given)
        versions = await glance.versions(user, id_)
        own = [one for one in decided if one.agent_id == id_]
        live = [
            shown
            for one in [each for each in own if each.live_state == "open"][:MOST_LIVE]
            if (shown := await _live(look.owners.runs, user, one)) is not None
        ]
    process = await process_of(visit, id_)
    budget = budgets[0] if budgets else None
    by_mission = {one.mission_id: one for one in own}
    missions = sorted(
        (one for one in overview.missions.values() if one.agent_id == id_), key=_by_next_run
    )
    ids = {one.id for one in missions}
    listed = missions if "list" in given else missions[:LISTED]
    modules = policy.modules_of(agent.policy, reader)
    return page(
        reader,
        "owner/agent.html",
        agent=agent,
        here=f"/me/agents/{segment(id_)}",
        overview=overview,
        why=why_now(agent, own, budget, overview, reader),
        live=live,
        process=process,
        held=held_missions(process, versions),
        agent_row=versions.get(""),
        budget=budget,
        left=None if budget is None else room(budget.own.cap, budget.own.used, budget.own.held),
        together=together,
        gauge=_gauge(budget, reader),
        use=use_of(used, overview, reader),
        missions=missions,
        listed=[MissionLine(one, cadence_of(one), by_mission.get(one.id)) for one in listed],
        modules=modules,
        counted=policy.counted(modules),
        approvals=[
            (one, verb_of(one.tool, reader) if one.tool else module_said(one.module or "", reader))
            for one in approvals
            if one.agent_id == id_
        ],
        reads=reads_of(missions, reader),
        history=happened,
        outcomes=history.OUTCOMES,
        outcome_words=history.outcome_words(reader),
        module=given.get("module"),
        may="may" in given or "module" in given,
        grants=await grants_of([one for one in records if one.at.id in ids], visit),
    )


def _by_next_run(mission: MissionShown) -> tuple[bool, bool, str]:
    return mission.state != "active", mission.next_run_at is None, mission.next_run_at or ""


async def post_agent(visit: Visit) -> Response:
    """What a button of the page says."""
    query(visit.request, ())
    id_, verb = path_part(visit.request, "agent"), path_part(visit.request, "verb")
    async with visit.owners.own_log.acting(visit.caller.user, visit.caller.spaces) as own:
        match verb:
            case "pause" | "resume" | "archive":
                await agent_switched(own, id_, verb)
            case "policy":
                record = await own.record(RecordAt("ai", "agents", id_))
                wanted = policy.policy_with(record.fields.get("policy"), visit.form)
                expects = visit.form.get("version")
                await agent_changed(own, id_, AgentFields(policy=wanted), expects)
                return seen(f"/me/agents/{segment(id_)}?may=all#may")
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


def _gauge(budget: AgentBudget | None, reader: Reader) -> Any:
    if budget is None or budget.own.cap is None:
        return None
    of = budget.own
    label = translations_of(reader.language).gettext("%(used)s of %(cap)s tokens in 24 hours") % {
        "used": words.number(of.used, reader),
        "cap": words.number(of.cap, reader),
    }
    return gauge(budget.own.cap, of.used, of.held, label)


def reads_of(missions: list[MissionShown], reader: Reader) -> list[Read]:
    """By module, what missions are given."""
    counts: Counter[str] = Counter()
    read_by: defaultdict[str, list[str]] = defaultdict(list)
    for one in missions:
        modules = [ref["module"] for ref in one.inputs]
        counts.update(modules)
        for module in dict.fromkeys(modules):
            read_by[module].append(one.id)
    return [
        Read(module_said(of, reader), counts[of], ids[:MOST_NAMED], len(ids[MOST_NAMED:]))
        for of, ids in read_by.items()
    ]


async def _live(runs: OwnRuns, user: str, one: OwnMission) -> LiveRun | None:
    """A run that is under way, as far as it has come."""
    detail = None if one.live_id is None else await runs.run(user, one.live_id)
    if detail is None:
        return None
    rounds = {call.number for call in detail.calls}
    return LiveRun(detail, detail.calls[-1] if detail.calls else None, len(rounds))
