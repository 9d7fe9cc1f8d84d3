"""How a node fares, as its keeper tells it to commands: `<data dir>/node-state.json`."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import msgspec

from supervisor.node.keeper.sole import holder

STATE_FILE = "node-state.json"

Phase = Literal["starting", "up", "restarting", "stopping"]


MOST_RESTARTS = 20


class NodeRestart(msgspec.Struct, frozen=True):
    """When a node was started again, and which piece of it was lost."""

    at: datetime
    why: str


class NodeState(msgspec.Struct, frozen=True):
    """What a node is doing, since when, and why it was last started again ("" if it never was).

    Of all `restarts` since its keeper began, `latest` has the last ones, the newest first.
    """

    keeper: int
    phase: Phase
    since: datetime
    restarts: int = 0
    why: str = ""
    latest: tuple[NodeRestart, ...] = ()

    @staticmethod
    def of(keeper: int) -> NodeState:
        """That of a node whose keeper has just begun."""
        return NodeState(keeper, "starting", datetime.now(UTC))

    def now(self, phase: Phase, why: str | None = None) -> NodeState:
        """The state after a change of phase; a reason counts as one more restart."""
        at = datetime.now(UTC)
        if why is None:
            return NodeState(self.keeper, phase, at, self.restarts, self.why, self.latest)
        latest = (NodeRestart(at, why), *self.latest)[:MOST_RESTARTS]
        return NodeState(self.keeper, phase, at, self.restarts + 1, why, latest)


def write_state(data_dir: Path, state: NodeState) -> None:
    """Tell it, whole or not at all; a disk that is full must not end a node."""
    draft = data_dir / f"{STATE_FILE}.new"
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(msgspec.json.encode(state))
        draft.replace(data_dir / STATE_FILE)
    except OSError:
        draft.unlink(missing_ok=True)


def read_state(data_dir: str | Path) -> NodeState | None:
    """What the node of a data directory told last; None where none runs."""
    try:
        state = msgspec.json.decode(Path(data_dir, STATE_FILE).read_bytes(), type=NodeState)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
        return None
    return state if state.keeper == holder(data_dir) else None
