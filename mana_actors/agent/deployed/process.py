"""One child process: JSON in, JSON out, with an end to its time, memory and output."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from pathlib import Path
from typing import Literal

import msgspec

from mana_actors.json_values import JsonObject

MAX_OUTPUT_BYTES = 64 * 1024
_CHILD = Path(__file__).with_name("child.py")
_CLEAN = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8"}
_MARGIN_S = 1.0  # an interpreter's start is not the tool's time


class ToolProcessFailed(Exception):
    """The child gave no answer; `reason` is a phrase of ours: late, too large, dead, no JSON."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


async def ask_child(
    mode: Literal["describe", "call"],
    file: str,
    question: bytes = b"",
    *,
    deadline_s: float,
    memory_mb: int,
) -> JsonObject:
    """What the child says; it has our code's environment, files and credentials in no variable."""
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-I", str(_CHILD), mode, file, str(memory_mb), str(int(deadline_s) + 1)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env=_CLEAN,
        cwd="/",
        start_new_session=True,
    )
    try:
        async with asyncio.timeout(deadline_s + _MARGIN_S):
            raw = await _exchange(child, question)
    except TimeoutError:
        raise ToolProcessFailed("it took too long") from None
    finally:
        await _end(child)
    return _decoded(raw)


async def _exchange(child: asyncio.subprocess.Process, question: bytes) -> bytes:
    assert child.stdin is not None
    assert child.stdout is not None
    with contextlib.suppress(ConnectionError):  # it died: what it said tells
        child.stdin.write(question)
        await child.stdin.drain()
    child.stdin.close()
    said = bytearray()
    while chunk := await child.stdout.read(8192):
        said += chunk
        if len(said) > MAX_OUTPUT_BYTES:
            raise ToolProcessFailed("its answer is too large")
    return bytes(said)


async def _end(child: asyncio.subprocess.Process) -> None:
    """Nothing of it is left: it leads a process group, and all of that ends."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, signal.SIGKILL)
    await child.wait()


def _decoded(raw: bytes) -> JsonObject:
    if not raw:
        raise ToolProcessFailed("it ended without an answer")
    try:
        return msgspec.json.decode(raw, type=JsonObject)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        raise ToolProcessFailed("its answer is no JSON") from None
