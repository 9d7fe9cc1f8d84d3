"""What people's own requests bring: who sent them, their bodies, and records pushed just before."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

from msgspec import structs
from starlette.requests import Request

from mana_actors.http import bodies
from mana_actors.http.bodies import BadRequest
from state.grants.vault import bad_request
from supervisor.custody.vaults import Caller

MAX_BODY_BYTES = 512 * 1024
"""A thousand record ids of 512 bytes."""
FOLDED_WITHIN_S = 2.0
LOOK_AGAIN_S = 0.1


def from_where(request: Request, caller: Caller) -> Caller:
    """The person with, for the trail, where they say they are."""
    forwarded = request.headers.get("x-forwarded-for", "").partition(",")[0]
    address = forwarded or request.headers.get("x-real-ip", "") or peer_of(request)
    return structs.replace(
        caller,
        ip_address=_short(address, 64),
        user_agent=_short(request.headers.get("user-agent", ""), 256),
    )


def peer_of(request: Request) -> str:
    """The address at the other end of the connection; "" for a test without one."""
    return request.client.host if request.client else ""


def _short(text: str, limit: int) -> str | None:
    """What a stranger says of themselves, fit for a row."""
    printable = "".join(c for c in text.strip() if c.isprintable())
    return printable[:limit] or None


async def json_object(request: Request) -> dict[str, Any]:
    """The JSON object in the body; raises VaultRefused (`BAD_REQUEST`)."""
    try:
        return await bodies.json_object(request, MAX_BODY_BYTES)
    except BadRequest as exc:
        raise bad_request(f"{exc.field} {exc.problem}") from exc


async def once_folded(look: Callable[[], Awaitable[bool]]) -> bool:
    """Whether it is so, or becomes so within two seconds.

    What a client pushed a moment ago may not be folded yet: look again before saying no.
    """
    give_up = time.monotonic() + FOLDED_WITHIN_S
    while not await look():
        if time.monotonic() >= give_up:
            return False
        await asyncio.sleep(LOOK_AGAIN_S)
    return True
