"""What a new server needs: a data directory, and in it the log owner, its database, passwords."""

import asyncio
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import asyncpg

from state.secret_files import new_secret, replace_secret, write_new_secret
from state.store.embedded.accounts import Account, own_folder, run_as
from state.store.embedded.binaries import Binaries
from state.store.embedded.errors import SecretMissingError, StartFailedError
from state.store.embedded.places import Places
from state.store.embedded.waits import Progress

SUPERUSER = "postgres"
LOG_OWNER = "mana_sync"
DATABASE = "mana"


def create_data(places: Places, binaries: Binaries, account: Account, progress: Progress) -> None:
    """Make the data directory, whole or not at all; the superuser's password is kept before it."""
    progress(f"making a Postgres {binaries.major} data directory in {places.data}")
    if places.unfinished_data.exists():
        shutil.rmtree(places.unfinished_data)
    own_folder(places.unfinished_data, account, 0o700)
    password = _kept_password(places.secrets / SUPERUSER)
    handed_over = places.home / "initdb-password"
    initdb = [
        binaries.initdb,
        *("--pgdata", places.unfinished_data),
        *("--username", SUPERUSER),
        *("--pwfile", handed_over),
        "--auth=scram-sha-256",
        "--encoding=UTF8",
        "--locale=C",
        "--data-checksums",
        "--no-instructions",
    ]
    include = f"include_if_exists = '../{places.settings.name}'"
    append = ["/bin/sh", "-c", 'printf "\\n%s\\n" "$1" >>"$2"', "sh", include]
    try:
        replace_secret(handed_over, password)
        if not account.is_us:
            shutil.chown(handed_over, account.uid, account.gid)
        run_as(account, initdb)
        run_as(account, [*append, places.unfinished_data / "postgresql.conf"])
    except subprocess.CalledProcessError as exc:
        reason = "initdb: " + str(exc.stderr).strip().replace("\n", "; ")
        if not account.is_known:
            remedy = "give it one (in a container: a line in /etc/passwd), run as another user, or"
            remedy += " use a Postgres of your own with --database-url"
            reason = f"user id {account.uid} has no entry here, which initdb needs: {remedy}"
        raise StartFailedError(places.data, reason) from exc
    finally:
        handed_over.unlink(missing_ok=True)
    places.unfinished_data.rename(places.data)


def ensure_log_owner(places: Places, sockets: Path, port: int) -> None:
    """Make the log owner's login and database where they are missing.

    It plays the sync service: not a superuser, owner of the database and so of `sync_changes`, and
    able to create the roles that migrations make. Raises StartFailedError when the server does
    not answer.
    """
    superuser_file, owner_file = places.secrets / SUPERUSER, places.secrets / LOG_OWNER
    superuser_password = read_password(superuser_file)
    is_new = not owner_file.exists()
    owner_password = _kept_password(owner_file)
    made = _make_log_owner(sockets, port, superuser_password, owner_password, reset=is_new)
    try:
        with ThreadPoolExecutor(max_workers=1) as apart:  # the caller may be inside an event loop
            apart.submit(asyncio.run, made).result()
    except asyncpg.InvalidPasswordError as exc:
        raise SecretMissingError(superuser_file, "Postgres refuses it; put it back") from exc
    except (OSError, asyncpg.PostgresError) as exc:
        raise StartFailedError(places.data, f"it refuses the superuser ({exc})") from exc


async def _make_log_owner(
    sockets: Path, port: int, superuser_password: str, owner_password: str, *, reset: bool
) -> None:
    connection = await asyncpg.connect(
        host=str(sockets),
        port=port,
        user=SUPERUSER,
        password=superuser_password,
        database="postgres",
    )
    try:
        known = await connection.fetchval("SELECT 1 FROM pg_roles WHERE rolname = $1", LOG_OWNER)
        if not known or reset:
            verb = "ALTER" if known else "CREATE"
            statement = await connection.fetchval(
                "SELECT format($1 || ' ROLE %I LOGIN CREATEROLE PASSWORD %L', $2::text, $3::text)",
                verb,
                LOG_OWNER,
                owner_password,
            )
            await connection.execute(statement)
        if not await connection.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", DATABASE):
            await connection.execute(f"CREATE DATABASE {DATABASE} OWNER {LOG_OWNER}")
    finally:
        await connection.close()


def read_password(path: Path) -> str:
    """The password in a file; raises SecretMissingError when there is none."""
    try:
        text = path.read_text(encoding="utf-8").strip()
    except OSError as exc:
        raise SecretMissingError(path, f"{exc.strerror}; put the password back") from exc
    if not text:
        raise SecretMissingError(path, "the file is empty")
    return text


def _kept_password(path: Path) -> str:
    """The password in `path`, made first when the file is not there."""
    write_new_secret(path, new_secret())
    return read_password(path)
