"""Launching Postgres on data that no live server holds: its port, its settings, its first steps."""

import os
import socket
import time
from collections.abc import Callable, Mapping

import msgspec

from state.store.embedded.accounts import Account, run_as
from state.store.embedded.binaries import Binaries, reachable
from state.store.embedded.database import create_data
from state.store.embedded.errors import HeldByAnotherError, StartFailedError
from state.store.embedded.places import Places
from state.store.embedded.postmaster import is_alive, last_complaint, log_sizes, recorded
from state.store.embedded.waits import POLL_S, Progress, held, teller

ORPHANS_S = 60.0
PORT_TRIES = 5
PORT_TAKEN = "could not create any TCP/IP sockets"

SETTINGS: Mapping[str, str] = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_permissions": "0700",
    "max_connections": "200",
    "shared_buffers": "128MB",
    "fsync": "on",
    "password_encryption": "scram-sha-256",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "logging_collector": "on",
    # One file for each day of the week, overwritten a week later.
    "log_filename": "postgres-%a.log",
    "log_rotation_age": "1d",
    "log_rotation_size": "0",
    "log_truncate_on_rotation": "on",
    # Statements and error details would put people's titles and texts into the logs.
    "log_min_error_statement": "panic",
    "log_error_verbosity": "terse",
    "log_line_prefix": "%m [%p] %q%u@%d ",
}


class Record(msgspec.Struct, frozen=True):
    """What we chose at the last start."""

    port: int
    sockets: str
    version: str


def read_record(places: Places) -> Record | None:
    """What the last start chose; None before the first one."""
    try:
        return msgspec.json.decode(places.record.read_bytes(), type=Record)
    except (FileNotFoundError, NotADirectoryError, msgspec.DecodeError):  # half a file is no record
        return None


def launch(
    places: Places,
    binaries: Binaries,
    account: Account,
    settings: Mapping[str, str],
    progress: Progress,
) -> Record:
    """Start Postgres, on new data if there is none, and return once it accepts connections.

    The server is nobody's child: it outlives us, and holds the lock `alive_lock` until its last
    process has ended.
    """
    runnable = reachable(binaries, account, places, progress)
    if not places.data.exists():
        create_data(places, runnable, account, progress)
    last = read_record(places)
    wanted = last.port if last else 0
    tries_left = PORT_TRIES
    while True:
        with held(places.alive_lock, _orphans_end(places, progress)) as alive:
            if recorded(places.data) is not None:
                # These stop a new server when the process id in them lives again or was not reaped.
                # Removing them is safe: our lock proves that no process of the old server is left.
                progress("the last Postgres was killed; it will recover")
                for leftover in (
                    *places.sockets.glob(".s.PGSQL.*"),
                    places.data / "postmaster.pid",
                ):
                    leftover.unlink(missing_ok=True)
            record = Record(_free_port(wanted), str(places.sockets), runnable.version)
            if wanted not in (0, record.port):
                progress(f"port {wanted} is taken; Postgres moves to {record.port}")
            _write_settings(places, account, record.port, settings)
            unfinished = places.record.with_suffix(".unfinished")
            unfinished.write_bytes(msgspec.json.encode(record))
            unfinished.replace(places.record)
            progress(f"starting Postgres {record.version} on port {record.port}")
            log = places.logs / "start.log"
            seen = log_sizes(places.logs)
            seen.pop(log, None)  # the shell empties it
            detached = '"$@" >"$0" 2>&1 </dev/null & echo $!'
            command = ["/bin/sh", "-c", detached, log, runnable.postgres, "-D", places.data]
            pid = int(run_as(account, command, keep_open=[alive]))
            if has_become_ready(places, pid, progress):
                return record
        # The server's logging process ends last, and may write the reason only then. It shares our
        # lock: to see it end, we let go and lock again.
        with held(places.alive_lock, _orphans_end(places, progress)):
            reason = last_complaint(places.logs, seen)
        tries_left -= 1
        if PORT_TAKEN not in reason or not tries_left:
            raise StartFailedError(places.data, reason)
        wanted = 0


def has_become_ready(places: Places, pid: int, progress: Progress) -> bool:
    """Wait for a server that is starting: True when it accepts connections, False if it ended.

    There is no time limit: recovery from a crash may take long, and killing it makes it longer.
    """
    tell = teller(progress, "Postgres is starting, recovering what a crash left")
    began = time.monotonic()
    while is_alive(pid):
        found = recorded(places.data)
        if found is not None and found.pid == pid and found.is_ready:
            return True
        tell(time.monotonic() - began)
        time.sleep(POLL_S)
    return False


def _orphans_end(places: Places, progress: Progress) -> Callable[[float], None]:
    """Wait a minute for processes of a killed server to end, then refuse: they hold the data."""
    tell = teller(progress, "waiting for processes of the last Postgres to end")

    def waiting(elapsed_s: float) -> None:
        if elapsed_s > ORPHANS_S:
            holder = "processes of an earlier Postgres, perhaps in another container"
            raise HeldByAnotherError(places.data, holder)
        tell(elapsed_s)

    return waiting


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


def _write_settings(places: Places, account: Account, port: int, extra: Mapping[str, str]) -> None:
    """Write the file of our settings anew; what an operator sets with ALTER SYSTEM still wins."""
    chosen = {
        **SETTINGS,
        "port": str(port),
        "unix_socket_directories": str(places.sockets),
        "log_directory": str(places.logs),
        **extra,
    }
    text = "# Written anew at each start; put your own settings in place with ALTER SYSTEM.\n"
    for name, value in chosen.items():
        escaped = value.replace("\\", "\\\\").replace("'", "''")
        text += f"{name} = '{escaped}'\n"
    unfinished = places.settings.with_name(f"{places.settings.name}.unfinished")
    unfinished.write_text(text, encoding="utf-8")
    if not account.is_us:  # it reads this and cannot change it
        os.chown(unfinished, -1, account.gid)
        unfinished.chmod(0o640)
    unfinished.replace(places.settings)
