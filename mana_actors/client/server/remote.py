"""Requests to a server: asked again where that may help, with a token renewed where it must be."""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import AsyncGenerator, Callable
from typing import TYPE_CHECKING

import msgspec

from mana_actors.client.errors import NotSignedIn, ServerAway, ServerRefused, SyncInactive
from mana_actors.client.server.credentials import Credentials
from mana_actors.client.server.events import EventReader, EventsUnreadable, ServerEvent
from mana_actors.clients.answers import PLAIN, AnswerUnreadable, BoundedAnswer, bounded_answer
from mana_actors.json_values import as_object, as_text

if TYPE_CHECKING:
    import httpx2

ATTEMPTS = 3
FIRST_WAIT_S = 0.5
LONGEST_WAIT_S = 8.0
ANSWER_S = 60.0
SILENCE_S = 75.0
"""Of a stream that has a heartbeat every 30 s."""
MAX_ANSWER_BYTES = 256 * 1024 * 1024
PROBLEM = "application/problem+json"
_spread = secrets.SystemRandom().random
_WHICH_CHANGE = re.compile(r"\bin change ([0-9]{1,6})\b")
_PASSES = frozenset({408, 429})
_REFUSES_CHANGE = frozenset({400, 409, 413, 422})


class PushRefused(ServerRefused):
    """The server will not take a push as it is; `change` is the index of what it did not like."""

    def __init__(self, status: int, text: str, change: int | None) -> None:
        super().__init__(status, text)
        self.args = (status, text, change)
        self.change = change


class Remote:
    """A server at a base address; `http` is somebody else's to close."""

    def __init__(
        self,
        http: httpx2.AsyncClient,
        credentials: Credentials,
        *,
        spread: Callable[[], float] = _spread,
    ) -> None:
        self._http, self._credentials = http, credentials
        self._spread = spread

    async def asked(self, verb: str, path: str, body: bytes | None = None) -> BoundedAnswer:
        """An answer of 2xx.

        Raises ServerAway, SyncInactive, NotSignedIn, PushRefused and ServerRefused.
        """
        problem = ServerAway("not asked")
        for attempt in range(ATTEMPTS):
            if attempt:
                most = min(LONGEST_WAIT_S, FIRST_WAIT_S * 2 ** (attempt - 1))
                await asyncio.sleep(most * self._spread())
            try:
                answered = await self._once(verb, path, body)
            except AnswerUnreadable as exc:
                problem = ServerAway(exc.reason)
                continue
            if answered.is_success:
                return answered
            if answered.status_code not in _PASSES and answered.status_code < 500:
                raise refusal_of(answered)
            wait = answered.headers.get("retry-after", "")
            wait_s = float(wait) if wait.isdecimal() else None
            problem = ServerAway(f"status {answered.status_code}", wait_s)
            if wait_s is not None and wait_s > LONGEST_WAIT_S:
                break
        raise problem

    async def events(self, path: str, client_id: str) -> AsyncGenerator[ServerEvent]:
        """What the server tells as it happens, until it ends the stream.

        Raises as `asked` does, and ServerAway after a silence; nothing is tried again here.
        """
        import httpx2  # noqa: PLC0415 - here it is loaded, as the client was made

        token = await self._credentials.token()
        while token is not None:
            headers = {"Authorization": f"Bearer {token}", "X-Client-Id": client_id, **PLAIN}
            timeout = httpx2.Timeout(ANSWER_S, read=SILENCE_S)
            try:
                async with self._http.stream(
                    "GET", path, headers=headers, timeout=timeout
                ) as answered:
                    if answered.status_code == 200:
                        reader = EventReader()
                        async for chunk in answered.aiter_raw():
                            for event in reader.feed(chunk):
                                yield event
                        return
            except (httpx2.HTTPError, OSError, EventsUnreadable) as exc:
                raise ServerAway(type(exc).__name__) from exc
            status = answered.status_code
            if status != 401:
                wait = answered.headers.get("retry-after", "")
                if status in _PASSES or status >= 500:
                    wait_s = float(wait) if wait.isdecimal() else None
                    raise ServerAway(f"status {status}", wait_s)
                raise refusal_of(BoundedAnswer(status, b"", {}))
            token = await self._credentials.token(refused=token)
        raise NotSignedIn(401)

    async def _once(self, verb: str, path: str, body: bytes | None) -> BoundedAnswer:
        token = await self._credentials.token()
        if token is None:
            raise NotSignedIn(401)
        answered = await self._sent(verb, path, body, token)
        if answered.status_code != 401:
            return answered
        renewed = await self._credentials.token(refused=token)
        if renewed is None or renewed == token:
            return answered
        return await self._sent(verb, path, body, renewed)

    async def _sent(self, verb: str, path: str, body: bytes | None, token: str) -> BoundedAnswer:
        headers = {"Authorization": f"Bearer {token}", "Accept": f"application/json, {PROBLEM}"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        return await bounded_answer(
            self._http,
            verb,
            path,
            within_s=ANSWER_S,
            max_bytes=MAX_ANSWER_BYTES,
            headers=headers,
            content=body,
        )


def refusal_of(answered: BoundedAnswer) -> Exception:
    """What an answer that is no success says, as an error of ours."""
    status = answered.status_code
    if status == 402:
        return SyncInactive()
    text, change = answered.content[:500].decode("utf-8", "replace").strip(), None
    try:
        told = as_object(msgspec.json.decode(answered.content)) or {}
    except (msgspec.MsgspecError, UnicodeDecodeError):
        told = {}
    if told:
        names = ("detail", "title", "error", "message")
        text = next((said for name in names if (said := as_text(told.get(name)))), text)
    if which := _WHICH_CHANGE.search(text):
        change = int(which[1])
    if status in _REFUSES_CHANGE or (status == 403 and change is not None):
        return PushRefused(status, text, change)
    if status in (401, 403):
        return NotSignedIn(status)
    return ServerRefused(status, text)
