"""Break-glass: operators open a person's texts, with a reason that is written down before.

`POST /internal/agents/{user}/{agent}/texts` and `GET /internal/openings`; pages do the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast
from uuid import UUID

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from mana_actors.http.bodies import BadRequest, answer, json_object
from state.log.principals import DEFAULT_AGENT_ID
from state.sealing.values import is_sealed
from state.store.gateway.fleet import Filter
from state.store.gateway.openings import LiveOpening, Opening, Operator
from supervisor.custody.vaults import Caller
from supervisor.gateway.answers import path_part, query, whole_number
from supervisor.gateway.cursors import Moment, cursor, read_cursor
from supervisor.gateway.deps import Deps
from supervisor.gateway.operators.control import Missing
from supervisor.gateway.people.owners import Owners
from supervisor.gateway.people.requests import from_where

SEALED = "(sealed)"
SHORTEST, LONGEST = 10, 500
MOST_MISSIONS, MOST_PLANS = 200, 3
OpeningPlace = tuple[Moment, UUID]


class StepText(msgspec.Struct, frozen=True):
    """What a plan would do, and why."""

    summary: str
    rationale: str


class PlanText(msgspec.Struct, frozen=True):
    """What a model wrote for one iteration."""

    iteration: str
    run: str | None
    summary: str
    steps: list[StepText]


class MissionText(msgspec.Struct, frozen=True):
    """A mission's own words, and its newest plans."""

    mission: str
    title: str
    objective: str
    plans: list[PlanText]


class AgentTexts(msgspec.Struct, frozen=True):
    """Everything of an agent that is its owner's to read."""

    name: str
    role: str
    persona: str
    missions: list[MissionText]


async def post_texts(request: Request, deps: Deps) -> Response:
    """Open an agent's texts: the reason first, then what they say."""
    query(request, ())
    body = await json_object(request, 4096)
    if unknown := body.keys() - {"reason", "run"}:
        raise BadRequest(min(unknown), "is not known here")
    user, agent = path_part(request, "user"), path_part(request, "agent")
    by = operator_of(request, "service key")
    opening = await opened(deps, user, agent, reason=body.get("reason"), run=body.get("run"), by=by)
    texts = await texts_of(owners_of(deps), user, agent)
    return answer({"opening": opening, "texts": texts}, 201)


async def get_openings(request: Request, deps: Deps) -> Response:
    """Who opened whose texts, when and why, the newest first."""
    given = query(request, ("user", "limit", "before"))
    limit = whole_number("limit", given.get("limit", "50"), 1, 200)
    before = read_cursor(given["before"], OpeningPlace) if "before" in given else None
    found = await owners_of(deps).openings.list(given.get("user"), limit, before)
    return answer({"items": found, "before": next_opening(found, limit)})


def next_opening(found: list[Opening], limit: int) -> str | None:
    """Where a list of openings goes on, None at its end."""
    return cursor((found[-1].at, found[-1].opening_id)) if len(found) == limit else None


async def opened(
    deps: Deps, user: str, agent: str, *, reason: object, run: object, by: Operator
) -> LiveOpening:
    """The opening, durable; raises BadRequest, Missing, and whatever keeps it from being written.

    Nothing of a person's is read before.
    """
    run_id = _run_of(run)
    said = " ".join(reason.split()) if isinstance(reason, str) else ""
    if not SHORTEST <= len(said) <= LONGEST or not said.isprintable():
        raise BadRequest("reason", f"must say why in {SHORTEST} to {LONGEST} characters")
    if agent != DEFAULT_AGENT_ID:
        wanted = Filter(user=user, agent=agent, problems=False, limit=1)
        if not await deps.fleet.agents(wanted):
            raise Missing("agent", "no such agent")
    return await owners_of(deps).openings.add(user, agent, run_id, said, by)


async def texts_of(owners: Owners, user: str, agent: str) -> AgentTexts:
    """What is readable of them here; what is sealed for its owner says so."""
    async with owners.own_log.acting(user) as own:
        agents = await own.records("agents", MOST_MISSIONS)
        missions = [
            one
            for one in await own.records("aiMissions", MOST_MISSIONS)
            if one.is_listed and (one.fields.get("agentId") or DEFAULT_AGENT_ID) == agent
        ]
    none: dict[str, Any] = {}
    fields = next((one.fields for one in agents if one.at.id == agent), none)
    listed: list[MissionText] = []
    for one in missions:
        found = await owners.runs.iterations(user, one.at.id, MOST_PLANS)
        plans = [] if found is None else found[0]
        listed.append(
            MissionText(
                one.at.id,
                _text(one.fields, "title"),
                _text(one.fields, "objective"),
                [
                    PlanText(
                        str(plan.iteration.get("id") or ""),
                        None if plan.run_id is None else str(plan.run_id),
                        _text(plan.iteration, "summary"),
                        _steps(plan.iteration.get("plan")),
                    )
                    for plan in plans
                ],
            )
        )
    persona = _text(fields, "systemPrompt")
    return AgentTexts(_text(fields, "name"), _text(fields, "role"), persona, listed)


def operator_of(request: Request, name: str) -> Operator:
    """Who asks, and from where as they say."""
    where = from_where(request, Caller(""))
    return Operator(name, where.ip_address, where.user_agent)


def owners_of(deps: Deps) -> Owners:
    """Raises Missing where this server serves no people."""
    if deps.owners is None:
        raise Missing("texts", "this server serves no people")
    return deps.owners


def _run_of(text: object) -> UUID | None:
    if text is None or text == "":
        return None
    try:
        return UUID(str(text))
    except ValueError:
        raise BadRequest("run", "is no run's id") from None


def _steps(plan: object) -> list[StepText]:
    listed = cast("list[Any]", plan) if isinstance(plan, list) else []
    steps = [cast("dict[str, Any]", step) for step in listed if isinstance(step, dict)]
    return [StepText(_text(step, "summary"), _text(step, "rationale")) for step in steps]


def _text(fields: Mapping[str, Any], name: str) -> str:
    value = fields.get(name)
    if is_sealed(value):
        return SEALED
    return value if isinstance(value, str) else ""
