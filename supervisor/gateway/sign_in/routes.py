"""Signing in, going on and signing out.

Where an auth service of the deployment signs people in, browsers come by links that its tokens ask
for, and the rest is 404.

A link is used up by a POST only: programs that look ahead at links in mails send GETs. Whatever is
wrong about a link or a token, the answer is the same, and each wrong one costs its address a while.
"""

import logging
from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mana_actors.http.bodies import BadRequest, answer
from supervisor.gateway.answers import failure, path_part, query
from supervisor.gateway.auth import is_service
from supervisor.gateway.pages.forms import form_of
from supervisor.gateway.pages.page import page, seen
from supervisor.gateway.pages.reader import Reader, reader_of
from supervisor.gateway.pages.translations import translations_of
from supervisor.gateway.people.owners import Owners
from supervisor.gateway.people.rate import Pacing, paced
from supervisor.gateway.people.requests import peer_of
from supervisor.gateway.sign_in.account import body_of
from supervisor.gateway.sign_in.browsers import Browsers
from supervisor.gateway.sign_in.office import NotOurs, SignInOffice, Tokens, doer, office_of

AUTH = "/api/v1/auth"
MAX_SECRET_CHARS = 256
MAX_FORM_BYTES = 4096
NO_LINK = "this link is not good, or not any more: ask for another"
SIGN_IN_AGAIN = "this token is not good, or not any more: sign in again"
log = logging.getLogger("mana.gateway")


class SignInRoutes:
    """The routes of one gateway."""

    def __init__(self, owners: Owners | None, service_key: str) -> None:
        self._owners, self._service_key = owners, service_key
        self._failed = Pacing(burst=20, per_minute=20)

    async def get_key_set(self, request: Request) -> Response:
        """The public keys that our access tokens are checked by."""
        query(request, ())
        return answer(self._office.keys.key_set())

    async def get_page(self, request: Request) -> Response:
        """A page with one button, which is what uses the link up."""
        browsers = self._browsers
        link = query(request, ("link",)).get("link", "")
        if len(link) <= MAX_SECRET_CHARS and await browsers.is_link(link):
            return page(self._reader(request), "sign_in.html", link=link)
        self._note_failure(request)
        return self._no_link(request)

    async def post_page(self, request: Request) -> Response:
        """Sign this browser in; only from our own page."""
        browsers = self._browsers
        if not browsers.names.is_own_page(request.scope):
            reader = self._reader(request)
            problem = translations_of(reader.language).gettext(
                "Open the link itself, in this browser."
            )
            return page(reader, "locked.html", 403, way="owner", problem=problem)
        link = (await form_of(request, MAX_FORM_BYTES)).get("link", "")[: MAX_SECRET_CHARS + 1]
        found = await browsers.browser_in(link, doer(request))
        if found is None:
            self._note_failure(request)
            return self._no_link(request)
        user, cookie = found
        log.info("signed_in user=%s way=browser", user)
        # What this browser was signed in by before ends: its cookie is replaced.
        before = browsers.cookie_in(request)
        known = None if before is None else await browsers.standing(before)
        if known is not None and known.way_id is not None:
            await browsers.end(known.user_id, known.way_id, doer(request, known.user_id))
        response = seen("/me")
        is_tls = request.headers["origin"].startswith("https:")
        browsers.remember(response, cookie, is_tls=is_tls)
        return response

    async def post_sign_in(self, request: Request) -> Response:
        """Tokens for a link, for clients that are no browsers."""
        office = self._office
        query(request, ())
        link = _secret(await body_of(request, ("link",)), "link")
        return self._given(request, await office.client_in(link, doer(request)), NO_LINK)

    async def post_refresh(self, request: Request) -> Response:
        """The next tokens for a refresh token."""
        office = self._office
        query(request, ())
        token = _secret(await body_of(request, ("refreshToken",)), "refreshToken")
        return self._given(request, await office.refreshed(token, doer(request)), SIGN_IN_AGAIN)

    async def post_sign_out(self, request: Request) -> Response:
        """End the sign-in that a request comes by: a cookie's, or an access token's."""
        query(request, ())
        owners = self._served
        caller = await owners.door.caller(request)
        if caller.way not in ("sign-in", "browser") or caller.way_id is None:
            return failure(409, "there is no sign-in to end: revoke a token, or let it end")
        by = doer(request, caller.user)
        await owners.browsers.end(caller.user, caller.way_id, by)
        response = answer({"signedOut": True})
        owners.browsers.forget(response)
        return response

    async def get_memberships(self, request: Request) -> Response:
        """For a sync service: the shared spaces of somebody."""
        if not is_service(request.headers, self._service_key):
            return failure(401, "invalid or missing service key")
        query(request, ())
        user = path_part(request, "user")
        spaces = await self._office.people.memberships(user)
        told = [{"organizationId": space, "role": "member"} for space in spaces]
        return answer({"userId": user, "memberships": told})

    def _reader(self, request: Request) -> Reader:
        assert self._owners is not None  # or there were no office
        return reader_of(request, self._owners.language, self._owners.time_zone)

    def _no_link(self, request: Request) -> Response:
        reader = self._reader(request)
        problem = translations_of(reader.language).gettext(
            "This link is not good, or not any more: ask for another."
        )
        return page(reader, "locked.html", 404, way="owner", problem=problem)

    @property
    def _served(self) -> Owners:
        if self._owners is None:
            raise NotOurs
        return self._owners

    @property
    def _browsers(self) -> Browsers:
        return self._served.browsers

    @property
    def _office(self) -> SignInOffice:
        return office_of(self._owners)

    def _given(self, request: Request, tokens: Tokens | None, problem: str) -> Response:
        if tokens is None:
            self._note_failure(request)
            return failure(401, problem)
        log.info("token_given user=%s way=sign-in", tokens.user)
        return answer(tokens)

    def _note_failure(self, request: Request) -> None:
        """Raises TooOften where an address brought many that were wrong."""
        paced(self._failed, peer_of(request))


def sign_in_routes(owners: Owners | None, service_key: str) -> list[Route]:
    """All of them."""
    at = SignInRoutes(owners, service_key)
    listed: tuple[tuple[str, str, Callable[[Request], Awaitable[Response]]], ...] = (
        ("GET", f"{AUTH}/jwks", at.get_key_set),
        ("GET", "/api/auth/jwks", at.get_key_set),
        ("GET", "/sign-in", at.get_page),
        ("POST", "/sign-in", at.post_page),
        ("POST", f"{AUTH}/sign-in", at.post_sign_in),
        ("POST", f"{AUTH}/refresh", at.post_refresh),
        ("POST", f"{AUTH}/sign-out", at.post_sign_out),
        ("GET", "/api/v1/internal/users/{user}/memberships", at.get_memberships),
    )
    return [Route(path, handler, methods=[verb]) for verb, path, handler in listed]


def _secret(body: dict[str, object], field: str) -> str:
    given = body.get(field)
    if not isinstance(given, str) or not 1 <= len(given) <= MAX_SECRET_CHARS:
        raise BadRequest(field, f"must be a text of 1 to {MAX_SECRET_CHARS} characters")
    return given
