"""Where the embedded Postgres keeps its files, below one root folder."""

import os
from pathlib import Path

import msgspec

from state.private_files import short_folder, socket_folder
from state.store.embedded.errors import NoHomeError

LONGEST_SOCKET_NAME = "/.s.PGSQL.65535"


def data_root() -> Path:
    """The platform's folder for our data: /var/lib/mana for root, else the user's data folder."""
    if os.geteuid() == 0:
        return Path("/var/lib/mana")
    base = os.environ.get("XDG_DATA_HOME", "")
    # The XDG rule: a relative path is invalid and ignored.
    if base.startswith("/"):
        return Path(base) / "mana"
    try:
        return Path.home() / ".local" / "share" / "mana"
    except RuntimeError as exc:  # neither HOME nor an entry for our user id
        raise NoHomeError from exc


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
        """The socket folder: in `home`, or a short one where Postgres could not use that path."""
        if set(str(self.root)) & set(",\"'\\\n"):
            return short_folder(self.root, "postgres")
        return socket_folder(self.root, "postgres/run", len(LONGEST_SOCKET_NAME))
