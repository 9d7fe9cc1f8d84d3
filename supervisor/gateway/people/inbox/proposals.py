"""`/api/v1/me/proposals` and what becomes of them, one by one or many at once."""

from http import HTTPStatus
from typing import Any, cast
from uuid import UUID

from starlette.requests import Request
from starlette.responses import Response

from mana_actors.http.bodies import BadRequest, answer, json_object
from state.proposals.answers import AnswerRefused
from state.store.gateway.carry_out import Answering
from state.store.gateway.own_log import NoSuchRecord
from state.store.gateway.proposals import Answered, ProposalFilter, ProposalStore
from supervisor.custody.vaults import Caller
from supervisor.gateway.answers import checked_id, path_part, query, whole_number, yes_or_no
from supervisor.gateway.api.problems import MEDIA_TYPE
from supervisor.gateway.people.inbox.wire import Json, answer_from, claimed_json, proposal_json
from supervisor.gateway.people.owners import Owners

STATES = ("pending", "waiting-for-device", "done", "rejected", "expired", "refused", "undone")
DEFAULT_LIMIT, MAX_LIMIT = 50, 200
MOST_ANSWERS = 100
MAX_DEVICE_CHARS = 128
WRONG = frozenset({"params", "past", "too-late", "too-long", "expires"})
"""Refusals of what was asked, not of when."""


async def get_proposals(request: Request, caller: Caller, owners: Owners) -> Response:
    """The newest first; `after`, given back, continues the list."""
    given = query(request, ("state", "missionId", "agentId", "due", "after", "limit"))
    if (state := given.get("state")) not in (None, *STATES):
        raise BadRequest("state", f"must be one of {', '.join(STATES)}")
    limit = whole_number("limit", given.get("limit", str(DEFAULT_LIMIT)), 1, MAX_LIMIT)
    store, asked = await inbox_of(caller, owners)
    await store.stage_all(asked)
    wanted = ProposalFilter(
        state=state,
        mission=given.get("missionId"),
        agent=given.get("agentId"),
        due=yes_or_no("due", given.get("due", "false")),
    )
    before = None
    if (after := given.get("after")) is not None:
        last = await store.find(caller.user, _uuid("after", after))
        if last is None:
            raise BadRequest("after", "is not a proposal of yours")
        before = (last.created_at, UUID(last.id))
    found = await store.list(caller.user, limit, wanted, before)
    more = found[-1].id if len(found) == limit else None
    return answer({"proposals": [proposal_json(one) for one in found], "after": more})


async def get_proposal(request: Request, caller: Caller, owners: Owners) -> Response:
    """One of them."""
    query(request, ())
    store, _ = await inbox_of(caller, owners)
    found = await store.find(caller.user, _uuid("id", path_part(request, "id")))
    if found is None:
        raise NoSuchRecord
    return answer(proposal_json(found))


async def post_answer(request: Request, caller: Caller, owners: Owners) -> Response:
    """Answer one: 200 with what became of it, 409 where an answer counts no more."""
    id_ = _uuid("id", path_part(request, "id"))
    said = answer_from(await json_object(request))
    store, asked = await inbox_of(caller, owners)
    return _told(await store.answer(asked, id_, said))


async def post_answers(request: Request, caller: Caller, owners: Owners) -> Response:
    """Answer many, each on its own: what is wrong with one keeps no other from being answered."""
    body = await json_object(request)
    entries = body.get("resume")
    if not isinstance(entries, list) or set(body) != {"resume"}:
        raise BadRequest("resume", "must be the list of answers, and all there is")
    listed = cast("list[Any]", entries)
    if not 1 <= len(listed) <= MOST_ANSWERS:
        raise BadRequest("resume", f"must hold 1 to {MOST_ANSWERS} answers")
    wanted: list[tuple[str, Any]] = []
    for number, entry in enumerate(listed):
        field = f"resume[{number}]."
        if not isinstance(entry, dict):
            raise BadRequest(field[:-1], "must be an object")
        said = cast("Json", entry)
        id_ = said.get("interruptId")
        if not isinstance(id_, str):
            raise BadRequest(f"{field}interruptId", "must be text")
        wanted.append((_uuid(f"{field}interruptId", id_), answer_from(said, field)))
    store, asked = await inbox_of(caller, owners)
    told = [_entry(id_, await store.answer(asked, id_, said)) for id_, said in wanted]
    return answer({"answers": told})


async def post_claim(request: Request, caller: Caller, owners: Owners) -> Response:
    """A device takes what only it can carry out."""
    return await _as_device(request, caller, owners, is_claim=True)


async def post_done(request: Request, caller: Caller, owners: Owners) -> Response:
    """A device says what became of it."""
    return await _as_device(request, caller, owners, is_claim=False)


async def post_undo(request: Request, caller: Caller, owners: Owners) -> Response:
    """Take back what was written for one."""
    id_ = _uuid("id", path_part(request, "id"))
    store, asked = await inbox_of(caller, owners)
    return _told(await store.undo(asked, id_))


async def post_revert(request: Request, caller: Caller, owners: Owners) -> Response:
    """Take back everything that was written for one plan."""
    iteration = path_part(request, "id")
    store, asked = await inbox_of(caller, owners)
    undone = await store.revert(asked, iteration)
    return answer({"answers": [_entry(one.proposal.id, one) for one in undone]})


async def _as_device(
    request: Request, caller: Caller, owners: Owners, *, is_claim: bool
) -> Response:
    id_ = _uuid("id", path_part(request, "id"))
    body = await json_object(request)
    allowed = ("device",) if is_claim else ("device", "problem")
    for name in body:
        if name not in allowed:
            raise BadRequest(name[:64], "is not known here")
    device, problem = body.get("device"), body.get("problem")
    if not isinstance(device, str) or not 1 <= len(device) <= MAX_DEVICE_CHARS:
        raise BadRequest("device", f"must be text of 1 to {MAX_DEVICE_CHARS} characters")
    checked_id("device", device)
    if problem is not None:
        if not isinstance(problem, str) or not 1 <= len(problem) <= 500:
            raise BadRequest("problem", "must be text of 1 to 500 characters")
        checked_id("problem", problem)
    store, asked = await inbox_of(caller, owners)
    if not is_claim:
        return _told(await store.finish(asked, id_, device, problem))
    claimed = await store.claim(asked, id_, device)
    if claimed is None or claimed.refusal is not None:
        return _told(claimed)
    return answer(claimed_json(claimed.proposal))


async def inbox_of(caller: Caller, owners: Owners) -> tuple[ProposalStore, Answering]:
    """The proposals' store, and who asks it, with whether their clients seal what they write."""
    has_vault = owners.custody is not None and (await owners.custody.status(caller))["vaultExists"]
    asked = Answering(
        caller.user,
        caller.spaces,
        has_vault=bool(has_vault),
        address=caller.ip_address,
        client=caller.user_agent,
    )
    return owners.proposals, asked


def refused(refusal: AnswerRefused, proposal: Json) -> Response:
    """Why an answer does not count, with the proposal as it is."""
    status = 422 if refusal.code in WRONG else 409
    told = {
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": refusal.why,
        "code": refusal.code,
        "proposal": proposal,
    }
    response = answer(told, status)
    response.headers["Content-Type"] = MEDIA_TYPE
    return response


def _told(result: Answered | None) -> Response:
    if result is None:
        raise NoSuchRecord
    shown = proposal_json(result.proposal)
    if result.refusal is not None:
        return refused(result.refusal, shown)
    return answer(shown | {"changed": result.changed})


def _entry(id_: str, result: Answered | None) -> Json:
    if result is None:
        return {"interruptId": id_, "error": "there is no such proposal of yours"}
    told: Json = {
        "interruptId": id_,
        "changed": result.changed,
        "proposal": proposal_json(result.proposal),
    }
    if result.refusal is not None:
        told |= {"error": result.refusal.why, "code": result.refusal.code}
    return told


def _uuid(field: str, text: str) -> str:
    try:
        return str(UUID(text))
    except ValueError:
        raise BadRequest(field, "is not the id of a proposal") from None
