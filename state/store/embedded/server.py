"""Start, find and stop the one server of a folder."""

import os
import signal
import socket
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from urllib.parse import quote

import msgspec

from state.store.embedded import creation
from state.store.embedded.accounts import Account, account_for, own_folder, require_entry, run_as
from state.store.embedded.binaries import (
    Binaries,
    binaries_in,
    fitting,
    reachable,
    wheel_binaries,
)
from state.store.embedded.complaints import last_complaint, log_sizes
from state.store.embedded.errors import (
    FolderUnreachableError,
    HeldByAnotherError,
    StartFailedError,
)
from state.store.embedded.locks import held
from state.store.embedded.places import Places, Progress
from state.store.embedded.postmaster import Postmaster, is_alive, recorded, serving
from state.store.embedded.settings_file import write_settings

POLL_S = 0.05
TELL_EVERY_S = 2.0
ORPHANS_S = 60.0
GONE_WITHIN_S = 1.0
PORT_TRIES = 5
PORT_TAKEN = "could not create any TCP/IP sockets"
STOP_SIGNALS = {
    "smart": signal.SIGTERM,
    "fast": signal.SIGINT,
    "immediate": signal.SIGQUIT,
}


class Server(msgspec.Struct, frozen=True):
    """A running server; every path stays the same over restarts, the port when it is free."""

    data_dir: Path
    socket_dir: Path
    port: int
    version: str
    password_file: Path  # of the superuser `postgres`

    def dsn(self, user: str, database: str = creation.DATABASE, *, tcp: bool = False) -> str:
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


class _Record(msgspec.Struct, frozen=True):
    """What we chose at the last start."""

    port: int
    sockets: str
    version: str


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
    _make_folders(places, account)
    with held(places.starting, _telling(progress, "another process is starting Postgres")):
        binaries = fitting(places.data, _candidates(bin_dir, major))
        record = _joined(places, progress)
        if record is None:
            record = _started(places, binaries, account, settings or {}, progress)
            creation.ensure_log_owner(places, Path(record.sockets), record.port)
    return _server(places, record)


def status(root: Path) -> Server | None:
    """The server of `root` when it accepts connections, else None."""
    places = Places(root.absolute())
    record = _read_record(places)
    found = serving(places.data) if record else None
    if record is None or found is None or not found.is_ready or not _is_ours(found, record):
        return None
    return _server(places, record)


def stop(root: Path, *, mode: str = "fast", progress: Progress | None = None) -> bool:
    """Stop the server of `root` and wait until it is gone; False when none ran.

    `mode` is that of pg_ctl: smart, fast or immediate.
    """
    places = Places(root.absolute())
    found = serving(places.data)
    if found is None:
        return False
    tell = _telling(progress or (lambda _: None), "waiting for Postgres to stop")
    began = time.monotonic()
    os.kill(found.pid, STOP_SIGNALS[mode])
    while is_alive(found.pid):
        tell(time.monotonic() - began)
        time.sleep(POLL_S)
    return True


def _candidates(bin_dir: Path | None, major: str | None) -> list[Binaries]:
    found = [binaries_in(bin_dir)] if bin_dir else wheel_binaries()
    return [one for one in found if major in (None, one.major)] or found


def _make_folders(places: Places, account: Account) -> None:
    """Make what is missing below the root; folders above it are left as they are."""
    ours = Account(str(os.geteuid()), os.geteuid(), os.getegid())
    passable = 0o700 if account.is_us else 0o711
    above = next(folder for folder in places.root.parents if folder.is_dir())
    require_entry(above, account)  # asked first, so that a refusal leaves nothing behind
    try:
        places.root.mkdir(parents=True, mode=passable, exist_ok=True)
    except OSError as exc:
        remedy = f"{exc.strerror}; choose another data directory"
        raise FolderUnreachableError(places.root, account.name, remedy) from exc
    require_entry(places.root, account)
    own_folder(places.secrets, ours, 0o700)
    own_folder(places.home, ours, passable)
    own_folder(places.logs, account, 0o700)
    own_folder(places.sockets, account, 0o700)


def _joined(places: Places, progress: Progress) -> _Record | None:
    """Wait for the server that already runs on this data; None when none is, or it is dying."""
    found = _with_address(places.data)
    if found is None:
        return None
    record = _read_record(places)
    if record is None or not _is_ours(found, record):
        where = f"port {found.port}, sockets in {found.socket_dir or 'no folder'}"
        holder = f"a Postgres that mana did not start (process {found.pid}, {where})"
        raise HeldByAnotherError(places.data, holder)
    _wait_until_ready(places, found.pid, progress, lambda: "it was stopped while starting")
    try:
        creation.ensure_log_owner(places, Path(record.sockets), record.port)
    except StartFailedError:
        if not _ends_soon(found.pid):
            raise
        return None
    return record


def _ends_soon(pid: int) -> bool:
    """Whether a process that refused us was being killed, which takes it a moment."""
    give_up = time.monotonic() + GONE_WITHIN_S
    while is_alive(pid):
        if time.monotonic() > give_up:
            return False
        time.sleep(POLL_S)
    return True


def _with_address(data_dir: Path) -> Postmaster | None:
    """The live server once it has written its address; one just started needs a moment."""
    while (found := serving(data_dir)) is not None and not found.state:
        time.sleep(POLL_S)
    return found


def _started(
    places: Places,
    binaries: Binaries,
    account: Account,
    settings: Mapping[str, str],
    progress: Progress,
) -> _Record:
    """Start a server on data that no live one serves, made first where there is none."""
    runnable = reachable(binaries, account, places, progress)
    if not places.data.exists():
        creation.create_data(places, runnable, account, progress)
    record = _read_record(places)
    port = record.port if record else 0
    with held(places.alive, _orphans_end(places, progress)) as alive:
        _clear_leftovers(places, progress)
        for tries_left in reversed(range(PORT_TRIES)):
            chosen = _Record(_free_port(port), str(places.sockets), runnable.version)
            if port not in (0, chosen.port):
                progress(f"port {port} is taken; Postgres moves to {chosen.port}")
            try:
                _launch(places, runnable, account, chosen, settings, alive, progress)
            except StartFailedError as exc:
                if PORT_TAKEN not in exc.reason or not tries_left:
                    raise
                port = 0
            else:
                return chosen
    raise AssertionError


def _clear_leftovers(places: Places, progress: Progress) -> None:
    """Remove what a killed server left; Postgres minds it when the process id lives or is unreaped.

    Safe only while we hold the lock `alive`, which proves that no process of it is left.
    """
    if recorded(places.data) is None:
        return
    progress("the last Postgres was killed; it will recover")
    for leftover in (*places.sockets.glob(".s.PGSQL.*"), places.data / "postmaster.pid"):
        leftover.unlink(missing_ok=True)


def _launch(
    places: Places,
    binaries: Binaries,
    account: Account,
    record: _Record,
    settings: Mapping[str, str],
    alive: int,
    progress: Progress,
) -> None:
    """Start Postgres as nobody's child, holding the lock `alive`, and wait until it is ready."""
    write_settings(
        places.settings,
        port=record.port,
        sockets=places.sockets,
        logs=places.logs,
        extra=settings,
    )
    _write_record(places, record)
    progress(f"starting Postgres {record.version} on port {record.port}")
    log = places.logs / "start.log"
    seen = log_sizes(places.logs)
    detached = '"$@" >"$0" 2>&1 </dev/null & echo $!'
    command = ["/bin/sh", "-c", detached, log, binaries.postgres, "-D", places.data]
    seen.pop(log, None)  # written anew
    pid = int(run_as(account, command, keep_open=[alive]))
    _wait_until_ready(places, pid, progress, lambda: last_complaint(places.logs, seen))


def _wait_until_ready(
    places: Places, pid: int, progress: Progress, why_it_ended: Callable[[], str]
) -> None:
    """Wait while the server lives: a recovery may take long, and killing it makes it longer."""
    tell = _telling(progress, "Postgres is starting, recovering what a crash left")
    began = time.monotonic()
    while True:
        lives = is_alive(pid)  # asked before the state, so that a last word is not missed
        found = recorded(places.data)
        if lives and found is not None and found.pid == pid and found.is_ready:
            return
        if not lives:
            raise StartFailedError(places.data, why_it_ended())
        tell(time.monotonic() - began)
        time.sleep(POLL_S)


def _orphans_end(places: Places, progress: Progress) -> Callable[[float], None]:
    """Wait a while for what a killed server left behind, then say who holds the data."""
    tell = _telling(progress, "waiting for processes of the last Postgres to end")

    def waiting(elapsed_s: float) -> None:
        if elapsed_s > ORPHANS_S:
            holder = "processes of an earlier Postgres, perhaps in another container"
            raise HeldByAnotherError(places.data, holder)
        tell(elapsed_s)

    return waiting


def _telling(progress: Progress, what: str) -> Callable[[float], None]:
    """A function of the seconds so far that speaks every two of them."""
    told = [0.0]

    def tell(elapsed_s: float) -> None:
        if elapsed_s - told[0] >= TELL_EVERY_S:
            told[0] = elapsed_s
            progress(f"{what} ({elapsed_s:.0f} s)")

    return tell


def _free_port(wanted: int) -> int:
    """The wanted port if it is free on loopback, else any that is."""
    for port in (wanted, 0):
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    return wanted  # no loopback at all: Postgres will say so


def _is_ours(found: Postmaster, record: _Record) -> bool:
    return found.port == record.port and found.socket_dir == record.sockets


def _server(places: Places, record: _Record) -> Server:
    return Server(
        data_dir=places.data,
        socket_dir=Path(record.sockets),
        port=record.port,
        version=record.version,
        password_file=places.secrets / creation.SUPERUSER,
    )


def _read_record(places: Places) -> _Record | None:
    try:
        return msgspec.json.decode(places.record.read_bytes(), type=_Record)
    except (FileNotFoundError, msgspec.DecodeError):  # half a file is no record
        return None


def _write_record(places: Places, record: _Record) -> None:
    unfinished = places.record.with_suffix(".unfinished")
    unfinished.write_bytes(msgspec.json.encode(record))
    unfinished.replace(places.record)
