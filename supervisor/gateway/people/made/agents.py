"""`/api/v1/me/agents`: what a person's agents are, and making and changing them."""

from functools import partial
from typing import Any
from uuid import uuid4

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from mana_actors.agent.tools.catalogue import catalogue
from mana_actors.http.bodies import answer
from mana_actors.json_values import as_object
from state.log.own_changes import RecordAt, owner_writes
from state.rules.policy import parse_policy
from state.store.gateway.own_log import OwnRecord, OwnWrites
from supervisor.custody.vaults import Caller
from supervisor.gateway.answers import path_part
from supervisor.gateway.api import requests
from supervisor.gateway.api.problems import ApiProblem, invalid
from supervisor.gateway.api.requests import (
    Done,
    body_of,
    carried_out,
    changed,
    expected_version,
)
from supervisor.gateway.people.made.templates import templates
from supervisor.gateway.people.made.wire import (
    AgentFields,
    AgentPage,
    AgentShown,
    AgentWanted,
    NothingWanted,
    agent_shown,
    given,
)
from supervisor.gateway.people.owners import Owners

FIELDS = (
    "name", "role", "avatar", "systemPrompt", "memory", "policy", "maxTokensPerDay",
    "maxConcurrentMissions",
)  # fmt: skip
MAX_AGENTS = 200


async def get_agents(request: Request, caller: Caller, owners: Owners) -> Response:
    """Own agents by id."""
    limit, after, _ = requests.page_of(request)
    async with owners.own_log.acting(caller.user) as own:
        found = await own.records("agents", limit, after)
    items = [agent_shown(one) for one in found if one.is_listed]
    more = requests.next_page(found[-1].at.id if len(found) == limit else None)
    return answer(msgspec.to_builtins(AgentPage(items, more)))


async def get_agent(request: Request, caller: Caller, owners: Owners) -> Response:
    """One agent."""
    async with owners.own_log.acting(caller.user, caller.spaces) as own:
        record = await agent_of(own, path_part(request, "agent"), hold=False)
    return requests.shown(msgspec.to_builtins(agent_shown(record)))


async def post_agent(request: Request, caller: Caller, owners: Owners) -> Response:
    """A new agent."""
    asked = await body_of(request, AgentWanted)

    async def done(own: OwnWrites) -> Done:
        return Done(201, msgspec.to_builtins(await agent_made(own, asked)))

    return await carried_out(request, caller, owners.own_log, asked, done)


async def agent_made(own: OwnWrites, asked: AgentWanted, id_: str | None = None) -> AgentShown:
    """A new agent under a fresh id, from a template where one is named.

    Raises ApiProblem and ChangeRefused.
    """
    said = given(asked, *FIELDS)
    if isinstance(asked.template, str):
        if asked.template not in templates():
            raise invalid(("template", f"must be one of {', '.join(sorted(templates()))}"))
        said = msgspec.to_builtins(templates()[asked.template]) | said
    if "name" not in said:
        raise invalid(("name", "is missing"))
    _check(said)
    everything: dict[str, Any] = {
        "role": "",
        "policy": _whole_policy({}),
        "maxConcurrentMissions": 1,
        "state": "active",
        **{name: value for name, value in said.items() if value is not None},
    }
    space = asked.space_id if isinstance(asked.space_id, str) else None
    at = RecordAt("ai", "agents", id_ or str(uuid4()))
    await own.record(at)
    await _name_is_free(own, everything["name"], but=at.id)
    return agent_shown(await own.insert(at, everything, owner_writes(own.user), space=space))


async def patch_agent(request: Request, caller: Caller, owners: Owners) -> Response:
    """The fields that are given, anew; null clears one."""
    asked = await body_of(request, AgentFields)
    id_ = path_part(request, "agent")
    change = partial(agent_changed, id_=id_, asked=asked, expects=expected_version(request))
    return await changed(request, caller, owners.own_log, asked, change)


async def agent_changed(
    own: OwnWrites, id_: str, asked: AgentFields, expects: str | None = None
) -> AgentShown:
    """The agent with these fields anew; raises ApiProblem, NoSuchRecord and VersionConflict."""
    said = given(asked, *FIELDS)
    _check(said)
    record = await agent_of(own, id_)
    if "name" in said:
        await _name_is_free(own, said["name"], but=id_)
    if said:
        record = await own.update(record, said, owner_writes(own.user), expects)
    return agent_shown(record)


async def post_state(request: Request, caller: Caller, owners: Owners) -> Response:
    """Pause, resume or archive: the last word of the path says which."""
    asked = await body_of(request, NothingWanted)
    verb, id_ = request.scope["path"].rpartition("/")[2], path_part(request, "agent")
    change = partial(agent_switched, id_=id_, verb=verb, expects=expected_version(request))
    return await changed(request, caller, owners.own_log, asked, change)


async def agent_switched(
    own: OwnWrites, id_: str, verb: str, expects: str | None = None
) -> AgentShown:
    """The agent after `pause`, `resume` or `archive`; raises NoSuchRecord and VersionConflict."""
    wish = {"pause": "paused", "resume": "active", "archive": "archived"}[verb]
    record = await agent_of(own, id_)
    if agent_shown(record).state != wish:
        record = await own.update(record, {"state": wish}, owner_writes(own.user), expects)
    return agent_shown(record)


async def agent_of(own: OwnWrites, id_: str, *, hold: bool = True) -> OwnRecord:
    """The agent; raises NoSuchRecord."""
    return await own.existing(RecordAt("ai", "agents", id_), "writers" if hold else "nothing")


def _check(said: dict[str, Any]) -> None:
    """Raises ApiProblem for a blank name or a policy that would be read otherwise than it says."""
    if not said.get("name", "-").strip():
        raise invalid(("name", "is blank"))
    if "policy" in said:
        said["policy"] = _whole_policy(said["policy"])
        _, problems = parse_policy(said["policy"])
        if problems:
            raise invalid(
                *((field, what) for field, _, what in (p.partition(": ") for p in problems))
            )


def _whole_policy(said: dict[str, Any]) -> dict[str, Any]:
    """A policy with a word for every tool, as records hold it: by default the catalogue's."""
    by_module = as_object(said.get("defaultsByModule")) or {}
    tools = {
        tool.name: tool.default_policy
        for tool in catalogue().values()
        if tool.module not in by_module  # whose word a tool's own would hide
    }
    named = said.get("tools", {})
    return {
        "defaultForAi": "propose",
        **said,
        "tools": {**tools, **named} if isinstance(named, dict) else named,
    }


async def _name_is_free(own: OwnWrites, name: str, *, but: str) -> None:
    """Raises ApiProblem for a name that another agent of theirs has; their writers are held."""
    others = await own.records("agents", MAX_AGENTS + 1)
    living = [one for one in others if one.exists and one.at.id != but]
    if len(living) >= MAX_AGENTS:
        raise ApiProblem(409, f"nobody has more than {MAX_AGENTS} agents")
    if name.strip().casefold() in {agent_shown(one).name.strip().casefold() for one in living}:
        raise invalid(("name", "is another agent's of yours"))
