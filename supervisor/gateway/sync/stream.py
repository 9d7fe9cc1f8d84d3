"""`/sync/{app}/stream`: changes as server-sent events, from a position on and as they come.

One position for all tables: the last event of a page carries it as its id, so that a device that
comes back with `Last-Event-ID` has missed nothing and gets at most that page again.
"""

import asyncio
import time
from collections.abc import AsyncGenerator

import msgspec
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from mana_actors.http.bodies import NO_STORE
from state.store.connect import Unavailable
from state.store.gateway.sync_feeds import FeedPage, Position
from supervisor.custody.vaults import Caller
from supervisor.gateway.answers import path_part, query
from supervisor.gateway.people.owners import Owners
from supervisor.gateway.people.rate import TooOften
from supervisor.gateway.people.tokens import TokenRefused
from supervisor.gateway.sync.hub import Listener
from supervisor.gateway.sync.position import START, position_text, read_position
from supervisor.gateway.sync.routes import PULL_ROWS, client_of, refusals_told
from supervisor.gateway.sync.wire import told

HEARTBEAT_S = 30.0
LOOK_ANYWAY_S = 5.0
"""A notice may be lost with a connection to the database."""
LONGEST_S = 600.0
"""After that the device comes back, with a token that may be another."""
HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}


@refusals_told
async def get_stream(request: Request, caller: Caller, owners: Owners) -> Response:
    """Changes of some tables, or of all of the app's."""
    app = path_part(request, "app")
    given = query(request, ("collections", "since", "cursor"))
    named = [name.strip() for name in given.get("collections", "").split(",")]
    asked = frozenset(name for name in named if name)
    text = request.headers.get("last-event-id") or given.get("cursor") or given.get("since")
    since = read_position(text) if text else START
    owners.streams.require_place(caller.user)
    listener = Listener(caller.user, caller.spaces, client_of(request, ""), app)

    async def frames() -> AsyncGenerator[str]:
        # Listening begins before the first read, so that nothing falls in between.
        with owners.streams.one_more(caller.user), owners.sync_hub.listening(listener):
            async for frame in _frames(request, owners, listener, app, asked, since):
                yield frame

    headers = NO_STORE | HEADERS
    return StreamingResponse(frames(), media_type="text/event-stream", headers=headers)


async def _frames(
    request: Request,
    owners: Owners,
    listener: Listener,
    app: str,
    asked: frozenset[str],
    since: Position,
) -> AsyncGenerator[str]:
    ends_at = time.monotonic() + LONGEST_S
    told_at = time.monotonic()
    yield "retry: 2000\n\n"
    while time.monotonic() < ends_at:
        has_more = True
        while has_more:
            try:
                # Who left a space since, or lost their token, is told no more.
                again = await owners.door.caller(request)
                listener.spaces = (await owners.sync_outside.seen(again)).spaces
                # A device that leaves must not break a transaction off.
                page = await asyncio.shield(
                    owners.sync.page(
                        listener.user,
                        listener.spaces,
                        app,
                        since,
                        client=listener.client,
                        rows=PULL_ROWS,
                    )
                )
            except (TokenRefused, TooOften, Unavailable):
                return
            since, has_more = page.reached, page.has_more
            owners.sync_hub.metrics.inc("sync_changes_sent_total", n=len(page.rows))
            frames = await asyncio.to_thread(_changes, page, asked)
            if frames:
                told_at = time.monotonic()
            for frame in frames:
                yield frame
                owners.sync.crash("sync_in_event")
        left = HEARTBEAT_S - (time.monotonic() - told_at)
        if left <= 0:
            told_at = time.monotonic()
            yield f"event: heartbeat\nid: {position_text(since)}\ndata: {{}}\n\n"
        else:
            await listener.notices(min(left, LOOK_ANYWAY_S))


def _changes(page: FeedPage, asked: frozenset[str]) -> list[str]:
    """An event for each table with rows; the last one's id says that the page was sent."""
    tables: dict[str, list[object]] = {}
    for row in page.rows:
        if not asked or row.table in asked:
            tables.setdefault(row.table, []).append(told(row))
    until = position_text(page.reached)
    frames: list[str] = []
    for place, (table, changes) in enumerate(tables.items(), 1):
        body = {
            "changes": changes,
            "hasMore": page.has_more,
            "syncedUntil": until,
            "table": table,
        }
        head = f"id: {until}\n" if place == len(tables) else ""
        frames.append(f"event: changes\n{head}data: {msgspec.json.encode(body).decode()}\n\n")
    return frames
