"""What every request passes before and after a server's own code."""

import logging
import secrets
import time
from collections.abc import Callable
from http import HTTPStatus
from urllib.parse import quote

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mana_actors.http.paths import PathUnclear, checked_path
from mana_actors.logs import without_text

UNMATCHED = "unmatched"
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"})

Guard = Callable[[Scope], ASGIApp | None]
"""The answer for a request that may not pass, or None."""
Known = Callable[[Exception], ASGIApp | None]
"""The answer for an error that the server knows, or None."""
Refusal = Callable[[int, str], ASGIApp]
"""A status and a few words in the shape that the server's callers read."""
Count = Callable[[str, str, int, float], None]
"""Hears method, path of the route, status and seconds; all but the last fit as metric labels."""


class Edge:
    """The guard in front of an app, the one net for its errors, and the count of its answers.

    Guard and routes see the path as it was sent, so that no other spelling of it gets past either.
    """

    def __init__(
        self,
        inner: ASGIApp,
        *,
        guard: Guard,
        known: Known,
        refusal: Refusal,
        log: logging.Logger,
        count: Count | None = None,
    ) -> None:
        self._inner, self._guard, self._known, self._refusal = inner, guard, known, refusal
        self._log, self._count = log, count

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request; other kinds of traffic are refused."""
        if scope["type"] != "http":
            return
        began, status = time.monotonic(), 0
        scope["app"] = self  # unmatched paths then raise, and end in the net below

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            raw = scope.get("raw_path") or quote(scope["path"]).encode()
            scope["path"] = checked_path(raw)
            await (self._guard(scope) or self._inner)(scope, receive, sending)
        except Exception as exc:  # the one place that turns errors into answers
            if status:
                raise
            await self._answer_to(exc)(scope, receive, sending)
        finally:
            if self._count is not None:
                route = scope.get("route")
                path = route.path if isinstance(route, Route) else UNMATCHED
                method = scope["method"] if scope["method"] in METHODS else "other"
                # Without an answer the caller has gone away, or we are ending.
                self._count(method, path, status or 499, time.monotonic() - began)

    def _answer_to(self, exc: Exception) -> ASGIApp:
        answer = self._known(exc)
        if answer is not None:
            return answer
        match exc:
            case PathUnclear():
                return self._refusal(400, f"path: {exc}")
            case HTTPException():
                return self._refusal(exc.status_code, HTTPStatus(exc.status_code).phrase.lower())
            case ClientDisconnect():
                return self._refusal(499, "the caller went away")
            case _:
                # Its text may hold what the caller sent; type and place are enough to look for it.
                self._log.error(
                    "request_failed error=%s", type(exc).__name__, exc_info=without_text(exc)
                )
                return self._refusal(500, "internal error")


def has_bearer(scope: Scope, token: str) -> bool:
    """Whether a request brings this token, which is not empty, in constant time."""
    given = next((text for name, text in scope["headers"] if name == b"authorization"), b"")
    return bool(token) and secrets.compare_digest(given, f"Bearer {token}".encode())
