"""What an agent is doing now, and in one sentence why it is or is not running."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec

from state.runs.reasons import in_words
from state.store.own.runs import OwnCall, OwnRunDetail
from state.store.owner import AgentBudget, OwnMission
from supervisor.gateway.pages import words
from supervisor.gateway.pages.owner.gate import Visit
from supervisor.gateway.pages.owner.overview import Overview, awake_of
from supervisor.gateway.pages.reader import Reader
from supervisor.gateway.pages.translations import translations_of
from supervisor.gateway.people.made.wire import AgentShown
from supervisor.gateway.supervisor import SupervisorSilent, asked


class HeldMission(msgspec.Struct, frozen=True):
    """A mission as the process holds it beside its row: two versions that are the same, or not."""

    mission: str
    held: int | None
    row: int | None


class LiveRun(msgspec.Struct, frozen=True):
    """A run that is under way: its last call to a model, and how many it has made."""

    detail: OwnRunDetail
    call: OwnCall | None
    rounds: int


class Process(msgspec.Struct, frozen=True, kw_only=True):
    """The process: awake, asleep, or unknown where nobody could say; what it holds, ids only."""

    state: str
    place: dict[str, Any] = {}  # msgspec copies it
    held: dict[str, Any] | None = None


async def process_of(visit: Visit, agent: str) -> Process:
    """What its process is and holds now, in its own words."""
    awake = await awake_of(visit)
    if awake is not None and agent not in awake:
        return Process(state="asleep")
    try:
        held = await asked(visit.deps.supervisor.memory_of(visit.caller.user, agent))
    except SupervisorSilent:
        return Process(state="unknown")
    if held is None:
        return Process(state="asleep" if awake is not None else "unknown")
    return Process(state="awake", place=(awake or {}).get(agent, {}), held=held)


def held_missions(process: Process, rows: dict[str, int]) -> list[HeldMission]:
    """Missions that the process holds or should, by id."""
    held: dict[str, int] = {} if process.held is None else process.held.get("missions", {})
    ids = sorted({*held, *(id_ for id_ in rows if id_)})
    return [HeldMission(id_, held.get(id_), rows.get(id_)) for id_ in ids]


def why_now(
    agent: AgentShown,
    missions: list[OwnMission],
    budget: AgentBudget | None,
    overview: Overview,
    reader: Reader,
) -> str:
    """Why it is running or not, in one sentence; `missions` are its own."""
    _ = translations_of(reader.language).gettext
    told = ""
    if agent.state == "archived":
        told = _("It is archived: nothing runs.")
    elif live := min((one for one in missions if one.live_id), key=_live_order, default=None):
        title = overview.title(live.mission_id, reader)
        told = _("“%(mission)s” is running.") % {"mission": title}
        if live.live_state != "open":
            why = in_words(live.live_reason, reader.language)
            told = _("“%(mission)s” waits. %(why)s") % {"mission": title, "why": why}
    elif agent.state == "paused":
        told = _("It is paused: nothing runs until you resume it.")
    elif budget is not None and budget.full_scope:
        told = _("Its budget is used up.")
        if budget.full_back_at is not None:
            at = words.moment(budget.full_back_at, reader)
            told = _("Its budget is used up; room returns %(at)s.") % {"at": at}
    return told or _why_idle(missions, overview, reader)


def _why_idle(missions: list[OwnMission], overview: Overview, reader: Reader) -> str:
    """What it waits for, where nothing is in its way."""
    _ = translations_of(reader.language).gettext
    active = [one for one in missions if one.state == "active"]
    if not active:
        return _("It has no mission that is active.")
    due = [one for one in active if one.next_run_at is not None]
    if not due:
        return _("Its missions run only when asked.")
    first = min(due, key=_next_order)
    title, at = overview.title(first.mission_id, reader), first.next_run_at or reader.now
    if at > reader.now:
        told = {"mission": title, "at": words.moment(at, reader)}
        return _("Nothing to do before %(at)s, when “%(mission)s” is due.") % told
    why = in_words(first.reason, reader.language)
    if why and (first.decision or "").startswith(("skipped", "deferred")):
        return _("“%(mission)s” is due and does not run. %(why)s") % {"mission": title, "why": why}
    return _("“%(mission)s” is due and has its turn next.") % {"mission": title}


def _live_order(one: OwnMission) -> tuple[bool, str]:
    return one.live_state != "open", one.mission_id


def _next_order(one: OwnMission) -> datetime:
    assert one.next_run_at is not None
    return one.next_run_at
