"""A tab of a real Chromium, driven over its debugging pipe: what a person could see and click."""

import asyncio
import base64
import json
import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any


class Tab:
    """Goes to addresses, looks and clicks; every call is one exchange over the pipe."""

    def __init__(self, reader: asyncio.StreamReader, pipe: int) -> None:
        self._reader, self._pipe = reader, pipe
        self._number = 0
        self.session: str | None = None

    async def call(self, method: str, **params: Any) -> dict[str, Any]:
        """The result of one method of the protocol."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": params}
        if self.session is not None:
            message["sessionId"] = self.session
        os.write(self._pipe, json.dumps(message).encode() + b"\0")
        while True:
            told = json.loads((await self._reader.readuntil(b"\0"))[:-1])
            if told.get("id") == self._number:
                return told.get("result", {})

    async def go(self, url: str) -> None:
        """Open an address."""
        await self.call("Page.navigate", url=url)

    async def value(self, expression: str) -> Any:
        """What an expression of the page's own says; None while it is loading."""
        found = await self.call("Runtime.evaluate", expression=expression)
        return found.get("result", {}).get("value")

    async def sees(self, expression: str) -> None:
        """Return once an expression is true."""
        async with asyncio.timeout(20):
            complete = f"document.readyState === 'complete' && ({expression})"
            while await self.value(complete) is not True:  # noqa: ASYNC110  # it sends no event
                await asyncio.sleep(0.05)

    async def click(self, selector: str) -> None:
        """Click what a selector finds first."""
        await self.value(f"document.querySelector({json.dumps(selector)}).click()")

    async def press(self, key: str) -> None:
        """Press and release a key."""
        await self.call("Input.dispatchKeyEvent", type="keyDown", key=key, text=key)
        await self.call("Input.dispatchKeyEvent", type="keyUp", key=key)

    async def screenshot(self, path: Path) -> None:
        """A picture of the page."""
        shot = await self.call("Page.captureScreenshot", captureBeyondViewport=True)
        await asyncio.to_thread(path.write_bytes, base64.b64decode(shot["data"]))


@asynccontextmanager
async def open_tab(chromium: str, profile: Path) -> AsyncGenerator[Tab]:
    """A tab of a browser of its own, which ends with the block."""
    to_browser, from_browser = os.pipe(), os.pipe()
    process = await asyncio.create_subprocess_exec(
        "/bin/bash",
        "-c",
        f'exec "$@" 3<&{to_browser[0]} 4>&{from_browser[1]}',
        "bash",
        chromium,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--window-size=1250,900",
        f"--user-data-dir={profile}",
        "--remote-debugging-pipe",
        stderr=asyncio.subprocess.DEVNULL,
        pass_fds=(to_browser[0], from_browser[1]),
    )
    os.close(to_browser[0])
    os.close(from_browser[1])
    reader = asyncio.StreamReader(limit=64 * 1024 * 1024)
    loop = asyncio.get_running_loop()
    transport, _ = await loop.connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(from_browser[0], "rb")
    )
    tab = Tab(reader, to_browser[1])
    try:
        target = await tab.call("Target.createTarget", url="about:blank")
        attached = await tab.call(
            "Target.attachToTarget", targetId=target["targetId"], flatten=True
        )
        tab.session = attached["sessionId"]
        yield tab
    finally:
        process.kill()
        await process.wait()
        transport.close()
        os.close(to_browser[1])
