"""One agent as operators see it: policy, budget, missions, runs, decisions, and why.

Ids, states, numbers and reasons only: its name, texts and plans are the owner's.
"""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from mana_actors.agent.tools.catalogue import catalogue
from mana_actors.http.bodies import answer
from state.log.principals import DEFAULT_AGENT_ID
from state.rules.policy import parse_policy, resolve
from state.store.gateway.fleet import AgentRow, Filter, MissionRow
from supervisor.gateway.answers import failure, path_part, query
from supervisor.gateway.deps import Deps
from supervisor.gateway.operators.control import Missing
from supervisor.gateway.operators.limits import warnings_of
from supervisor.gateway.supervisor import SupervisorSilent, asked

MISSIONS, RUNS, DECISIONS = 200, 20, 10


async def get_agent(request: Request, deps: Deps) -> Response:
    """`GET /internal/agents/{user}/{agent}`."""
    query(request, ())
    facts = await agent_facts(deps, path_part(request, "user"), path_part(request, "agent"))
    return failure(404, "no such agent", "agent") if facts is None else answer(facts)


async def agent_values(deps: Deps, request: Request) -> dict[str, Any]:
    """What the page of one agent says; raises Missing."""
    query(request, ())
    found = await agent_facts(deps, path_part(request, "user"), path_part(request, "agent"))
    if found is None:
        raise Missing("agent", "no such agent")
    return found | {"said": "", "warnings": await warnings_of(deps, await deps.fleet.limits())}


async def agent_facts(deps: Deps, user: str, agent: str) -> dict[str, Any] | None:
    """Everything about one agent; None where neither record nor mission names it."""
    wanted = Filter(user=user, agent=agent, limit=MISSIONS)
    memory = await _memory(deps, user, agent)  # first: rows that differ were not behind it
    record, budget, missions, runs, decisions = await asyncio.gather(
        _record(deps, user, agent),
        deps.fleet.budget(user, agent),
        deps.fleet.missions(wanted),
        deps.fleet.runs(msgspec.structs.replace(wanted, limit=RUNS)),
        deps.fleet.decisions(msgspec.structs.replace(wanted, limit=DECISIONS)),
    )
    if record is None and not missions and not runs:
        return None
    return {
        "user_id": user,
        "agent_id": agent,
        "record": record,
        "policy": await _policy(deps, user, agent),
        "budget": budget,
        "missions": missions,
        "memory": memory | _differences(memory["held"], record, missions),
        "live_runs": [run for run in runs if run.state in ("open", "waiting")],
        "runs": runs,
        "decisions": decisions,
        "problems": _problems(agent, record, missions),
    }


async def _record(deps: Deps, user: str, agent: str) -> AgentRow | None:
    wanted = Filter(user=user, agent=agent, problems=False, limit=1)
    found = await deps.fleet.agents(wanted)
    if not found:  # deleted: the list shows those only where problems are asked for
        found = await deps.fleet.agents(msgspec.structs.replace(wanted, problems=True))
    return found[0] if found and found[0].recorded else None


async def _memory(deps: Deps, user: str, agent: str) -> dict[str, Any]:
    """What the agent's process holds, in its own words."""
    try:
        held = await asked(deps.supervisor.memory_of(user, agent))
    except SupervisorSilent:
        return {"state": "unknown", "held": None}
    return {"state": "asleep" if held is None else "awake", "held": held}


def _differences(
    held: dict[str, Any] | None, record: AgentRow | None, missions: list[MissionRow]
) -> dict[str, Any]:
    """Where what the process holds is not what the rows say: a moment later it should be."""
    if held is None:
        return {"agent_differs": False, "missions_differ": []}
    own, known = None if record is None else record.version, held["missions"]
    return {
        "agent_differs": held["agent_version"] != own,
        "missions_differ": [m.mission_id for m in missions if known.get(m.mission_id) != m.version],
    }


async def _policy(deps: Deps, user: str, agent: str) -> dict[str, Any]:
    """What the agent may use of the catalogue, as offering and accepting a tool resolve it."""
    row = await deps.fleet.policy(user, agent)
    raw = None if row is None or row.policy is None else msgspec.json.decode(row.policy)
    policy, problems = parse_policy(raw)
    by_decision: dict[str, list[str]] = {"auto": [], "propose": [], "deny": []}
    for tool in catalogue().values():
        by_decision[resolve(tool.name, tool.module, policy)].append(tool.name)
    # Modules that exist: other keys of a record may be anybody's text.
    known = {tool.module for tool in catalogue().values()}
    return {
        "mode": deps.settings.agent.policy_mode,
        "source": "default" if raw is None else "record",
        "counts": {said: len(names) for said, names in by_decision.items()},
        "denied": by_decision["deny"],
        "auto": by_decision["auto"],
        "modules": {name: said for name, said in sorted(policy.modules.items()) if name in known},
        "default": policy.default,
        "problems": problems,
    }


def _problems(agent: str, record: AgentRow | None, missions: list[MissionRow]) -> list[str]:
    found: list[str] = []
    if record is None:
        found += [] if agent == DEFAULT_AGENT_ID else ["the agent is deleted or unknown"]
    else:
        found += record.problems
        found += ["the agent is deleted"] if record.hidden else []
        found += [] if record.complete else ["no insert row of the agent in the log"]
    for mission in missions:
        found += [f"{mission.mission_id}: {problem}" for problem in mission.problems]
        if not mission.complete:
            found.append(f"{mission.mission_id}: no insert row in the log: never due")
    return found
