"""Where a running node tells local commands how to reach it: `<data dir>/node.json`."""

from datetime import UTC, datetime
from pathlib import Path

import msgspec

from state.secret_files import replace_secret
from supervisor.node.keeper.sole import holder


class NodeRecord(msgspec.Struct, frozen=True):
    """A node by its keeper's process, the address for people, and the one for local commands."""

    pid: int
    url: str
    started_at: datetime
    version: str
    operators_url: str = ""

    @property
    def commands_url(self) -> str:
        """Where commands on this machine ask; a node of an older release has one door only."""
        return self.operators_url or self.url


def node_file(data_dir: str | Path) -> Path:
    """The file a node writes once its gateway listens."""
    return Path(data_dir) / "node.json"


def log_file(data_dir: str | Path) -> Path:
    """What the node process prints."""
    return Path(data_dir) / "logs" / "node.log"


def write_node(
    data_dir: str | Path, keeper: int, url: str, version: str, operators_url: str = ""
) -> NodeRecord:
    """Record a keeper as the node of a data directory; whole or not at all, mode 0600."""
    node = NodeRecord(keeper, url, datetime.now(UTC), version, operators_url)
    replace_secret(node_file(data_dir), msgspec.json.encode(node).decode())
    return node


def read_node(data_dir: str | Path) -> NodeRecord | None:
    """The node last recorded, alive or not; None when there is none or its file is damaged."""
    try:
        return msgspec.json.decode(node_file(data_dir).read_bytes(), type=NodeRecord)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
        return None


def running_node(data_dir: str | Path) -> NodeRecord | None:
    """The node that lives on a data directory; its process id alone could be another's by now."""
    node = read_node(data_dir)
    return node if node is not None and node.pid == holder(data_dir) else None
