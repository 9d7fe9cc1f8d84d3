"""A node's places for connections that stay open between runs: one locked file each.

A lock ends with its process, however that ends. Opening a connection costs more than the statements
of a run, and the database has fewer connections than a node may have agents.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import msgspec


class Slots(msgspec.Struct, frozen=True):
    """Where a node's lock files are, and how many of them."""

    folder: str
    count: int


class Slot:
    """One place of the node, once `take` has found a free one."""

    def __init__(self, slots: Slots) -> None:
        self._slots = slots
        self._held: int | None = None

    def take(self) -> bool:
        """Whether a place is held now; never waits for one."""
        if self._held is not None:
            return True
        folder = Path(self._slots.folder)
        try:
            folder.mkdir(mode=0o700, exist_ok=True)
            for number in range(self._slots.count):
                file = os.open(folder / f"{number:03}", os.O_CREAT | os.O_RDWR, 0o600)
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    os.close(file)
                    continue
                self._held = file
                return True
        except OSError:
            return False  # no folder on this node: connections are closed after use
        return False

    def give_back(self) -> None:
        """Let others have it."""
        held, self._held = self._held, None
        if held is not None:
            os.close(held)
