"""Tells a person's open pages that something of theirs changed, so that they look again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator

from starlette.responses import Response, StreamingResponse

from mana_actors.http.bodies import NO_STORE
from state.store.connect import Unavailable
from supervisor.gateway.answers import query
from supervisor.gateway.pages.owner.gate import Visit
from supervisor.gateway.people.tokens import TokenRefused

LOOK_S = 2.0
HEARTBEAT_S = 15.0
LONGEST_S = 600.0
"""After that the browser comes back by itself."""


async def get_live(visit: Visit) -> Response:
    """`/me/live`: an event `changed` whenever a page of this person may show something else.

    It ends with the sign-in that it came by.
    """
    query(visit.request, ())
    owners, user = visit.owners, visit.caller.user
    owners.streams.require_place(user)

    async def frames() -> AsyncGenerator[str]:
        with owners.streams.one_more(user):
            yield "retry: 3000\n\n"
            ends_at, told_at, known = time.monotonic() + LONGEST_S, time.monotonic(), ""
            while time.monotonic() < ends_at:
                try:
                    await owners.door.caller(visit.request)
                    pulse = await asyncio.shield(owners.glance.pulse(user))
                except (TokenRefused, Unavailable):
                    return
                if pulse != known:
                    yield "event: changed\ndata: \n\n"
                    known, told_at = pulse, time.monotonic()
                elif time.monotonic() - told_at > HEARTBEAT_S:
                    yield ": still here\n\n"
                    told_at = time.monotonic()
                await asyncio.sleep(LOOK_S)

    headers = NO_STORE | {"X-Accel-Buffering": "no"}
    return StreamingResponse(frames(), media_type="text/event-stream", headers=headers)
