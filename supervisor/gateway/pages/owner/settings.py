"""Settings: where one is signed in, and ending that."""

from __future__ import annotations

from starlette.responses import Response

from state.store.gateway.own_log import NoSuchRecord
from supervisor.gateway.answers import path_part, query
from supervisor.gateway.pages.owner.gate import Visit
from supervisor.gateway.pages.page import page, seen
from supervisor.gateway.sign_in.office import doer


async def get_settings(visit: Visit) -> Response:
    """`/me/settings`."""
    query(visit.request, ())
    office, user = visit.owners.office, visit.caller.user
    return page(
        visit.reader,
        "owner/settings.html",
        sign_ins=await visit.owners.browsers.of(user),
        tokens=[] if office is None else await office.people.tokens(user),
        this=visit.caller.way_id,
        spaces=visit.caller.spaces,
    )


async def post_end(visit: Visit) -> Response:
    """End one sign-in; from the answer on it lets nobody in."""
    query(visit.request, ())
    await _end(visit, path_part(visit.request, "id"))
    return seen("/me/settings")


async def post_sign_out(visit: Visit) -> Response:
    """End the sign-in of this browser."""
    query(visit.request, ())
    if visit.caller.way_id is not None:
        await _end(visit, visit.caller.way_id)
    response = seen("/me")
    visit.owners.browsers.forget(response)
    return response


async def _end(visit: Visit, which: str) -> None:
    """Raises NoSuchRecord."""
    by = doer(visit.request, visit.caller.user)
    if not await visit.owners.browsers.end(visit.caller.user, which, by):
        raise NoSuchRecord
