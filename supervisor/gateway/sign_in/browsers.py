"""Browsers that somebody is signed in on: the cookie that says so, and who keeps the other half.

Where this installation signs people in, that is a row of their sign-ins. Where an auth service of
the deployment does, its token gets a link that lets a browser in for a while.
"""

from __future__ import annotations

import hmac
import secrets
from datetime import datetime
from uuid import UUID

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from mana_actors.http.names import Names
from state.rules import sign_ins
from state.store.people.store import Doer, PeopleRefused, PeopleStore, SignIn, Standing
from state.store.people.visitors import VisitorStore
from supervisor.custody.vaults import Caller

HOST_ONLY = "__Host-"
"""Browsers take a cookie of such a name over TLS only, and from this very host."""


class Browsers(msgspec.Struct, frozen=True):
    """All that are signed in here; what lets one in is told once and kept as its hash."""

    store: PeopleStore | VisitorStore
    cookie: str
    names: Names

    async def link_for(self, caller: Caller, by: Doer) -> tuple[str, datetime]:
        """A link that lets a browser of the caller's in once, and until when.

        Raises PeopleRefused (no-such-person).
        """
        link = secrets.token_urlsafe(32)
        hashed, life = sign_ins.hash_of(link), sign_ins.BROWSER_LINK
        match self.store:
            case PeopleStore() as people:
                return link, await people.add_link(caller.user, hashed, life, by)
            case VisitorStore() as visitors:
                return link, await visitors.add_link(caller.user, caller.spaces, hashed, life)

    async def is_link(self, link: str) -> bool:
        """Whether a link would let somebody in; it is not used up by that."""
        return await self.store.is_link(sign_ins.hash_of(link))

    async def browser_in(self, link: str, by: Doer) -> tuple[str, str] | None:
        """The user id and a cookie's value for whoever brings a link; None for no good link."""
        cookie = secrets.token_urlsafe(32)
        hashed = sign_ins.hash_of(link), sign_ins.hash_of(cookie)
        try:
            found = await self.store.browser_in(*hashed, by)
        except PeopleRefused:  # removed while they clicked
            return None
        return None if found is None else (found.user_id, cookie)

    def cookie_in(self, request: Request) -> str | None:
        """What a browser shows of its sign-in; over TLS only what no other host could have set."""
        kept = request.cookies.get(f"{HOST_ONLY}{self.cookie}")
        if kept or self.names.is_tls(request.scope):
            return kept
        return request.cookies.get(self.cookie)

    async def standing(self, cookie: str) -> Standing | None:
        """Whose browser has this cookie; None for nobody's, or not any more."""
        return await self.store.by_cookie(sign_ins.hash_of(cookie))

    async def of(self, user: str) -> list[SignIn]:
        """Where somebody is signed in, the newest first."""
        return await self.store.sign_ins(user)

    async def end(self, user: str, which: str, by: Doer) -> bool:
        """Sign one out; False where it was not signed in."""
        try:
            sign_in = UUID(which)
        except ValueError:
            return False
        match self.store:
            case PeopleStore() as people:
                return await people.end_sign_in(user, sign_in, by)
            case VisitorStore() as visitors:
                return await visitors.end_sign_in(user, sign_in)

    def remember(self, response: Response, cookie: str, *, is_tls: bool) -> None:
        """Have a browser keep its sign-in."""
        response.set_cookie(
            f"{HOST_ONLY}{self.cookie}" if is_tls else self.cookie,
            cookie,
            max_age=int(sign_ins.AT_MOST.total_seconds()),
            httponly=True,
            samesite="strict",
            secure=is_tls,
        )

    def forget(self, response: Response) -> None:
        """Have a browser forget its sign-in, by whichever name it has it."""
        response.delete_cookie(self.cookie, httponly=True, samesite="strict")
        response.delete_cookie(
            f"{HOST_ONLY}{self.cookie}", secure=True, httponly=True, samesite="strict"
        )


def cookie_of(service_key: str) -> str:
    """What a browser calls its sign-in: cookies know no ports, and a host may have two of us."""
    return f"mana_person_{hmac.digest(service_key.encode(), b'person', 'sha256').hex()[:8]}"
