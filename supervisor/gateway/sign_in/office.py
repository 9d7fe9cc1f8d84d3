"""What this installation lets people in by: for a link, for a refresh token, or for an operator."""

import secrets
from datetime import UTC, datetime
from typing import Protocol

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from state.rules import sign_ins
from state.store.people.store import Doer, PeopleRefused, PeopleStore
from supervisor.custody.sign_in_keys import SignInKeys
from supervisor.custody.vaults import Caller
from supervisor.gateway.answers import failure
from supervisor.gateway.people.rate import Pacing, paced
from supervisor.gateway.people.requests import from_where

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


def refused(exc: PeopleRefused | NotOurs) -> Response:
    """The answer to what cannot be done as somebody or something is."""
    return failure(404, NOT_OURS) if isinstance(exc, NotOurs) else failure(*WHY[exc.why])


def doer(request: Request, name: str = "unknown") -> Doer:
    """Who does something, and where they say they are; before they are let in nobody knows who."""
    at = from_where(request, Caller(name))
    return Doer(name, at.ip_address, at.user_agent)


class Tokens(msgspec.Struct, frozen=True, rename="camel"):
    """What a client goes on with: an access token for a while, and what gets the next one."""

    user: str
    access_token: str
    expires_in: int  # seconds
    refresh_token: str | None = None  # None: an operator's, who asks again


class SignInOffice(msgspec.Struct, frozen=True):
    """Gives out tokens; each is told once and kept as its hash."""

    people: PeopleStore
    keys: SignInKeys
    audience: str
    pacing: Pacing

    async def operators_token(self, user: str, by: Doer) -> Tokens:
        """A token in a person's place, without what opens encrypted records.

        Raises PeopleRefused (no-such-person).
        """
        await self.people.note(user, "operator-acts", None, by)
        now = datetime.now(UTC)
        token = self.keys.signed(user, self.audience, way="operator", way_id=None, now=now)
        return Tokens(user, token, int(sign_ins.ACCESS.total_seconds()))

    async def client_in(self, link: str, by: Doer) -> Tokens | None:
        """Tokens for whoever brings a link, which is used up; None for no link that is good."""
        refresh = sign_ins.REFRESH + secrets.token_urlsafe(32)
        hashed = sign_ins.hash_of(link), sign_ins.hash_of(refresh)
        try:
            found = await self.people.client_in(*hashed, secrets.token_bytes(32), by)
        except PeopleRefused:  # removed while they clicked
            return None
        return None if found is None else self._tokens(found.user_id, found.way_id, refresh)

    async def refreshed(self, token: str, by: Doer) -> Tokens | None:
        """The next tokens for a refresh token; None where it lets nobody in any more.

        Raises TooOften for a sign-in that asks all the time.
        """
        sign_in = await self.people.sign_in_of(sign_ins.hash_of(token))
        if sign_in is None:
            return None
        paced(self.pacing, str(sign_in))
        found = await self.people.refreshed(token, by)
        if found is None:
            return None
        return self._tokens(found.user_id, str(found.sign_in_id), found.refresh_token)

    def _tokens(self, user: str, sign_in: str | None, refresh: str) -> Tokens:
        now = datetime.now(UTC)
        token = self.keys.signed(user, self.audience, way="sign-in", way_id=sign_in, now=now)
        return Tokens(user, token, int(sign_ins.ACCESS.total_seconds()), refresh)


class _HasOffice(Protocol):
    @property
    def office(self) -> SignInOffice | None: ...


def office_of(owners: _HasOffice | None) -> SignInOffice:
    """Where people are let in, if that is here; raises NotOurs."""
    if owners is None or owners.office is None:
        raise NotOurs
    return owners.office
