"""One life of a node's work: a child process, the parts that it names, the end of any of them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable, Mapping, Sequence

import msgspec

READY = "ready"
LOST = "lost: "
"""Begins a line that says why all of the work has to start again."""


class LifeEnd(msgspec.Struct, frozen=True):
    """Why a life is over, and the exit code of its process where that ended by itself."""

    why: str
    code: int | None = None

    @staticmethod
    def of(status: int) -> LifeEnd:
        """What waitpid told."""
        code = os.waitstatus_to_exitcode(status)
        if code < 0:
            return LifeEnd(f"its process was ended by {signal.Signals(-code).name}")
        return LifeEnd(f"its process ended with {code}", code)


class Life:
    """Starts the process; `over` is done with the first end that is seen.

    The process tells by lines in a pipe: `ready`, or the name and number of a process of another
    parent, without which it is nothing, or what it lost.
    """

    def __init__(
        self,
        work: Sequence[str],
        environment: Mapping[str, str],
        *,
        on_ready: Callable[[], None],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self.over: asyncio.Future[LifeEnd] = self._loop.create_future()
        self.is_ready = self._is_ending = False
        self._on_ready = on_ready
        self._heard = b""
        self._told, tell = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        os.set_inheritable(tell, True)
        # A group of its own: Ctrl-C in a terminal is the keeper's, who passes it on in order.
        command = [*work, "--tell", str(tell)]
        self.child = os.posix_spawn(command[0], command, environment, setpgroup=0)
        os.close(tell)
        self._loop.add_reader(self._told, self._hear)

    def ask_to_end(self) -> None:
        """Have it end in order: its parts may go before it."""
        self._is_ending = True
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.child, signal.SIGTERM)

    def end(self, ended: LifeEnd) -> None:
        """It is over; the first word counts."""
        if not self.over.done():
            self.over.set_result(ended)

    def _hear(self) -> None:
        raw = os.read(self._told, 4096)
        if not raw:  # its end is heard otherwise, too
            self._loop.remove_reader(self._told)
            os.close(self._told)
        *lines, self._heard = (self._heard + raw).split(b"\n")
        for line in (raw.decode() for raw in lines):
            name, _, number = line.rpartition(" ")
            if line == READY:
                self.is_ready = True
                self._on_ready()
            elif not line.startswith(LOST):
                self._watch(name, int(number))
            elif not self._is_ending:
                self.end(LifeEnd(line.removeprefix(LOST)))

    def _watch(self, name: str, pid: int) -> None:
        """A process that waits for nobody to reap it counts as ended, unlike for `kill(pid, 0)`."""
        ended = LifeEnd(f"{name} (process {pid}) ended")
        try:
            part = os.pidfd_open(pid)
        except ProcessLookupError:
            self.end(ended)
            return
        self._loop.add_reader(part, self._gone, part, ended)

    def _gone(self, part: int, ended: LifeEnd) -> None:
        self._loop.remove_reader(part)
        with contextlib.suppress(OSError):
            os.close(part)
        if not self._is_ending:
            self.end(ended)
