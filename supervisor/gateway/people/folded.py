"""What a client pushed a moment ago may not be folded yet: look again before saying no."""

import asyncio
import time
from collections.abc import Awaitable, Callable

FOLDED_WITHIN_S = 2.0
LOOK_AGAIN_S = 0.1


async def once_folded(look: Callable[[], Awaitable[bool]]) -> bool:
    """Whether it is so, or becomes so within two seconds."""
    give_up = time.monotonic() + FOLDED_WITHIN_S
    while not await look():
        if time.monotonic() >= give_up:
            return False
        await asyncio.sleep(LOOK_AGAIN_S)
    return True
