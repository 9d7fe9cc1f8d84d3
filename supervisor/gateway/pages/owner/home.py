"""Home: what waits, what happened today, what comes next, and the agents with their budgets."""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime, timedelta
from typing import Any

import msgspec
from starlette.responses import Response

from state.log.stamps import datetime_of, parse_instant
from state.proposals.proposal import OPEN, Proposal
from state.store.gateway.proposals import ProposalFilter, proposals_in
from state.store.own.glance import DayUse, HistoryFilter
from state.store.owner import AgentBudget, OwnMission
from supervisor.gateway.answers import query
from supervisor.gateway.pages import words
from supervisor.gateway.pages.charts import Gauge, Sparkline, gauge, sparkline
from supervisor.gateway.pages.owner.gate import Visit
from supervisor.gateway.pages.owner.overview import Overview, awake_of, overview_of, reading, staged
from supervisor.gateway.pages.page import page
from supervisor.gateway.pages.reader import Reader
from supervisor.gateway.pages.translations import translations_of
from supervisor.gateway.people.made.templates import templates
from supervisor.gateway.people.made.wire import AgentShown
from supervisor.node.models import is_rehearsing

MOST_PROPOSALS = 200
MOST_TODAY, MOST_NEXT = 12, 6
WEEK = timedelta(days=7)


class WaitingGroup(msgspec.Struct, frozen=True):
    """The proposals of one plan that wait."""

    iteration: str
    agent: str
    mission: str
    count: int


class NextRun(msgspec.Struct, frozen=True):
    """A mission that runs next, and why it may not."""

    at: datetime
    mission: str
    title: str
    reason: str | None


class AgentLine(msgspec.Struct, frozen=True, kw_only=True):
    """One agent at a glance."""

    agent: AgentShown
    state: str
    running: int
    used: int
    held: int
    cap: int | None
    gauge: Gauge | None
    spark: Sparkline
    next_at: datetime | None


async def get_home(visit: Visit) -> Response:
    """`/me`."""
    query(visit.request, ())
    return page(visit.reader, "owner/home.html", **await home_values(visit))


async def get_agents(visit: Visit) -> Response:
    """`/me/agents`: all of them."""
    query(visit.request, ())
    return page(visit.reader, "owner/agents.html", **await home_values(visit))


async def home_values(visit: Visit) -> dict[str, Any]:
    """What the page says."""
    user, reader = visit.caller.user, visit.reader
    await staged(visit)
    today = reader.now.astimezone(reader.zone).replace(hour=0, minute=0, second=0, microsecond=0)
    since = today - WEEK + timedelta(days=1)
    async with reading(visit) as look:
        view, glance = look.owners.view, look.owners.glance
        overview = await overview_of(look)
        happened = await glance.history(user, today, MOST_TODAY, HistoryFilter())
        decided = await view.missions(user, MOST_PROPOSALS)
        used = await glance.use_by_day(user, reader.zone.key, since)
        budgets, _ = await view.budgets(user, MOST_PROPOSALS)
        async with look.owners.own_log.acting(user) as own:
            proposals = await proposals_in(own, MOST_PROPOSALS, ProposalFilter(due=True))
    return {
        "overview": overview,
        "of_others": [
            one for one in overview.missions.values() if one.agent_id not in overview.agents
        ],
        "groups": waiting_groups(proposals, overview, reader),
        "happened": [one for one in happened if one.mission_id in overview.missions],
        "coming": _coming(overview, decided, reader),
        "agents": agent_lines(overview, budgets, used, await awake_of(visit), reader),
        "templates": templates(),
        "rehearses": is_rehearsing(visit.deps.settings),
    }


def waiting_groups(
    proposals: list[Proposal], overview: Overview, reader: Reader
) -> list[WaitingGroup]:
    """What waits, plan by plan, the newest first."""
    by_plan: defaultdict[tuple[str, str, str], int] = defaultdict(int)
    for one in proposals:
        if one.state in OPEN:
            by_plan[one.iteration_id, one.agent_id, one.mission_id] += 1
    return [
        WaitingGroup(iteration, overview.agent_name(agent), overview.title(mission, reader), count)
        for (iteration, agent, mission), count in by_plan.items()
    ]


def agent_lines(
    overview: Overview,
    budgets: list[AgentBudget],
    used: list[DayUse],
    awake: dict[str, Any] | None,
    reader: Reader,
) -> list[AgentLine]:
    """Each agent that is not archived, those at work first."""
    by_agent = {one.agent_id: one.own for one in budgets}
    _ = translations_of(reader.language).gettext
    today = reader.now.astimezone(reader.zone).date()
    lines: list[AgentLine] = []
    for agent in overview.agents.values():
        if agent.state == "archived":
            continue
        held = (awake or {}).get(agent.id)
        process = "unknown" if awake is None else "asleep" if held is None else "awake"
        budget = by_agent.get(agent.id)
        days = [0] * 7
        for use in used:
            if use.agent_id == agent.id and 0 <= (today - use.day).days < 7:
                days[6 - (today - use.day).days] += use.tokens
        due = [
            _instant(one.next_run_at)
            for one in overview.missions.values()
            if one.agent_id == agent.id and one.state == agent.state == "active"
        ]
        cap = None if budget is None else budget.cap
        ordered = 0 if held is None else len(held.get("running", ()))
        spent, kept = (0, 0) if budget is None else (budget.used, budget.held)
        label = _("%(used)s of %(cap)s tokens in 24 hours") % {
            "used": words.number(spent, reader),
            "cap": words.number(cap, reader),
        }
        lines.append(
            AgentLine(
                agent=agent,
                state=agent.state if agent.state != "active" else process,
                running=min(ordered, agent.max_concurrent_missions),  # the others wait for those
                used=spent,
                held=kept,
                cap=cap,
                gauge=None if cap is None else gauge(cap, spent, kept, label),
                spark=sparkline(days, _("Tokens of the last 7 days")),
                next_at=min((at for at in due if at is not None), default=None),
            )
        )
    return sorted(lines, key=lambda line: (line.agent.state != "active", line.agent.name.lower()))


def _coming(overview: Overview, decided: list[OwnMission], reader: Reader) -> list[NextRun]:
    """Missions by when they run next; what was skipped says why."""
    reasons = {
        one.mission_id: one.reason
        for one in decided
        if one.decision and one.decision.startswith(("skipped", "deferred"))
    }
    found = [
        NextRun(at, one.id, overview.title(one.id, reader), reasons.get(one.id))
        for one in overview.missions.values()
        if one.state == "active"
        and overview.is_at_work(one.agent_id)
        and (at := _instant(one.next_run_at)) is not None
    ]
    return sorted(found, key=lambda one: one.at)[:MOST_NEXT]


def _instant(text: str | None) -> datetime | None:
    parsed = parse_instant(text) if text else None
    return None if parsed is None else datetime_of(parsed)
