"""Pause, resume and cancel over HTTP: the same for the CLI (service key) and the dashboard."""

from __future__ import annotations

import logging
from typing import Literal
from uuid import UUID

from starlette.requests import Request
from starlette.responses import Response

from mana_actors.http.bodies import BadRequest, answer
from state.log.principals import DEFAULT_AGENT_ID
from state.store.gateway.control import (
    CANCELLED,
    CANCELLED_BY_OWNER,
    Cancelled,
    NotPossible,
    Switched,
    Table,
    Wish,
)
from supervisor.gateway.answers import failure, path_part, query
from supervisor.gateway.deps import Deps
from supervisor.gateway.supervisor import SupervisorSilent, asked

log = logging.getLogger("mana.gateway")
Verb = Literal["pause", "resume"]
WISHES: dict[Verb, Wish] = {"pause": "paused", "resume": "active"}


class Missing(Exception):
    """What was named does not exist: one line, and the field that names it."""

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(field, problem)
        self.field, self.problem = field, problem


async def switch(deps: Deps, user: str, table: Table, record: str, verb: Verb) -> Switched:
    """Pause an agent or a mission, or end its pause; raises Missing or NotPossible."""
    switched = await deps.control.switch(user, table, record, WISHES[verb])
    if switched is None:
        if table == "aiMissions":
            raise Missing("mission", "no such mission")
        if record == DEFAULT_AGENT_ID:
            problem = "this user has no record of the default agent to pause: pause its missions"
            raise Missing("agent", problem)
        raise Missing("agent", "no such agent")
    if switched.changed:
        log.info("state_switched table=%s record=%s/%s state=%s", table, user, record, WISHES[verb])
    return switched


async def cancel_run(deps: Deps, run_id: UUID) -> Cancelled:
    """End a run and its occurrence; raises Missing or NotPossible."""
    return await _told(deps, await deps.control.cancel(run_id), Missing("run", "no such run"))


async def cancel_own_run(deps: Deps, user: str, run_id: UUID) -> Cancelled:
    """End a run of this person's; raises Missing, also for another's, or NotPossible."""
    none = Missing("run", "no such run")
    cancelled = await deps.control.cancel_own(user, run_id)
    return await _told(deps, cancelled, none, CANCELLED_BY_OWNER)


async def cancel_mission(deps: Deps, user: str, mission: str) -> Cancelled:
    """End the run a mission has under way; raises Missing or NotPossible."""
    none = Missing("mission", "no run of this mission is under way")
    return await _told(deps, await deps.control.cancel_live(user, mission), none)


async def cancel_own_live(
    deps: Deps, user: str, mission: str, run_id: UUID | None
) -> Cancelled | None:
    """End the run that a person's mission has under way, or the one that is named; None: no such.

    Raises NotPossible.
    """
    if run_id is None:
        cancelled = await deps.control.cancel_live(user, mission, CANCELLED_BY_OWNER)
    else:
        run = None if deps.owners is None else await deps.owners.runs.run(user, run_id)
        if run is None or run.run.mission_id != mission:
            return None
        cancelled = await deps.control.cancel_own(user, run_id)
    if cancelled is None:
        return None
    return await _told(deps, cancelled, Missing("run", "no such run"), CANCELLED_BY_OWNER)


async def _told(
    deps: Deps, cancelled: Cancelled | None, none: Missing, why: str = CANCELLED
) -> Cancelled:
    """Have the run's process drop the rest of its call; its row is closed whether it hears or not.

    Told again when asked again: the first message may have got lost.
    """
    if cancelled is None:
        raise none
    if cancelled.changed:
        deps.metrics.inc("agent_decisions_total", {"decision": "withdrawn"})
        log.info(
            "run_cancelled agent=%s/%s mission=%s",
            cancelled.user_id,
            cancelled.agent_id,
            cancelled.mission_id,
        )
    pair = (cancelled.user_id, cancelled.agent_id)
    try:
        await asked(
            deps.supervisor.stop_run(*pair, cancelled.mission_id, str(cancelled.run_id), why)
        )
    except SupervisorSilent:
        log.info("cancel_not_delivered agent=%s/%s", *pair)
    return cancelled


# --- endpoints ------------------------------------------------------------------------------------


async def post_agent(request: Request, deps: Deps) -> Response:
    """`POST /internal/agents/{user}/{agent}/{verb}`: pause or resume."""
    query(request, ())
    user, agent = path_part(request, "user"), path_part(request, "agent")
    try:
        switched = await switch(deps, user, "agents", agent, _verb(request))
    except (Missing, NotPossible) as exc:
        return refused(exc)
    return answer({"user_id": user, "agent_id": agent, **_facts(switched)})


async def post_mission(request: Request, deps: Deps) -> Response:
    """`POST /internal/missions/{user}/{mission}/{verb}`: pause or resume."""
    query(request, ())
    user, mission = path_part(request, "user"), path_part(request, "mission")
    try:
        switched = await switch(deps, user, "aiMissions", mission, _verb(request))
    except (Missing, NotPossible) as exc:
        return refused(exc)
    return answer({"user_id": user, "mission_id": mission, **_facts(switched)})


async def post_cancel_mission(request: Request, deps: Deps) -> Response:
    """`POST /internal/missions/{user}/{mission}/cancel`: end the run under way."""
    query(request, ())
    user, mission = path_part(request, "user"), path_part(request, "mission")
    try:
        return answer(await cancel_mission(deps, user, mission))
    except (Missing, NotPossible) as exc:
        return refused(exc)


async def post_cancel_run(request: Request, deps: Deps) -> Response:
    """`POST /internal/runs/{run}/cancel`: end a run."""
    query(request, ())
    run_id = run_id_of(path_part(request, "run"))
    try:
        return answer(await cancel_run(deps, run_id))
    except (Missing, NotPossible) as exc:
        return refused(exc)


def refused(exc: Missing | NotPossible) -> Response:
    """404 naming what is missing, or 409 saying why it makes no sense."""
    match exc:
        case Missing():
            return failure(404, exc.problem, exc.field)
        case NotPossible():
            return failure(409, exc.why)


def run_id_of(text: str) -> UUID:
    """A run's id; raises BadRequest."""
    try:
        return UUID(text)
    except ValueError as exc:
        raise BadRequest("run", "is not the id of a run") from exc


def verb_of(text: str) -> Verb:
    """A verb of a path; raises BadRequest."""
    match text:
        case "pause" | "resume":
            return text
        case _:
            raise BadRequest("verb", "must be pause or resume")


def _verb(request: Request) -> Verb:
    return verb_of(request.url.path.rpartition("/")[2])


def _facts(switched: Switched) -> dict[str, object]:
    return {"state": switched.state, "changed": switched.changed}
