"""The node's side of the key holder: started, started again, and never left behind."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncGenerator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from mana_actors.keys.client import KeyHolder, KeyHolderUnreachable
from supervisor.custody.key_folder import add_key, key_folder
from supervisor.node.key_holder import RETRY_MIN_S, KeyHolderProcess
from supervisor.node.settings import Settings
from tests.integration.support import until

pytestmark = pytest.mark.one_postgres

NOWHERE = "postgresql://127.0.0.1:1/x"  # it connects when it is asked
PARENT = """
import asyncio, sys, msgspec
from supervisor.node.key_holder import KeyHolderProcess
from supervisor.node.settings import Settings

async def main():
    holder = KeyHolderProcess(Settings.from_wire(sys.argv[1].encode()), sys.argv[2])
    await holder.tend()
    await asyncio.sleep(600)

asyncio.run(main())
"""


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    made = Settings(data_dir=str(tmp_path), secrets_dir=str(tmp_path / "secrets"))
    add_key(made.keys_path, "runner", datetime.now(UTC))
    add_key(made.keys_path, "issuer", datetime.now(UTC))
    return made


@pytest.fixture
async def holder(settings: Settings) -> AsyncGenerator[KeyHolderProcess]:
    made = KeyHolderProcess(settings, NOWHERE)
    yield made
    await made.stop()


async def answers(settings: Settings) -> bool:
    try:
        await KeyHolder(str(settings.key_socket)).counts()
    except KeyHolderUnreachable:
        return False
    return True


def pid_of(holder: KeyHolderProcess) -> int:
    assert holder._process is not None  # pyright: ignore[reportPrivateUsage]
    return holder._process.pid  # pyright: ignore[reportPrivateUsage]


async def test_a_killed_key_holder_is_started_again(settings: Settings, holder: KeyHolderProcess):
    await holder.tend()
    await until(lambda: answers(settings), 60)
    first = pid_of(holder)
    await holder.tend()
    assert pid_of(holder) == first  # it runs: nothing to do
    os.kill(first, signal.SIGKILL)

    async def is_back() -> bool:
        await holder.tend()
        return pid_of(holder) != first and await answers(settings)

    await until(is_back, 60)


async def test_a_key_holder_that_cannot_start_is_tried_less_and_less(
    settings: Settings, holder: KeyHolderProcess
):
    key_folder(settings.keys_path).runner_private[0].write_text("rubbish")
    await holder.tend()
    process = holder._process  # pyright: ignore[reportPrivateUsage]
    assert process is not None
    assert await asyncio.wait_for(process.wait(), 60) == 2
    holder._started_at = time.monotonic()  # pyright: ignore[reportPrivateUsage]
    await holder.tend()
    assert pid_of(holder) == process.pid  # it ended just now
    holder._started_at -= RETRY_MIN_S  # pyright: ignore[reportPrivateUsage]
    await holder.tend()
    assert pid_of(holder) != process.pid
    assert holder._wait_s == 2 * RETRY_MIN_S  # pyright: ignore[reportPrivateUsage]


async def test_a_key_holder_without_a_key_says_so_and_answers(
    settings: Settings, holder: KeyHolderProcess, capfd: pytest.CaptureFixture[str]
):
    for path in settings.keys_path.glob("runner-*"):
        path.unlink()
    await holder.tend()
    await until(lambda: answers(settings), 60)
    assert "key_holder_has_no_key" in capfd.readouterr().err


async def test_no_key_holder_outlives_its_node(settings: Settings, tmp_path: Path):
    with (tmp_path / "log").open("wb") as log:
        node = await asyncio.to_thread(
            subprocess.Popen,
            [sys.executable, "-c", PARENT, settings.to_wire().decode(), NOWHERE],
            stderr=log,
        )
    try:
        await until(lambda: answers(settings), 60)
    finally:
        node.kill()
        node.wait()

    async def is_gone() -> bool:
        return not await answers(settings)

    await until(is_gone, 60)
    await until(lambda: asyncio.to_thread(lambda: not settings.key_socket.exists()), 60)
