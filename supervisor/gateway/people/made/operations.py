"""All that people can ask for about agents and missions."""

from typing import Any

import msgspec

from supervisor.gateway.api.openapi import Operation, reading
from supervisor.gateway.people.made import agents, control, missions, person, schedule, templates
from supervisor.gateway.people.made.wire import (
    AgentFields,
    AgentPage,
    AgentShown,
    AgentWanted,
    CancelWanted,
    FeedbackWanted,
    MissionFields,
    MissionPage,
    MissionShown,
    MissionWanted,
    NothingWanted,
)


class MissionDeleted(msgspec.Struct, frozen=True):
    """A mission that is gone."""

    id: str
    deleted: bool


class RunAsked(msgspec.Struct, frozen=True, rename="camel"):
    """A run that was asked for."""

    mission_id: str
    due_at: str


class RunCancelled(msgspec.Struct, frozen=True, rename="camel"):
    """A run that ended; not `changed`: it had been ended before."""

    mission_id: str
    run_id: str
    changed: bool


class FeedbackKept(msgspec.Struct, frozen=True, rename="camel"):
    """Words that are kept with a plan."""

    mission_id: str
    iteration_id: str
    words: str


class TemplateList(msgspec.Struct, frozen=True):
    """Agents to begin with."""

    templates: dict[str, templates.AgentTemplate]


TEMPLATES = "/api/v1/me/agent-templates"
AGENTS = "/api/v1/me/agents"
MISSIONS = "/api/v1/me/missions"
_AGENT, _MISSION = f"{AGENTS}/{{agent}}", f"{MISSIONS}/{{mission}}"


def _state(of: str, verb: str, handler: Any, summary: str, gives: Any) -> Operation:
    return Operation(
        verb="POST",
        path=f"{of}/{verb}",
        scope="write",
        handler=handler,
        summary=summary,
        gives=gives,
        body=NothingWanted,
        versioned=True,
    )


OPERATIONS: tuple[Operation, ...] = (
    reading(
        "/api/v1/me", person.get_me, "Who I am, my scopes, spaces and zone", person.PersonShown
    ),
    Operation(
        verb="PATCH",
        path="/api/v1/me",
        scope="write",
        handler=person.patch_me,
        summary="Set the zone that my times are meant in",
        body=person.PersonFields,
        gives=person.PersonShown,
    ),
    reading(TEMPLATES, templates.get_templates, "Agents to begin with", TemplateList),
    reading(AGENTS, agents.get_agents, "Own agents by id", AgentPage, paged=True),
    Operation(
        verb="POST",
        path=AGENTS,
        scope="write",
        handler=agents.post_agent,
        summary="A new agent",
        body=AgentWanted,
        gives=AgentShown,
        status=201,
    ),
    reading(_AGENT, agents.get_agent, "One agent", AgentShown),
    Operation(
        verb="PATCH",
        path=_AGENT,
        scope="write",
        handler=agents.patch_agent,
        summary="Change an agent: what is given, null clears",
        body=AgentFields,
        gives=AgentShown,
        versioned=True,
    ),
    _state(_AGENT, "pause", agents.post_state, "Nothing runs until it is resumed", AgentShown),
    _state(_AGENT, "resume", agents.post_state, "Its missions run again", AgentShown),
    _state(_AGENT, "archive", agents.post_state, "Put it away", AgentShown),
    reading(MISSIONS, missions.get_missions, "Own missions by id", MissionPage, paged=True),
    Operation(
        verb="POST",
        path=MISSIONS,
        scope="write",
        handler=missions.post_mission,
        summary="A new mission",
        body=MissionWanted,
        gives=MissionShown,
        status=201,
    ),
    reading(_MISSION, missions.get_mission, "One mission and its next runs", MissionShown),
    reading(
        f"{_MISSION}/schedule",
        schedule.get_schedule,
        "What became of each due time, and the next",
        schedule.MissionSchedule,
    ),
    Operation(
        verb="PATCH",
        path=_MISSION,
        scope="write",
        handler=missions.patch_mission,
        summary="Change a mission: what is given; a new cadence says anew when it runs",
        body=MissionFields,
        gives=MissionShown,
        versioned=True,
    ),
    Operation(
        verb="DELETE",
        path=_MISSION,
        scope="write",
        handler=missions.delete_mission,
        summary="Delete a mission; a run under way is withdrawn",
        gives=MissionDeleted,
        versioned=True,
    ),
    _state(_MISSION, "pause", missions.post_pause, "Nothing runs until resumed", MissionShown),
    _state(_MISSION, "resume", missions.post_resume, "It runs again", MissionShown),
    Operation(
        verb="POST",
        path=f"{_MISSION}/run",
        scope="write",
        handler=missions.post_run,
        summary="Run it now, once per Idempotency-Key",
        body=NothingWanted,
        gives=RunAsked,
        status=202,
    ),
    Operation(
        verb="POST",
        path=f"{_MISSION}/cancel",
        scope="write",
        handler=control.post_cancel,
        summary="End the run under way, or the one that is named",
        body=CancelWanted,
        gives=RunCancelled,
    ),
    Operation(
        verb="POST",
        path=f"{_MISSION}/iterations/{{iteration}}/feedback",
        scope="write",
        handler=control.post_feedback,
        summary="Words on a plan, which the agent reads before its next",
        body=FeedbackWanted,
        gives=FeedbackKept,
    ),
)
