"""`python -m tests.crowd HOW WHERE COUNT`: many connections that hold a listener up, for real.

HOW are some of `WAYS`, with commas, which the connections share; WHERE is a port of loopback, or
the path of a Unix socket. Prints `held` once all have connected, then goes on until standard input
ends. Whoever is dropped returns after 5 s.
"""

import asyncio
import os
import resource
import sys
from contextlib import suppress

_AGAIN_S = 5.0
_DRIP_S = 5.0
_NO_ROOM_S = 30.0

HEAD = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n"
POST = b"POST /api/v1/me/ai-budget HTTP/1.1\r\nHost: localhost\r\nContent-Length: 50000\r\n\r\n"
WAYS: dict[str, tuple[bytes, bytes]] = {
    "silent": (b"", b""),
    "head": (HEAD, b"X: y\r\n"),
    "body": (POST, b" "),
    "unread": (HEAD + b"\r\n", HEAD + b"\r\n"),
    "handshake": (bytes.fromhex("16030102000100"), b"\x00"),
    "frame": (b"\x00\x00\x03\xe8", b" "),
}
"""What is sent at first, and what is dripped after it. Nothing is ever read."""


async def main(how: str, where: str, count: int) -> None:
    """Hold so many connections until standard input ends."""
    ways = how.split(",")
    connected = asyncio.Semaphore(64)  # as many at a time as a listener's queue can take
    arrived = asyncio.Event()
    held = 0

    async def hold(how: str) -> None:
        nonlocal held
        begun, dripped = WAYS[how]
        is_first = True
        while True:
            with suppress(OSError, TimeoutError):
                async with connected, asyncio.timeout(_NO_ROOM_S):
                    if where.isdecimal():
                        opened = await asyncio.open_connection("127.0.0.1", int(where))
                    else:
                        opened = await asyncio.open_unix_connection(where)
                reader, writer = opened
                if how == "unread":
                    writer.transport.pause_reading()  # pyright: ignore[reportAttributeAccessIssue] # it can
                if is_first:
                    is_first, held = False, held + 1
                    if held == count:
                        arrived.set()
                writer.write(begun)
                while not writer.is_closing():
                    await asyncio.sleep(_DRIP_S)
                    writer.write(dripped)
                    if reader.at_eof():
                        break
                writer.transport.abort()
            await asyncio.sleep(_AGAIN_S)

    async with asyncio.TaskGroup() as tasks:
        holding = [tasks.create_task(hold(ways[n % len(ways)])) for n in range(count)]
        await arrived.wait()
        sys.stdout.write("held\n")
        sys.stdout.flush()
        await asyncio.to_thread(os.read, 0, 1)
        for each in holding:
            each.cancel()


if __name__ == "__main__":
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
