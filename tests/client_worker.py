"""`python -m tests.client_worker FOLDER URL RECORD [POINT WHEN]`: a client that may be killed.

Writes RECORD and RECORD-2 in one transaction, then syncs; the token is on standard input. With
POINT it dies there the first time that it gets there while it writes or syncs, as WHEN says.
"""

import asyncio
import sys
from pathlib import Path

from mana_actors.client import Client
from mana_actors.crash import crash_points


async def main(folder: str, url: str, record: str, point: str = "", when: str = "") -> None:
    """Write and sync."""
    armed = Path(folder, "armed")
    crash = crash_points(f"{point}:{armed}" if point else None)
    token = sys.stdin.read()
    path = Path(folder, "store.db")
    async with Client.open(path, url=url, token=token, live=False, crash=crash) as client:
        tasks = client.table("tasks")
        if when == "write":
            await asyncio.to_thread(armed.touch)
        if await tasks.get(record) is None:
            async with client.transaction():
                await tasks.put(record, {"title": "one"})
                await tasks.put(f"{record}-2", {"title": "two"})
        if when == "sync":
            await asyncio.to_thread(armed.touch)
        await client.sync("todo")


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
