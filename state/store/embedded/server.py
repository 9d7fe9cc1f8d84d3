"""Start, find and stop the one server of a folder."""

import os
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

import msgspec

from state.private_files import FolderNotOurs, own_root
from state.store.embedded.accounts import Account, account_for, own_folder, require_entry
from state.store.embedded.binaries import binaries_for, binaries_in, wheel_binaries
from state.store.embedded.database import DATABASE, SUPERUSER, ensure_log_owner
from state.store.embedded.errors import (
    FolderUnreachableError,
    HeldByAnotherError,
    StartFailedError,
)
from state.store.embedded.launch import Record, has_become_ready, launch, read_record
from state.store.embedded.places import Places
from state.store.embedded.postmaster import Postmaster, is_alive, live_server
from state.store.embedded.waits import POLL_S, Progress, held, teller

GONE_WITHIN_S = 1.0
STOP_SIGNALS = {
    "smart": signal.SIGTERM,
    "fast": signal.SIGINT,
    "immediate": signal.SIGQUIT,
}


class Server(msgspec.Struct, frozen=True):
    """A running server; its paths never change, and its port only when another program takes it."""

    data_dir: Path
    socket_dir: Path
    port: int
    version: str
    password_file: Path  # of the superuser `postgres`

    def dsn(self, user: str, database: str = DATABASE, *, tcp: bool = False) -> str:
        """An address without a password: over the private socket, or over loopback for others."""
        if tcp:
            place = f"127.0.0.1:{self.port}/{quote(database, safe='')}?sslmode=disable"
        else:
            folder = quote(str(self.socket_dir), safe="/")
            place = f"/{quote(database, safe='')}?host={folder}&port={self.port}"
        return f"postgresql://{quote(user, safe='')}@{place}"

    def secret(self, user: str) -> Path:
        """The file with the password of a login."""
        return self.password_file.with_name(user)


def start(
    root: Path,
    *,
    progress: Progress,
    settings: Mapping[str, str] | None = None,
    bin_dir: Path | None = None,
    major: str | None = None,
) -> Server:
    """The server of `root`, started unless it runs, with the log owner and the database `mana`.

    Returns when it accepts connections, however long a crash recovery takes. `settings` are
    Postgres settings on top of ours; `bin_dir` and `major` choose other programs. Raises an
    EmbeddedPostgresError that says in one line what helps.
    """
    places = Places(root.absolute())
    account = account_for(places.data, progress)
    _make_our_folders(places, account)
    with held(places.start_lock, teller(progress, "another process is starting Postgres")):
        # Under the lock: until it is handed over, a new folder of the account's looks like ours.
        own_folder(places.logs, account, 0o700)
        own_folder(places.sockets, account, 0o700)
        installed = [binaries_in(bin_dir)] if bin_dir else wheel_binaries()
        wanted = [one for one in installed if major in (None, one.major)]
        binaries = binaries_for(places.data, wanted or installed)
        record = _joined(places, progress)
        if record is None:
            record = launch(places, binaries, account, settings or {}, progress)
            ensure_log_owner(places, Path(record.sockets), record.port)
    return _server(places, record)


def status(root: Path) -> Server | None:
    """The server of `root` when it accepts connections, else None."""
    places = Places(root.absolute())
    record, found = read_record(places), _found(places)
    return _server(places, record) if record and found and found.is_ready else None


def process(root: Path) -> int | None:
    """The process of the server of `root`, whether it is starting, ready or stopping."""
    found = _found(Places(root.absolute()))
    return found.pid if found else None


def stop(
    root: Path,
    *,
    mode: str = "fast",
    progress: Progress | None = None,
    within_s: float | None = None,
) -> bool:
    """Stop the server of `root` and wait until it is gone; False when none of ours ran.

    `mode` is that of pg_ctl: smart, fast or immediate. What takes longer than `within_s` is stopped
    immediately, and recovers at the next start.
    """
    places = Places(root.absolute())
    found = _found(places)
    if found is None:
        return False
    tell = teller(progress or (lambda _: None), "waiting for Postgres to stop")
    began = time.monotonic()
    os.kill(found.pid, STOP_SIGNALS[mode])
    while is_alive(found.pid):
        elapsed_s = time.monotonic() - began
        if within_s is not None and elapsed_s > within_s:
            within_s = None
            os.kill(found.pid, STOP_SIGNALS["immediate"])
        tell(elapsed_s)
        time.sleep(POLL_S)
    return True


def _found(places: Places) -> Postmaster | None:
    """The live server of this data that we started; it may not have written its address yet."""
    record, found = read_record(places), live_server(places.data)
    if record is None or found is None or (found.port and not _is_ours(found, record)):
        return None
    return found


def _make_our_folders(places: Places, account: Account) -> None:
    """Make those of our folders that are missing, from the root down; those above it stay."""
    ours = Account(str(os.geteuid()), os.geteuid(), os.getegid())
    passable = 0o700 if account.is_us else 0o711
    above = next(folder for folder in places.root.parents if folder.is_dir())
    require_entry(above, account)  # asked first, so that a refusal leaves nothing behind
    try:
        own_root(places.root)
    except FolderNotOurs as exc:
        remedy = f"it {exc.problem}; {exc.remedy}"
        raise FolderUnreachableError(places.root, account.name, remedy) from exc
    require_entry(places.root, account)
    own_folder(places.secrets, ours, 0o700)
    own_folder(places.home, ours, passable)


def _joined(places: Places, progress: Progress) -> Record | None:
    """The server that already runs on this data, once it is ready; None if none runs or it dies."""
    while (found := live_server(places.data)) is not None and not found.state:
        time.sleep(POLL_S)  # it has only just started, and has not written its address yet
    if found is None:
        return None
    record = read_record(places)
    if record is None or not _is_ours(found, record):
        where = f"port {found.port}, sockets in {found.socket_dir or 'no folder'}"
        holder = f"a Postgres that mana did not start (process {found.pid}, {where})"
        raise HeldByAnotherError(places.data, holder)
    if not has_become_ready(places, found.pid, progress):
        raise StartFailedError(places.data, "it was stopped while starting")
    try:
        ensure_log_owner(places, Path(record.sockets), record.port)
    except StartFailedError:
        # A server that is being killed refuses us too. It is gone a moment later.
        give_up = time.monotonic() + GONE_WITHIN_S
        while is_alive(found.pid):
            if time.monotonic() > give_up:
                raise
            time.sleep(POLL_S)
        return None
    return record


def _is_ours(found: Postmaster, record: Record) -> bool:
    return found.port == record.port and found.socket_dir == record.sockets


def _server(places: Places, record: Record) -> Server:
    return Server(
        data_dir=places.data,
        socket_dir=Path(record.sockets),
        port=record.port,
        version=record.version,
        password_file=places.secrets / SUPERUSER,
    )
