"""Where a running node tells local commands how to reach it: `<data dir>/node.json`."""

import os
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from state.secret_files import replace_secret

STEP = "step: "
"""Lines of the node's log that begin so are shown while it starts and stops."""


class NodeRecord(msgspec.Struct, frozen=True):
    """A node process and the address of its gateway."""

    pid: int
    url: str
    started_at: datetime
    version: str


def node_file(data_dir: str | Path) -> Path:
    """The file a node writes once its gateway listens."""
    return Path(data_dir) / "node.json"


def log_file(data_dir: str | Path) -> Path:
    """What the node process prints."""
    return Path(data_dir) / "logs" / "node.log"


def write_node(data_dir: str | Path, url: str, version: str) -> NodeRecord:
    """Record this process as the node of a data directory; whole or not at all, mode 0600."""
    node = NodeRecord(os.getpid(), url, datetime.now(UTC), version)
    replace_secret(node_file(data_dir), msgspec.json.encode(node).decode())
    return node


def read_node(data_dir: str | Path) -> NodeRecord | None:
    """The node last recorded, alive or not; None when there is none or its file is damaged."""
    try:
        return msgspec.json.decode(node_file(data_dir).read_bytes(), type=NodeRecord)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
        return None


def remove_node(data_dir: str | Path) -> None:
    """Forget this process as the node; the record of another one stays."""
    node = read_node(data_dir)
    if node is not None and node.pid == os.getpid():
        node_file(data_dir).unlink(missing_ok=True)


def is_running(node: NodeRecord) -> bool:
    """Whether its process lives and is a node: a process id may have gone to somebody else."""
    try:
        os.kill(node.pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True  # somebody else's; its health will say
    try:
        state = Path(f"/proc/{node.pid}/stat").read_text().rpartition(")")[2].split()[0]
        command = Path(f"/proc/{node.pid}/cmdline").read_bytes()
    except OSError:
        return True  # no /proc here
    return state != "Z" and b"supervisor.node.main" in command
