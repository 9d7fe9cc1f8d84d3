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
    """The child's answer; raises ToolProcessFailed. Its environment is empty but for PATH, LANG."""
    loop = asyncio.get_running_loop()
    child, answer = await loop.subprocess_exec(
        lambda: _Answer(loop),
        *(sys.executable, "-I", str(_CHILD), mode, file, str(memory_mb), str(int(deadline_s) + 1)),
        stderr=asyncio.subprocess.DEVNULL,
        env=_CLEAN,
        cwd="/",
        start_new_session=True,
    )
    try:
        async with asyncio.timeout(deadline_s + _MARGIN_S):
            pipe = child.get_pipe_transport(0)
            assert isinstance(pipe, asyncio.WriteTransport)
            pipe.write(question)
            pipe.close()
            raw = await answer.whole
    except TimeoutError:
        raise ToolProcessFailed("it took too long") from None
    finally:
        # It leads a process group: all of that ends, and with it the pipes. `Process.wait` would
        # also wait for whoever else holds a pipe.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(child.get_pid(), signal.SIGKILL)
        await answer.gone.wait()
        child.close()
    if not raw:
        raise ToolProcessFailed("it ended without an answer")
    try:
        return msgspec.json.decode(raw, type=JsonObject)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        raise ToolProcessFailed("its answer is no JSON") from None


class _Answer(asyncio.SubprocessProtocol):
    """What a child says until it closes its end, or says too much."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._said = bytearray()
        self.whole: asyncio.Future[bytes] = loop.create_future()
        self.gone = asyncio.Event()

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        self._said += data
        if fd == 1 and len(self._said) > MAX_OUTPUT_BYTES and not self.whole.done():
            self.whole.set_exception(ToolProcessFailed("its answer is too large"))

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        del exc  # whatever cut it short shows in what was said
        if fd == 1 and not self.whole.done():
            self.whole.set_result(bytes(self._said))

    def process_exited(self) -> None:
        self.gone.set()
