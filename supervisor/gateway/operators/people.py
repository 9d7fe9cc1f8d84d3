"""Who may sign in here, for operators: add, list, remove, a link, a token, spaces and members."""

import re
import secrets
import uuid
from datetime import datetime
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from mana_actors.http.bodies import BadRequest, answer
from state.rules import sign_ins
from state.rules.scopes import OPERATORS
from state.store.people.store import Doer, Person
from supervisor.custody.vaults import Caller
from supervisor.gateway.answers import failure, path_part, query, whole_number, yes_or_no
from supervisor.gateway.deps import Deps
from supervisor.gateway.people.requests import from_where
from supervisor.gateway.sign_in.account import body_of, name_in, token_made, trail_told
from supervisor.gateway.sign_in.office import SignInOffice, office_of

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,63}")


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
    body = await body_of(request, ("user", "displayName", "again"))
    user = checked_name(body.get("user"))
    again = body.get("again", False)
    if not isinstance(again, bool):
        raise BadRequest("again", "must be true or false")
    display = name_in(body, "displayName", user)
    await office.people.add(user, display, operator_in(request), again=again)
    return answer({"user": user, "displayName": display}, 201)


def checked_name(user: object) -> str:
    """A user id that somebody may have here; raises BadRequest."""
    if not isinstance(user, str) or not NAME.fullmatch(user):
        problem = "must be 1 to 64 letters, digits or . _ @ + - and begin with a letter or digit"
        raise BadRequest("user", problem)
    return user


async def delete_person(request: Request, deps: Deps) -> Response:
    """Remove somebody: whatever lets them in ends at once, and so do their memberships."""
    office = _office(deps)
    query(request, ())
    user = path_part(request, "user")
    await office.people.remove(user, operator_in(request))
    return answer({"user": user, "removed": True})


async def post_link(request: Request, deps: Deps) -> Response:
    """A link that lets this person in once, within half an hour; told this once."""
    office = _office(deps)
    query(request, ())
    user = path_part(request, "user")
    link, until = await link_made(office, user, operator_in(request))
    told = {"user": user, "path": f"/sign-in?link={link}", "link": link, "expiresAt": until}
    return answer(told, 201)


async def link_made(office: SignInOffice, user: str, by: Doer) -> tuple[str, datetime]:
    """A link for somebody, and until when it is good; raises PeopleRefused (no-such-person)."""
    link = secrets.token_urlsafe(32)
    return link, await office.people.add_link(user, sign_ins.hash_of(link), sign_ins.LINK, by)


async def post_operators_token(request: Request, deps: Deps) -> Response:
    """An access token in this person's place, for the command line beside the service key."""
    office = _office(deps)
    query(request, ())
    tokens = await office.operators_token(path_part(request, "user"), operator_in(request))
    return answer(tokens, 201)


async def get_trail(request: Request, deps: Deps) -> Response:
    """What was done about a person's ways in, spaces and place; the newest first."""
    return await trail_told(request, _office(deps), path_part(request, "user"))


async def get_tokens(request: Request, deps: Deps) -> Response:
    """A person's tokens by name, none of them such that it lets anybody in."""
    office = _office(deps)
    query(request, ())
    return answer({"items": await office.people.tokens(path_part(request, "user"))})


async def post_token(request: Request, deps: Deps) -> Response:
    """A personal token with a name, scopes and an end; told this once.

    None that gets at what opens encrypted records: that is the person's own to make.
    """
    office = _office(deps)
    query(request, ())
    user, by = path_part(request, "user"), operator_in(request)
    return await token_made(request, office, user, OPERATORS, by)


async def delete_token(request: Request, deps: Deps) -> Response:
    """End a personal token, named by its id or its name."""
    office = _office(deps)
    query(request, ())
    user, which = path_part(request, "user"), path_part(request, "token")
    if not await office.people.revoke_token(user, which, operator_in(request)):
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
    body = await body_of(request, ("name", "member"))
    name, member = name_in(body, "name", ""), body.get("member")
    if not isinstance(member, str):
        raise BadRequest("member", "must be a person's name")
    space = str(uuid.uuid4())
    await office.people.add_space(space, name, member, operator_in(request))
    return answer({"space_id": space, "name": name, "members": [member]}, 201)


async def put_member(request: Request, deps: Deps) -> Response:
    """Let somebody share a space."""
    office = _office(deps)
    query(request, ())
    space, user = path_part(request, "space"), path_part(request, "user")
    added = await office.people.add_member(space, user, operator_in(request))
    return answer({"space": space, "user": user, "added": added})


async def delete_member(request: Request, deps: Deps) -> Response:
    """Let somebody share a space no longer: they, and their agents, read nothing more of it."""
    office = _office(deps)
    query(request, ())
    space, user = path_part(request, "space"), path_part(request, "user")
    if not await office.people.remove_member(space, user, operator_in(request)):
        return failure(404, "is not a member of this space", "user")
    return answer({"space": space, "user": user, "removed": True})


def _office(deps: Deps) -> SignInOffice:
    """Where people are let in, if that is here; raises NotOurs."""
    return office_of(deps.owners)


def operator_in(request: Request) -> Doer:
    """The operator who asks, and from where they say."""
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
