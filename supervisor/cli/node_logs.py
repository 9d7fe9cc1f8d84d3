"""`mana logs`: what the processes of a node wrote into its folder, in the order of their times."""

import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from supervisor.cli.failures import UNREACHABLE, USAGE, Failure
from supervisor.node.address import log_file

KINDS = ("node", "supervisor", "gateway", "router", "agents")
KEYS = b" mana.keys "
"""The key holder is the node's child and writes where the node does."""

POLL_S = 0.2
TIME_CHARS = 23  # 2026-04-26 10:00:00,123

Keep = Callable[[bytes], bool]


class Tail(msgspec.Struct):
    """The file of one kind, and how far it was shown."""

    kind: str
    path: Path
    keep: Keep
    inode: int = 0
    offset: int = 0
    kept_last: bool = False  # a traceback belongs to the line above it

    def read(self) -> list[bytes]:
        """Whole lines that were written since the last call, also into a file put aside since."""
        found: list[bytes] = []
        older = self.path.with_name(f"{self.path.name}.1")
        for path in (older, self.path):
            try:
                with path.open("rb") as file:
                    inode = path.stat().st_ino
                    if path == older and inode != self.inode and self.inode:
                        continue  # it was shown whole when it was the newest
                    if inode != self.inode:
                        self.inode, self.offset = inode, 0
                    size = path.stat().st_size
                    file.seek(self.offset if self.offset <= size else 0)  # it may have been cut
                    raw = file.read()
                    self.offset = file.tell()
            except OSError:
                continue
            whole, _, rest = raw.rpartition(b"\n")
            self.offset -= len(rest)
            found += whole.split(b"\n") if whole else []
        return [line for line in found if self._is_kept(line)]

    def _is_kept(self, line: bytes) -> bool:
        if not line.startswith(b"    "):
            self.kept_last = self.keep(line)
        return self.kept_last


def show_logs(data_dir: Path, which: str | None, lines: int, *, is_followed: bool) -> None:
    """The last lines, and with `is_followed` those that come; raises Failure."""
    folder = log_file(data_dir).parent
    tails = _tails(folder, which)
    if not any(tail.path.exists() for tail in tails):
        raise Failure(f"there is no log in {folder}: start it with mana up", UNREACHABLE)
    names = len([tail for tail in tails if tail.path.exists()]) > 1
    timed: list[tuple[bytes, bytes]] = []
    for tail in tails:
        at = b""
        for line in tail.read():
            at = line[:TIME_CHARS] if line[:2] == b"20" else at
            timed.append((at, _shown(tail, line, names=names)))
    timed.sort(key=lambda each: each[0])
    _write([line for _, line in timed][max(0, len(timed) - lines) :])
    while is_followed:
        fresh = [_shown(tail, line, names=names) for tail in tails for line in tail.read()]
        _write(fresh)
        if not fresh:
            time.sleep(POLL_S)


def _tails(folder: Path, which: str | None) -> list[Tail]:
    if which is None:
        return [Tail(kind, folder / f"{kind}.log", _all) for kind in KINDS]
    if which == "keys":
        return [Tail("node", folder / "node.log", lambda line: KEYS in line)]
    if which in KINDS:
        return [Tail(which, folder / f"{which}.log", _all)]
    user, _, agent = which.partition("/")
    if not (user and agent):
        raise Failure(f"expected {', '.join(KINDS)}, keys or USER/AGENT, got {which}", USAGE)
    pair = "".join(c if c.isprintable() else repr(c)[1:-1] for c in which).encode()
    own, field = b" " + pair + b"] ", b" agent=" + pair + b" "

    def is_about(line: bytes) -> bool:
        return own in line or field in line + b" "

    return [Tail(kind, folder / f"{kind}.log", is_about) for kind in KINDS if kind != "router"]


def _all(_: bytes) -> bool:
    return True


def _shown(tail: Tail, line: bytes, *, names: bool) -> bytes:
    return (f"{tail.kind:10} | ".encode() if names else b"") + line


def _write(lines: Sequence[bytes]) -> None:
    for line in lines:
        sys.stdout.buffer.write(line + b"\n")
    sys.stdout.buffer.flush()
