"""The first person of an installation, let in by an operator's page."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from mana_actors.http.bodies import BadRequest
from state.store.people.store import PeopleRefused
from supervisor.gateway.answers import query
from supervisor.gateway.deps import Deps
from supervisor.gateway.operators.people import checked_name, link_made, operator_in
from supervisor.gateway.pages.page import page
from supervisor.gateway.pages.reader import Reader
from supervisor.gateway.sign_in.office import WHY, office_of


async def post_first_person(deps: Deps, request: Request, reader: Reader) -> Response:
    """`POST /people`: let somebody sign in, and show the link that does, this once."""
    query(request, ())
    office, by = office_of(deps.owners), operator_in(request)
    user = checked_name(request.state.form.get("user", "").strip())
    try:
        await office.people.add(user, user, by, again=False)
    except PeopleRefused as exc:
        raise BadRequest("user", WHY[exc.why][1]) from exc
    link, until = await link_made(office, user, by)
    path = f"/sign-in?link={link}"
    return page(
        reader,
        "operator/first_person.html",
        user=user,
        path=path,
        whole=f"{request.headers['origin']}{path}",
        until=until,
    )
