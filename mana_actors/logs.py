"""Log lines: time, level, a past-tense event, its fields; ids only, no title, prompt or secret.

An error's own text is one of ours or it is not shown: libraries quote the values they choke on.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import shutil
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

log = logging.getLogger("mana.tasks")

FOLDER = "MANA_LOG_DIR"
"""The variable by which a node tells what it starts where the logs are."""

MOST_BYTES = 8 * 1024 * 1024
KEPT = 2
"""Full files that are kept beside the one that is written."""

_FORMAT = "%(asctime)s %(levelname)s %(name)s %(message)s"
_SHARED_FORMAT = "%(asctime)s %(levelname)s %(name)s [%(process)d%(whose)s] %(message)s"


def configure_logging(kind: str | None = None, level: int = logging.INFO) -> None:
    """Lines on stderr, once per process; with a kind also in the node's log of this kind."""
    root = logging.getLogger("mana")
    if root.handlers:
        return
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter(_FORMAT))
    root.addHandler(handler)
    root.setLevel(level)
    root.propagate = False
    if kind is not None:
        log_to_folder(kind)


def log_to_folder(kind: str) -> None:
    """Lines also in `<kind>.log` of the node's folder; without a node that has one, nowhere."""
    folder = os.environ.get(FOLDER)
    root = logging.getLogger("mana")
    if folder and not any(isinstance(each, SharedLog) for each in root.handlers):
        root.addHandler(SharedLog(Path(folder, f"{kind}.log")))
        root.setLevel(logging.INFO)


def belongs_to(pair: str) -> None:
    """From now on this process' lines in the node's log name this USER/AGENT."""
    for each in logging.getLogger("mana").handlers:
        if isinstance(each, SharedLog):
            each.whose = f" {pair}"


class SharedLog(logging.Handler):
    """Appends whole lines to a file that many processes write; whoever finds it full turns it over.

    One `write` appends one line, and the kernel lets no other come in between. A line that cannot
    be written is lost: a full disk ends no process.
    """

    def __init__(self, path: Path, most_bytes: int = MOST_BYTES) -> None:
        super().__init__()
        self.setFormatter(_Shared(_SHARED_FORMAT))
        self.whose = ""
        self._path, self._most = path, most_bytes
        self._file: int | None = None

    def emit(self, record: logging.LogRecord) -> None:
        record.whose = self.whose
        line = self.format(record).encode("utf-8", "backslashreplace") + b"\n"
        with suppress(OSError):
            os.write(self._current(), line)

    def close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None
        super().close()

    def _current(self) -> int:
        """The file of this name as it is now: another process may have turned it over."""
        if self._file is not None:
            found = os.fstat(self._file)
            with suppress(OSError):
                if self._path.stat().st_ino == found.st_ino and found.st_size < self._most:
                    return self._file
            os.close(self._file)
            self._file = None
        turn_over(self._path, self._most)
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        self._file = os.open(self._path, flags, 0o600)
        return self._file


class _Shared(logging.Formatter):
    """One line a record, whatever ids hold; a traceback follows it, indented."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - its name
        line = super().formatMessage(record)
        return "".join(c if c.isprintable() else repr(c)[1:-1] for c in line)

    def format(self, record: logging.LogRecord) -> str:
        return super().format(record).replace("\n", "\n    ")


def turn_over(path: Path, most_bytes: int = MOST_BYTES) -> None:
    """Where a log is full, put it aside as `.1`, the one before as `.2`, and forget the oldest."""
    with suppress(OSError):
        if path.stat().st_size < most_bytes:
            return
        lock = os.open(path.with_name(f".{path.name}.lock"), os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if path.stat().st_size < most_bytes:  # somebody else was faster
                return
            for number in range(KEPT, 0, -1):
                older = path if number == 1 else path.with_name(f"{path.name}.{number - 1}")
                with suppress(FileNotFoundError):
                    older.replace(path.with_name(f"{path.name}.{number}"))
        finally:
            os.close(lock)


def cut_over(path: Path, most_bytes: int = MOST_BYTES) -> None:
    """The same for a full log that others append to and never open again: copied, then emptied.

    What comes between the two is lost, and all of it where there is no room for a copy.
    """
    with suppress(OSError):
        if path.stat().st_size < most_bytes:
            return
        newest = path.with_name(f"{path.name}.1")
        with suppress(FileNotFoundError):
            newest.replace(path.with_name(f"{path.name}.2"))
        try:
            shutil.copyfile(path, newest)
        except OSError:
            newest.unlink(missing_ok=True)
        os.truncate(path, 0)


def without_text(exc: BaseException) -> BaseException:
    """The type of an error and where it was raised, without its text and without its causes."""
    return RuntimeError(type(exc).__name__).with_traceback(exc.__traceback__)


def keep_texts_out(loop: asyncio.AbstractEventLoop) -> None:
    """What breaks in this loop while nobody awaits it is logged by type and place alone."""
    loop.set_exception_handler(_task_broken)


def _task_broken(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    exc = context.get("exception")
    place = None if exc is None else without_text(exc)
    log.error("task_broken error=%s", type(exc).__name__, exc_info=place)
