"""What an owner does about a run: end it, and say words on its plan."""

from __future__ import annotations

from uuid import UUID

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from mana_actors.http.bodies import answer
from state.proposals.answers import AnswerRefused
from state.store.gateway.control import NotPossible
from state.store.gateway.own_log import NoSuchRecord, OwnWrites
from state.store.gateway.proposals import commented_in
from supervisor.custody.vaults import Caller
from supervisor.gateway.answers import path_part
from supervisor.gateway.api.problems import ApiProblem, invalid
from supervisor.gateway.api.requests import Done, body_of, carried_out
from supervisor.gateway.people.made.missions import mission_of
from supervisor.gateway.people.made.wire import CancelWanted, FeedbackWanted
from supervisor.gateway.people.owners import Owners


async def post_cancel(request: Request, caller: Caller, owners: Owners) -> Response:
    """End the run that is under way, or the one that is named; its due time counts as served."""
    asked, id_ = await body_of(request, CancelWanted), path_part(request, "mission")
    run = None
    if isinstance(asked.run_id, str):
        try:
            run = UUID(asked.run_id)
        except ValueError:
            raise invalid(("runId", "is no id of a run")) from None
    async with owners.own_log.acting(caller.user, caller.spaces) as own:
        record = await mission_of(own, id_, hold=False)
    if record.owner != caller.user:
        raise ApiProblem(403, "only the owner of a mission ends its runs")
    if owners.end_run is None:
        raise ApiProblem(503, "no run is ended from here")
    try:
        ended = await owners.end_run(caller.user, id_, run)
    except NotPossible as exc:
        raise ApiProblem(409, exc.why) from exc
    if ended is None:
        what = "no run of it is under way" if run is None else "it has no such run"
        raise ApiProblem(409 if run is None else 404, what)
    told = {"missionId": id_, "runId": str(ended.run_id), "changed": ended.changed}
    return answer(told)


async def post_feedback(request: Request, caller: Caller, owners: Owners) -> Response:
    """Words on a plan, which the agent reads before its next; once per Idempotency-Key."""
    asked = await body_of(request, FeedbackWanted)
    mission, plan = path_part(request, "mission"), path_part(request, "iteration")
    words = asked.words.strip()
    if not words:
        raise invalid(("words", "are missing"))

    async def done(own: OwnWrites) -> Done:
        try:
            if not await commented_in(own, mission, plan, words):
                raise NoSuchRecord
        except AnswerRefused as exc:
            raise ApiProblem(422, exc.why) from exc
        told = {"missionId": mission, "iterationId": plan, "words": words}
        return Done(200, msgspec.to_builtins(told))

    return await carried_out(request, caller, owners.own_log, asked, done)
