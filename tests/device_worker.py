"""A device that carries out what waits and dies by SIGKILL at a point.

`device_worker STORE URL POINT`; token and master key, in base64, are two lines of stdin.
"""

import asyncio
import base64
import os
import signal
import sys

from mana_actors.client import Client
from mana_actors.client.owner.sealing import OwnerKeys


async def main(store: str, url: str, point: str) -> None:
    """One pass."""
    token, key = sys.stdin.read().split()

    def reached(name: str) -> None:
        if name == point:
            os.kill(os.getpid(), signal.SIGKILL)

    keys = OwnerKeys("u1", base64.b64decode(key))
    async with Client.open(
        store, url=url, token=token, user="u1", keys=keys, live=False, crash=reached
    ) as client:
        await client.proposals.carry_out()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:4]))
