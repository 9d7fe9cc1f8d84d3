"""Whose request this is: the one place that lets anybody into `/api/v1/me`.

With an auth service of the deployment's, its tokens. Without, what this installation gave: access
tokens of a sign-in, personal tokens, a browser's cookie. Whatever was ended in the meantime lets
nobody in at their next request, since the person is looked up each time.
"""

from typing import Any, Protocol, cast
from uuid import UUID

from starlette.requests import Request

from state.rules import sign_ins
from state.rules.scopes import ALL, OPERATORS, Scope, Way
from state.store.people.store import PeopleStore, Standing
from supervisor.custody.sign_in_keys import ISSUER, SignInKeys
from supervisor.custody.vaults import Caller
from supervisor.gateway.people.rate import Pacing, TooOften
from supervisor.gateway.people.requests import from_where, peer_of
from supervisor.gateway.people.tokens import Expected, TokenRefused, Verifier, bearer, subject_of
from supervisor.gateway.sign_in.browsers import Browsers

MAX_SPACES = 1000
SAFE_METHODS = frozenset({"GET", "HEAD"})


class ScopeLacking(Exception):
    """What they signed in by does not let them do this; `scope` is what it would take."""

    def __init__(self, scope: Scope) -> None:
        super().__init__(scope)
        self.scope: Scope = scope

    def __str__(self) -> str:
        return f"this needs the scope {self.scope}, which your token does not have"


class Door(Protocol):
    """Lets people in."""

    async def caller(self, request: Request) -> Caller:
        """Whose request it is; raises TokenRefused."""
        ...


def must_have(caller: Caller, scope: Scope) -> None:
    """Every route asks this one; raises ScopeLacking."""
    if scope not in caller.scopes:
        raise ScopeLacking(scope)


class AuthServiceDoor:
    """Lets in whom the deployment's auth service gave a token."""

    def __init__(self, verifier: Verifier, browsers: Browsers) -> None:
        self.verifier, self._browsers = verifier, browsers

    async def caller(self, request: Request) -> Caller:
        """Whose token it is; its claim `spaces` names the shared ones.

        A browser that such a token let in shows its cookie. Raises TokenRefused.
        """
        if by_cookie := await _by_cookie(request, self._browsers):
            return by_cookie
        claims = await self.verifier.claims(bearer(request.headers))
        caller = Caller(subject_of(claims), scopes=ALL, spaces=_spaces_in(claims))
        return from_where(request, caller)


class OwnDoor:
    """Lets in who signed in here."""

    def __init__(
        self, people: PeopleStore, keys: SignInKeys, browsers: Browsers, *, audience: str
    ) -> None:
        self._people, self._browsers = people, browsers
        self._verifier = Verifier(_OwnKeys(keys), Expected((ISSUER,), audience))
        self._failed = Pacing(burst=60, per_minute=60)

    async def caller(self, request: Request) -> Caller:
        """Whose token or cookie it is; raises TokenRefused, or TooOften where many were wrong."""
        try:
            return await self._caller(request)
        except TokenRefused as exc:
            if wait_s := self._failed.wait_s(peer_of(request)):
                raise TooOften(wait_s) from exc
            raise

    async def _caller(self, request: Request) -> Caller:
        if by_cookie := await _by_cookie(request, self._browsers):
            return by_cookie
        token = bearer(request.headers)
        if token.startswith(sign_ins.PERSONAL):
            found = await self._people.by_token(sign_ins.hash_of(token))
            return _let_in(request, found, frozenset(found.scopes if found else ()), "token")
        claims = await self._verifier.claims(token)
        user, way, sign_in = subject_of(claims), claims.get("way"), claims.get("sid")
        if way == "operator" and sign_in is None:
            return _let_in(request, await self._people.standing(user, None), OPERATORS, "operator")
        if way != "sign-in" or not isinstance(sign_in, str):
            raise TokenRefused("token lacks a claim")
        found = await self._people.standing(user, UUID(sign_in))
        return _let_in(request, found, ALL, "sign-in")


async def _by_cookie(request: Request, browsers: Browsers) -> Caller | None:
    """Whose browser it is; None for a request that is no browser's. Raises TokenRefused."""
    if "authorization" in request.headers:
        return None
    cookie = browsers.cookie_in(request)
    if not cookie:
        return None
    if request.method not in SAFE_METHODS and not browsers.names.is_own_page(request.scope):
        raise TokenRefused("a cookie counts only for requests from a page of this server")
    return _let_in(request, await browsers.standing(cookie), ALL, "browser")


def _let_in(request: Request, found: Standing | None, scopes: frozenset[Scope], way: Way) -> Caller:
    """One answer for whatever is not good, any more or ever: it tells nothing about anybody."""
    if found is None:
        raise TokenRefused("token or sign-in is not valid, or not any more")
    caller = Caller(
        found.user_id,
        display_name=found.display_name,
        scopes=scopes,
        spaces=found.spaces,
        way=way,
        way_id=found.way_id,
    )
    return from_where(request, caller)


class _OwnKeys:
    def __init__(self, keys: SignInKeys) -> None:
        self._keys = keys

    async def key(self, kid: str | None) -> Any:
        found = await self._keys.key(kid)
        if found is None:
            raise TokenRefused("unknown signing key")
        return found


def _spaces_in(claims: dict[str, Any]) -> tuple[str, ...]:
    """Ids of the shared spaces that a token names; what is no id of one is passed over."""
    named = claims.get("spaces")
    if not isinstance(named, list):
        return ()
    ids = [one for one in cast("list[object]", named) if isinstance(one, str) and one]
    return tuple(one for one in ids if "," not in one and "\0" not in one)[:MAX_SPACES]
