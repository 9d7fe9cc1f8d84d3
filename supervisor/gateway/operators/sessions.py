"""Operators' sessions: whether one is still open, which there are, and ending them.

`GET /internal/sessions`, `DELETE /internal/sessions/{session}`, `DELETE /internal/sessions`; the
page does the same.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import Literal

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mana_actors.http.bodies import answer
from state.errors import StateError
from state.store.people.operators import OperatorSession, SessionStore, session_name
from supervisor.gateway.answers import failure, path_part, query
from supervisor.gateway.auth import Cookie, Sessions
from supervisor.gateway.operators.people import operator_in

log = logging.getLogger("mana.gateway")
LOOK_S = 2.0

Standing = Literal["open", "unknown", "none"]
"""`unknown`: the database does not say, so that all there is for it is the cookie's signature."""


class OperatorSessions:
    """Those of one door; `shared` is what all doors have the same of."""

    def __init__(self, shared: Sessions, store: SessionStore) -> None:
        self.shared, self._store = shared, store

    async def begin(self, request: Request, token: str) -> str | None:
        """A new session's cookie for a login token, which is spent; None for one that is not good.

        What the browser was signed in by before ends: its cookie is replaced.
        """
        value = self.shared.redeem(token)
        cookie = None if value is None else self.shared.cookie_of(value)
        if cookie is None:
            return None
        before = self.shared.cookie_in(request.headers)
        if before is not None:
            with suppress(StateError):
                await self.end(session_name(before.hashed))
        self.shared.unwritten[cookie.hashed] = operator_in(request)
        await self._standing(cookie)  # writes it, or leaves that to the next look
        log.info("operator_signed_in session=%s", session_name(cookie.hashed))
        return value

    async def standing(self, request: Request) -> Standing:
        """Whether the session that a request carries has begun and not ended."""
        cookie = self.shared.cookie_in(request.headers)
        return "none" if cookie is None else await self._standing(cookie)

    async def list(self) -> list[OperatorSession]:
        """Those that are open, the newest first."""
        return await self._store.list()

    async def end(self, name: str) -> bool:
        """End one for every copy of its cookie, at each door; False for none of this name."""
        unwritten = [one for one in [*self.shared.unwritten] if session_name(one) == name]
        for one in unwritten:
            self.shared.unwritten.pop(one, None)
        ended = await self._store.end(name) or bool(unwritten)
        if ended:
            log.info("operator_session_ended session=%s", name)
        return ended

    async def end_all(self) -> int:
        """End every session, also of whoever asks, and each login that was not used yet."""
        self.shared.forget_logins()
        self.shared.unwritten.clear()
        ended = await self._store.end_all()
        log.info("operator_sessions_ended count=%s", ended)
        return ended

    async def _standing(self, cookie: Cookie) -> Standing:
        # A connection that hangs is left to itself: cancelled it would keep us as long.
        looking = asyncio.ensure_future(self._is_open(cookie))
        done, _ = await asyncio.wait({looking}, timeout=LOOK_S)
        if not done:
            looking.add_done_callback(_left)
            return "unknown"
        try:
            return "open" if looking.result() else "none"
        except StateError:
            return "unknown"

    async def _is_open(self, cookie: Cookie) -> bool:
        """Raises StateError where the database does not say."""
        by = self.shared.unwritten.get(cookie.hashed)
        if by is None:
            return await self._store.is_open(cookie.hashed)
        try:
            await self._store.open(cookie.hashed, by, cookie.ends_at)
        except StateError:  # a full disk, say, on which an operator has to look at pages
            return True
        self.shared.unwritten.pop(cookie.hashed, None)
        return True


def _left(looking: asyncio.Future[bool]) -> None:
    """Take what became of a look that nobody waits for."""
    if not looking.cancelled():
        looking.exception()


def session_routes(sessions: OperatorSessions) -> list[Route]:
    """All of them over HTTP; the guard asks for the service key."""

    async def get_all(request: Request) -> Response:
        query(request, ())
        return answer({"items": await sessions.list()})

    async def delete_all(request: Request) -> Response:
        query(request, ())
        return answer({"ended": await sessions.end_all()})

    async def delete_one(request: Request) -> Response:
        query(request, ())
        name = path_part(request, "session")
        if not await sessions.end(name):
            return failure(404, "no such session", "session")
        return answer({"session": name, "ended": True})

    return [
        Route("/internal/sessions", get_all, methods=["GET"]),
        Route("/internal/sessions", delete_all, methods=["DELETE"]),
        Route("/internal/sessions/{session}", delete_one, methods=["DELETE"]),
    ]
