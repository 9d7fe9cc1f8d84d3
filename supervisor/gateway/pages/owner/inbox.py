"""The inbox: what agents would change, and one's answers."""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import msgspec
from starlette.responses import Response

from mana_actors.agent.tools.catalogue import catalogue
from mana_actors.http.bodies import BadRequest
from state.log import merge
from state.log.own_changes import RecordAt
from state.log.records import ENCRYPTED_PREFIX
from state.proposals.answers import Answer, Approve, NotNow, Reject
from state.proposals.proposal import OPEN, Proposal
from state.proposals.tool_handlers import TablePlace
from state.store.gateway.own_log import NoSuchRecord
from state.store.gateway.proposals import ProposalFilter, proposals_in
from supervisor.gateway.answers import path_part, query, whole_number
from supervisor.gateway.pages.owner.gate import Visit
from supervisor.gateway.pages.owner.overview import Overview, overview_of, reading, staged
from supervisor.gateway.pages.owner.parts.refusal_words import refusal_said
from supervisor.gateway.pages.owner.things import (
    FieldShown,
    Thing,
    fields_of,
    params_from,
    record_of,
    thing_of,
)
from supervisor.gateway.pages.page import page, seen
from supervisor.gateway.pages.preferences import own_path
from supervisor.gateway.pages.reader import Reader
from supervisor.gateway.pages.translations import translations_of
from supervisor.gateway.people.inbox.approvals import MOST_A_DAY, approval_from
from supervisor.gateway.people.inbox.proposals import inbox_of

MOST = 200
MOST_DECIDED = 20
LATER = {"hours": timedelta(hours=3), "day": timedelta(days=1), "week": timedelta(days=7)}


class ProposalShown(msgspec.Struct, frozen=True):
    """A proposal as a page draws it."""

    proposal: Proposal
    thing: Thing
    fields: list[FieldShown]
    is_open: bool
    can_undo: bool


class PlanShown(msgspec.Struct, frozen=True):
    """The proposals of one plan."""

    iteration: str
    mission_id: str
    mission: str
    agent: str
    items: list[ProposalShown]


async def get_inbox(visit: Visit) -> Response:
    """`/me/inbox`."""
    given = query(visit.request, ("done", "all"))
    return await inbox_page(visit, done=given.get("done"), count=given.get("all"))


async def inbox_page(
    visit: Visit, *, done: str | None = None, count: str | None = None, problem: str = ""
) -> Response:
    """The inbox; `done` is what was answered last, `problem` why an answer did not count."""
    await staged(visit)
    async with reading(visit) as look:
        async with look.owners.own_log.acting(visit.caller.user) as own:
            found = await proposals_in(own, MOST, ProposalFilter())
        overview = await overview_of(look)
        now = visit.reader.now
        waits = [
            one
            for one in found
            if one.state in OPEN and (one.not_before is None or one.not_before <= now)
        ]
        put_off = [one for one in found if one.state in OPEN and one not in waits]
        decided = [one for one in found if one.state not in OPEN][:MOST_DECIDED]
        shown = await proposals_shown(look, [*waits, *put_off, *decided])
    plans: defaultdict[str, list[ProposalShown]] = defaultdict(list)
    for one in waits:
        plans[one.iteration_id].append(shown[one.id])
    values: dict[str, Any] = {
        "plans": [plan_of(each, items, overview, visit.reader) for each, items in plans.items()],
        "put_off": [shown[one.id] for one in put_off],
        "decided_": [shown[one.id] for one in decided],
        "last": shown.get(done or ""),
        "count": count if count is not None and count.isdigit() else None,
        "problem": problem,
        "overview": overview,
    }
    return page(visit.reader, "owner/inbox.html", 409 if problem else 200, **values)


async def post_answer(visit: Visit) -> Response:
    """What a button of one proposal says, then back to where it was pressed."""
    query(visit.request, ())
    id_, verb = _uuid(path_part(visit.request, "id")), path_part(visit.request, "verb")
    store, asked = await inbox_of(visit.caller, visit.owners)
    if verb == "undo":
        result = await store.undo(asked, id_)
    else:
        proposal = await store.find(visit.caller.user, id_)
        if proposal is None:
            raise NoSuchRecord
        if verb == "always":
            per_day = whole_number("perDay", visit.form.get("perDay", "5"), 1, MOST_A_DAY)
            wish = {"agentId": proposal.agent_id, "tool": proposal.tool, "perDay": per_day}
            await store.add_approval(asked, approval_from(wish, str(uuid4())))
        result = await store.answer(asked, id_, _answer(verb, proposal, visit))
    if result is None:
        raise NoSuchRecord
    if result.refusal is not None:
        why = refusal_said(result.refusal.why, visit.reader.language)
        return await inbox_page(visit, problem=why)
    back = own_path(visit.form.get("back", ""), "/me/inbox")
    return seen(f"{back}?done={id_}" if back == "/me/inbox" else back)


async def post_approve_all(visit: Visit) -> Response:
    """Approve all of one plan that waits, each on its own."""
    query(visit.request, ())
    iteration = path_part(visit.request, "iteration")
    store, asked = await inbox_of(visit.caller, visit.owners)
    found = await store.list(visit.caller.user, MOST, ProposalFilter(due=True))
    waits = [one for one in found if one.iteration_id == iteration and one.state in OPEN]
    answers = [await store.answer(asked, one.id, Approve()) for one in reversed(waits)]
    refused = [
        refusal_said(one.refusal.why, visit.reader.language)
        for one in answers
        if one is not None and one.refusal is not None
    ]
    if refused:
        return await inbox_page(visit, problem="; ".join(dict.fromkeys(refused)))
    return seen(f"/me/inbox?all={len(answers)}")


def plan_of(
    iteration: str, items: list[ProposalShown], overview: Overview, reader: Reader
) -> PlanShown:
    """The proposals of one plan, with whose they are."""
    first = items[0].proposal
    return PlanShown(
        iteration,
        first.mission_id,
        overview.title(first.mission_id, reader),
        overview.agent_name(first.agent_id),
        sorted(items, key=lambda one: one.proposal.step_id),
    )


async def proposals_shown(visit: Visit, proposals: list[Proposal]) -> dict[str, ProposalShown]:
    """Proposals by id, each with what it changes; titles of records are read once."""
    wanted = {at for one in proposals if (at := record_of(one)) is not None}
    titles: dict[tuple[TablePlace, str], str] = {}
    _ = translations_of(visit.reader.language).gettext
    async with visit.owners.own_log.acting(visit.caller.user, visit.caller.spaces) as own:
        for place, id_ in wanted:
            record = await own.record(RecordAt(place.app, place.table, id_), "nothing")
            if merge.hidden(record.snapshot):
                titles[place, id_] = _("something that is not there any more")
                continue
            title = record.fields.get("title") or record.fields.get("name")
            is_open = isinstance(title, str) and not title.startswith(ENCRYPTED_PREFIX)
            titles[place, id_] = str(title) if is_open else _("something sealed")
    shown: dict[str, ProposalShown] = {}
    for one in proposals:
        at = record_of(one)
        is_open = one.state in OPEN
        shown[one.id] = ProposalShown(
            one,
            thing_of(one, None if at is None else titles.get(at), visit.reader),
            fields_of(one, visit.reader) if is_open else [],
            is_open=is_open,
            can_undo=one.state == "done" and bool(one.written),
        )
    return shown


def _answer(verb: str, proposal: Proposal, visit: Visit) -> Answer:
    """The answer that a button says; raises BadRequest."""
    form = visit.form
    match verb:
        case "approve" | "always":
            return Approve()
        case "edit":
            tool = catalogue().get(proposal.tool)
            if tool is None:
                raise BadRequest("tool", "is not known here")
            return Approve(params_from(tool, form))
        case "reject":
            return Reject(form.get("feedback", "").strip())
        case "later":
            return NotNow(_later(form.get("until", "day"), visit.reader))
        case _:
            raise BadRequest("verb", "is not known here")


def _later(text: str, reader: Reader) -> datetime:
    if text not in LATER:
        raise BadRequest("until", f"must be one of {', '.join(LATER)}")
    return reader.now + LATER[text]


def _uuid(text: str) -> str:
    try:
        return str(UUID(text))
    except ValueError:
        raise NoSuchRecord from None
