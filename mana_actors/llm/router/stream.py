"""Server-sent events: chunks as they come, and a comment now and then while none does."""

import asyncio
from collections.abc import AsyncGenerator, Coroutine, Mapping
from contextlib import suppress
from typing import Any, TypeVar

import msgspec
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from mana_actors.json_values import JsonObject

T = TypeVar("T")
KEEP_ALIVE_S = 15.0
DONE = b"data: [DONE]\n\n"
PING = b": keep-alive\n\n"
_HEADERS = {
    "content-type": "text/event-stream; charset=utf-8",
    "cache-control": "no-store",
    "x-accel-buffering": "no",
}


class EventStream:
    """An ASGI answer of one `data:` line per object that `events` yields, then `[DONE]`.

    `events` may not raise; it is closed in every case, also when the caller hangs up.
    """

    def __init__(
        self,
        events: AsyncGenerator[JsonObject],
        headers: Mapping[str, str],
        *,
        keep_alive_s: float = KEEP_ALIVE_S,
    ) -> None:
        self._events, self._keep_alive_s = events, keep_alive_s
        pairs = (_HEADERS | dict(headers)).items()
        self._headers = [(name.lower().encode(), text.encode("latin-1")) for name, text in pairs]

    async def __call__(self, _scope: Scope, receive: Receive, send: Send) -> None:
        """Send it all, unless the caller hangs up before the end."""
        await send({"type": "http.response.start", "status": 200, "headers": self._headers})
        with suppress(ClientDisconnect):
            await until_gone(receive, self._sent(send))

    async def _sent(self, send: Send) -> None:
        try:
            while True:
                coming = asyncio.ensure_future(anext(self._events, None))
                try:
                    while not (await asyncio.wait({coming}, timeout=self._keep_alive_s))[0]:
                        await send({"type": "http.response.body", "body": PING, "more_body": True})
                finally:
                    await cancelled(coming)
                event = coming.result()
                line = DONE if event is None else b"data: " + msgspec.json.encode(event) + b"\n\n"
                await send({"type": "http.response.body", "body": line, "more_body": True})
                if event is None:
                    break
        finally:
            await self._events.aclose()
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def until_gone(receive: Receive, work: Coroutine[Any, Any, T]) -> T:
    """What `work` returns; a caller who hangs up cancels it and raises ClientDisconnect."""
    working = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_hung_up(receive))
    try:
        await asyncio.wait({working, gone}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise ClientDisconnect
    finally:
        await cancelled(gone)
        await cancelled(working)


async def cancelled(task: asyncio.Future[Any]) -> None:
    """End a task if it is still under way, and wait until it has cleaned up."""
    if task.done():
        return
    task.cancel()
    await asyncio.wait({task})
    if not task.cancelled():
        task.exception()  # seen: nobody else will ask for it


async def _hung_up(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
