"""`/api/v1/me`: where somebody is signed in, their tokens, and what was done about them."""

import secrets
from datetime import timedelta
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from mana_actors.http.bodies import BadRequest, answer, json_object
from state.rules import sign_ins
from state.rules.scopes import Scope, ScopeUnknown, scopes_from
from state.store.people.store import Doer
from supervisor.custody.vaults import Caller
from supervisor.gateway.answers import failure, instant_text, path_part, query, whole_number
from supervisor.gateway.cursors import cursor, read_cursor
from supervisor.gateway.people.owners import Owners
from supervisor.gateway.sign_in.office import SignInOffice, doer, office_of

MAX_NAME_CHARS = 100


async def get_trail(request: Request, caller: Caller, owners: Owners) -> Response:
    """What was done about my ways in, spaces and place, also by operators; the newest first."""
    return await trail_told(request, office_of(owners), caller.user)


async def get_sign_ins(request: Request, caller: Caller, owners: Owners) -> Response:
    """Browsers and clients that are signed in, the newest first."""
    query(request, ())
    return answer({"items": await owners.browsers.of(caller.user)})


async def delete_sign_in(request: Request, caller: Caller, owners: Owners) -> Response:
    """Sign one of them out."""
    query(request, ())
    which, by = path_part(request, "sign_in"), doer(request, caller.user)
    ended = await owners.browsers.end(caller.user, which, by)
    return answer({"ended": True}) if ended else failure(404, "no such sign-in", "sign_in")


async def post_browser_link(request: Request, caller: Caller, owners: Owners) -> Response:
    """A link that lets a browser of mine in once, within two minutes."""
    query(request, ())
    link, until = await owners.browsers.link_for(caller, doer(request, caller.user))
    return answer({"path": f"/sign-in?link={link}", "link": link, "expiresAt": until}, 201)


async def get_tokens(request: Request, caller: Caller, owners: Owners) -> Response:
    """Own personal tokens by name, without what lets anybody in."""
    query(request, ())
    return answer({"items": await office_of(owners).people.tokens(caller.user)})


async def post_token(request: Request, caller: Caller, owners: Owners) -> Response:
    """A personal token, told this once."""
    query(request, ())
    by = doer(request, caller.user)
    return await token_made(request, office_of(owners), caller.user, caller.scopes, by)


async def delete_token(request: Request, caller: Caller, owners: Owners) -> Response:
    """End an own personal token, named by its id or its name."""
    query(request, ())
    people, which = office_of(owners).people, path_part(request, "token")
    ended = await people.revoke_token(caller.user, which, doer(request, caller.user))
    return answer({"revoked": True}) if ended else failure(404, "no such token", "token")


async def trail_told(request: Request, office: SignInOffice, user: str) -> Response:
    """A page of a person's trail; `after`, given back, continues with older rows."""
    given = query(request, ("after", "limit"))
    limit = whole_number("limit", given.get("limit", "50"), 1, 200)
    before = read_cursor(given["after"], int, "after") if "after" in given else None
    rows = await office.people.trail(user, before, limit)
    told = [
        {
            "at": instant_text(row.at),
            "action": row.action,
            "detail": row.detail,
            "by": row.done_by,
            "address": row.address,
            "client": row.user_agent,
        }
        for row in rows
    ]
    return answer({"items": told, "after": cursor(rows[-1].id) if len(rows) == limit else None})


async def token_made(
    request: Request, office: SignInOffice, user: str, most: frozenset[Scope], by: Doer
) -> Response:
    """A personal token as the body wants it, which may do no more than who makes it.

    Raises BadRequest and PeopleRefused.
    """
    body = await body_of(request, ("name", "scopes", "days"))
    name, given = name_in(body, "name", ""), body.get("scopes")
    try:
        scopes = scopes_from(msgspec.convert(given, list[str]))
    except msgspec.ValidationError:
        raise BadRequest("scopes", "must be a list of texts") from None
    except ScopeUnknown as exc:
        raise BadRequest("scopes", str(exc)) from None
    if beyond := [scope for scope in scopes if scope not in most]:
        problem = f"{beyond[0]} is not yours to give: the person signs in and makes such a token"
        raise BadRequest("scopes", problem)
    days, longest = body.get("days", sign_ins.TOKEN_LIFE.days), sign_ins.LONGEST_TOKEN_LIFE.days
    if not isinstance(days, int) or isinstance(days, bool) or not 1 <= days <= longest:
        raise BadRequest("days", f"must be a whole number from 1 to {longest}")
    token = sign_ins.PERSONAL + secrets.token_urlsafe(32)
    token_id, until = await office.people.add_token(
        user,
        name,
        sign_ins.hash_of(token),
        scopes=scopes,
        life=timedelta(days=days),
        by=by,
    )
    told = {"id": token_id, "name": name, "scopes": scopes, "expiresAt": until, "token": token}
    return answer(told, 201)


async def body_of(request: Request, known: tuple[str, ...]) -> dict[str, Any]:
    """The JSON object in the body, of these fields only; raises BadRequest."""
    body = await json_object(request)
    for name in body:
        if name not in known:
            raise BadRequest(name[:64], f"is not known here; known are {', '.join(known)}")
    return body


def name_in(body: dict[str, Any], field: str, default: str) -> str:
    """A name to show, from a field of a body; raises BadRequest."""
    given = body.get(field, default)
    is_name = isinstance(given, str) and given.strip() == given and given.isprintable()
    if not is_name or not 1 <= len(given) <= MAX_NAME_CHARS:
        raise BadRequest(field, f"must be 1 to {MAX_NAME_CHARS} printable characters")
    return given
