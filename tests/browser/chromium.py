"""The Chromium that is installed, as a person uses it; nothing is downloaded."""

import shutil
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest
from playwright.async_api import Browser, async_playwright

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
NEEDED = [
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium here: apt-get install -y chromium"),
    pytest.mark.skipif(sys.platform != "linux", reason="Debian's chromium"),
]
ARGUMENTS = ("--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking")


@asynccontextmanager
async def open_browser() -> AsyncGenerator[Browser]:
    """A browser of its own, which ends with the block."""
    async with async_playwright() as driver:
        browser = await driver.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        try:
            yield browser
        finally:
            await browser.close()
