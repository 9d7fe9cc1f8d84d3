"""Where the embedded Postgres keeps its files, below one root folder."""

import hashlib
import os
import tempfile
from pathlib import Path

import msgspec

SOCKET_PATH_MAX_BYTES = 107  # sockaddr_un holds 108 with the closing NUL
LONGEST_SOCKET_NAME = "/.s.PGSQL.65535"


def data_root() -> Path:
    """The platform's folder for our data: /var/lib/mana for root, else the user's data folder."""
    if os.geteuid() == 0:
        return Path("/var/lib/mana")
    base = os.environ.get("XDG_DATA_HOME", "")
    # The XDG rule: a relative path is invalid and ignored.
    folder = Path(base) if base.startswith("/") else Path.home() / ".local" / "share"
    return folder / "mana"


class Places(msgspec.Struct, frozen=True):
    """Every path below `root`; the folder above `root` is never touched."""

    root: Path

    @property
    def secrets(self) -> Path:
        return self.root / "secrets"

    @property
    def home(self) -> Path:
        return self.root / "postgres"

    @property
    def data(self) -> Path:
        return self.home / "data"

    @property
    def unfinished_data(self) -> Path:
        return self.home / "data.unfinished"

    @property
    def logs(self) -> Path:
        return self.home / "log"

    @property
    def record(self) -> Path:
        return self.home / "server.json"

    @property
    def settings(self) -> Path:
        """Beside the data and not in it: as root we never write into another account's folder."""
        return self.home / "mana.conf"

    @property
    def start_lock(self) -> Path:
        """Locked by the one process that is starting the server."""
        return self.home / "starting.lock"

    @property
    def alive_lock(self) -> Path:
        """Locked for as long as any process of the server lives."""
        return self.home / "alive.lock"

    @property
    def sockets(self) -> Path:
        """The socket folder: in `home`, or a short one where that path is too long for a socket."""
        folder = self.home / "run"
        fits = len(os.fsencode(folder)) + len(LONGEST_SOCKET_NAME) <= SOCKET_PATH_MAX_BYTES
        if fits and not set(str(folder)) & set(",\"'\\\n"):
            return folder
        digest = hashlib.sha256(os.fsencode(self.root)).hexdigest()[:12]
        return Path(tempfile.gettempdir()) / f"mana-{digest}"
