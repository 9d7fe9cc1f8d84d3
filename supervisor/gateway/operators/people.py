"""Who may sign in here, for operators: add, list, remove, a link, a token, spaces and members."""

import re
import secrets
import uuid
from datetime import timedelta
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from mana_actors.http.bodies import BadRequest, answer, json_object
from state.rules import sign_ins
from state.rules.scopes import ScopeUnknown, scopes_from
from state.store.people.store import Doer, PeopleRefused, Person
from supervisor.custody.vaults import Caller
from supervisor.gateway.answers import failure, path_part, query, whole_number, yes_or_no
from supervisor.gateway.deps import Deps
from supervisor.gateway.people.requests import from_where
from supervisor.gateway.sign_in.office import SignInOffice

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,63}")
MAX_NAME_CHARS = 100
NOT_OURS = "people sign in at MANA_AUTH_URL here: this server adds none and makes no links"
WAS_SOMEBODY = (
    "somebody of this name was removed, and their records are still here:"
    " choose another name, or say that it is the same person"
)
WHY: dict[str, tuple[int, str, str]] = {
    "no-such-person": (404, "nobody of this name may sign in here", "user"),
    "exists": (409, "somebody has this name already", "user"),
    "removed": (409, WAS_SOMEBODY, "user"),
    "taken": (409, "this person has a token of this name: revoke it, or choose another", "name"),
    "too-many": (409, "this person has too many tokens: revoke some", "user"),
    "no-such-space": (404, "there is no such space", "space"),
}


class NotOurs(Exception):
    """People sign in elsewhere, so that nothing here is about them."""


def refused(exc: PeopleRefused) -> Response:
    """The answer to what cannot be done as somebody or something is."""
    return failure(*WHY[exc.why])


async def get_people(request: Request, deps: Deps) -> Response:
    """Everybody who may sign in, by name; `removed=true` adds who was removed."""
    office = _office(deps)
    given = query(request, ("after", "limit", "removed"))
    limit = whole_number("limit", given.get("limit", "100"), 1, 500)
    removed = yes_or_no("removed", given.get("removed", "false"))
    found = await office.people.people(given.get("after"), limit, removed=removed)
    after = found[-1].user_id if len(found) == limit else None
    return answer({"items": [_told(one) for one in found], "after": after})


async def post_person(request: Request, deps: Deps) -> Response:
    """Let somebody sign in; `again` says that it is the person who was removed before."""
    office = _office(deps)
    query(request, ())
    body = await _body(request, ("user", "displayName", "again"))
    user = body.get("user")
    if not isinstance(user, str) or not NAME.fullmatch(user):
        problem = "must be 1 to 64 letters, digits or . _ @ + - and begin with a letter or digit"
        raise BadRequest("user", problem)
    again = body.get("again", False)
    if not isinstance(again, bool):
        raise BadRequest("again", "must be true or false")
    display = _name(body, "displayName", user)
    await office.people.add(user, display, _operator(request), again=again)
    return answer({"user": user, "displayName": display}, 201)


async def delete_person(request: Request, deps: Deps) -> Response:
    """Remove somebody: whatever lets them in ends at once, and so do their memberships."""
    office = _office(deps)
    query(request, ())
    user = path_part(request, "user")
    await office.people.remove(user, _operator(request))
    return answer({"user": user, "removed": True})


async def post_link(request: Request, deps: Deps) -> Response:
    """A link that lets this person in once, within half an hour; told this once."""
    office = _office(deps)
    query(request, ())
    user, link = path_part(request, "user"), secrets.token_urlsafe(32)
    hashed = sign_ins.hash_of(link)
    until = await office.people.add_link(user, hashed, sign_ins.LINK, _operator(request))
    told = {"user": user, "path": f"/sign-in?link={link}", "link": link, "expiresAt": until}
    return answer(told, 201)


async def post_operators_token(request: Request, deps: Deps) -> Response:
    """An access token in this person's place, for the command line beside the service key."""
    office = _office(deps)
    query(request, ())
    tokens = await office.operators_token(path_part(request, "user"), _operator(request))
    return answer(tokens, 201)


async def get_tokens(request: Request, deps: Deps) -> Response:
    """A person's tokens by name, none of them such that it lets anybody in."""
    office = _office(deps)
    query(request, ())
    return answer({"items": await office.people.tokens(path_part(request, "user"))})


async def post_token(request: Request, deps: Deps) -> Response:
    """A personal token with a name, scopes and an end; told this once."""
    office = _office(deps)
    query(request, ())
    return await token_made(request, office, path_part(request, "user"), _operator(request))


async def token_made(request: Request, office: SignInOffice, user: str, by: Doer) -> Response:
    """A personal token as the body wants it; raises BadRequest and PeopleRefused."""
    body = await _body(request, ("name", "scopes", "days"))
    name, given = _name(body, "name", ""), body.get("scopes")
    try:
        scopes = scopes_from(msgspec.convert(given, list[str]))
    except msgspec.ValidationError:
        raise BadRequest("scopes", "must be a list of texts") from None
    except ScopeUnknown as exc:
        raise BadRequest("scopes", str(exc)) from None
    days, most = body.get("days", sign_ins.TOKEN_LIFE.days), sign_ins.LONGEST_TOKEN_LIFE.days
    if not isinstance(days, int) or isinstance(days, bool) or not 1 <= days <= most:
        raise BadRequest("days", f"must be a whole number from 1 to {most}")
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


async def delete_token(request: Request, deps: Deps) -> Response:
    """End a personal token, named by its id or its name."""
    office = _office(deps)
    query(request, ())
    user, which = path_part(request, "user"), path_part(request, "token")
    if not await office.people.revoke_token(user, which, _operator(request)):
        return failure(404, "this person has no such token", "token")
    return answer({"user": user, "token": which, "revoked": True})


# --- shared spaces --------------------------------------------------------------------------------


async def get_spaces(request: Request, deps: Deps) -> Response:
    """Every shared space with its members, by name; `member` asks for one person's."""
    office = _office(deps)
    given = query(request, ("member",))
    return answer({"items": await office.people.spaces(member=given.get("member"))})


async def post_space(request: Request, deps: Deps) -> Response:
    """A new shared space with its first member."""
    office = _office(deps)
    query(request, ())
    body = await _body(request, ("name", "member"))
    name, member = _name(body, "name", ""), body.get("member")
    if not isinstance(member, str):
        raise BadRequest("member", "must be a person's name")
    space = str(uuid.uuid4())
    await office.people.add_space(space, name, member, _operator(request))
    return answer({"space_id": space, "name": name, "members": [member]}, 201)


async def put_member(request: Request, deps: Deps) -> Response:
    """Let somebody share a space."""
    office = _office(deps)
    query(request, ())
    space, user = path_part(request, "space"), path_part(request, "user")
    added = await office.people.add_member(space, user, _operator(request))
    return answer({"space": space, "user": user, "added": added})


async def delete_member(request: Request, deps: Deps) -> Response:
    """Let somebody share a space no longer: they, and their agents, read nothing more of it."""
    office = _office(deps)
    query(request, ())
    space, user = path_part(request, "space"), path_part(request, "user")
    if not await office.people.remove_member(space, user, _operator(request)):
        return failure(404, "is not a member of this space", "user")
    return answer({"space": space, "user": user, "removed": True})


def _office(deps: Deps) -> SignInOffice:
    """Where people are let in, if that is here; raises NotOurs."""
    if deps.owners is None or deps.owners.office is None:
        raise NotOurs
    return deps.owners.office


def _operator(request: Request) -> Doer:
    at = from_where(request, Caller("operator"))
    return Doer("operator", at.ip_address, at.user_agent)


def _told(one: Person) -> dict[str, Any]:
    return {
        "user": one.user_id,
        "displayName": one.display_name,
        "addedAt": one.added_at,
        "removedAt": one.removed_at,
        "signIns": one.sign_ins,
        "tokens": one.tokens,
        "spaces": one.spaces,
    }


async def _body(request: Request, known: tuple[str, ...]) -> dict[str, Any]:
    body = await json_object(request)
    for name in body:
        if name not in known:
            raise BadRequest(name[:64], f"is not known here; known are {', '.join(known)}")
    return body


def _name(body: dict[str, Any], field: str, default: str) -> str:
    given = body.get(field, default)
    is_name = isinstance(given, str) and given.strip() == given and given.isprintable()
    if not is_name or not 1 <= len(given) <= MAX_NAME_CHARS:
        raise BadRequest(field, f"must be 1 to {MAX_NAME_CHARS} printable characters")
    return given
