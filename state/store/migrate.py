"""Bring a database to today's schema as the log's owner, who need not be superuser.

Roles come first, then the numbered steps of `migrations/`, then the functions of `sql/functions/`
that are not as their file says. Each step, and all functions together, are a transaction that holds
the lock of `mana_ai.migrations`: several callers at once take turns, and each thing happens once.

A step is for what SQL cannot state anew: tables, indexes, policies, triggers, views. Once released,
it never changes; functions that it calls are put before it. A function changes in its file. Where
its arguments or its result change, the old one is dropped, which Postgres refuses while a policy, a
trigger, a view or a BEGIN ATOMIC body depends on it: a step has to drop that first.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import secrets
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from importlib import resources
from pathlib import Path
from types import MappingProxyType
from typing import TypeVar

import asyncpg
import msgspec

from state.errors import StateError, TerminalError
from state.secret_files import new_secret, write_new_secret
from state.store.sql import function_texts, needed_by, statements_of

OLDEST_POSTGRES = 14
"""Major version; `bit_xor` and `BEGIN ATOMIC` functions came with 14."""

GROUP_ROLES = ("mana_owner", "mana_router", "mana_fleet", "mana_ender", "mana_compactor")
"""Roles without a login: they own tables, cross-user functions, views, the end of sessions and what
removes rows of the log."""

MEMBERSHIP = "GRANT mana_agent TO mana_ender"
"""So that a function of ours may end agents' sessions without being superuser."""

AS_OWNER = "SET LOCAL ROLE mana_owner;\n"
LOCK_LEDGER = "LOCK TABLE mana_ai.migrations IN SHARE ROW EXCLUSIVE MODE"
TRIES = 20
Done = TypeVar("Done")
FUNCTION = "function "
"""Begins the name of what is no step and is put anew whenever its file changes."""


class Login(msgspec.Struct, frozen=True):
    """A service role: how many connections it may hold, how long it may idle in a transaction."""

    name: str
    connections: int
    idle_in_transaction_s: int = 60


LOGINS = (
    Login("mana_supervisor", 40),
    Login("mana_agent", 120, 30),
    Login("mana_keys", 20, 30),
    Login("mana_gateway", 64, 30),
    Login("mana_janitor", 4),
    Login("mana_issuer", 20, 30),
)


class MigrationError(StateError, TerminalError):
    """The database cannot be brought to this schema; the text names what to change."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class Migration(msgspec.Struct, frozen=True):
    """One numbered step: its name (file stem) and its SQL."""

    name: str
    sql: str


def migrations() -> list[Migration]:
    """Every step in order, oldest first."""
    folder = resources.files("state.store.migrations")
    files = sorted((f for f in folder.iterdir() if f.name.endswith(".sql")), key=lambda f: f.name)
    return [Migration(f.name.removesuffix(".sql"), f.read_text("utf-8")) for f in files]


def pending(applied: Sequence[str], texts: Mapping[str, str] = MappingProxyType({})) -> list[str]:
    """What a database lacks that has these steps and these functions, with their texts' digests."""
    steps = [step.name for step in migrations() if step.name not in set(applied)]
    functions = [
        f"{FUNCTION}{name}"
        for name, text in function_texts().items()
        if texts.get(name) != text_digest(text)
    ]
    return [*steps, *functions]


def text_digest(text: str) -> str:
    """By what the ledger knows which text of a function it was that the database has."""
    return hashlib.sha256(text.encode()).hexdigest()


def scram_verifier(password: str, salt: bytes, iterations: int = 4096) -> str:
    """What Postgres stores for a password (RFC 5803): the password itself reaches no server log."""
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, iterations)
    client = hmac.digest(salted, b"Client Key", "sha256")
    stored = hashlib.sha256(client).digest()
    server = hmac.digest(salted, b"Server Key", "sha256")
    b64 = [base64.b64encode(part).decode() for part in (salt, stored, server)]
    return f"SCRAM-SHA-256${iterations}:{b64[0]}${b64[1]}:{b64[2]}"


def password_of(folder: Path, role: str) -> tuple[str, bool]:
    """The password in `<folder>/<role>`, and whether it was made just now, with mode 0600."""
    path = folder / role
    is_new = write_new_secret(path, new_secret())
    password = path.read_text("utf-8").strip()
    if not password:
        raise MigrationError(f"{path} is empty: put the password of {role} there, or remove it")
    return password, is_new


def sql_script() -> str:
    """All of it as one script for a DBA and psql, who then sets the passwords.

    It fits any database that `migrate` fits: steps that are done are passed over.
    """
    return (
        "-- For psql, as the owner of sync_changes with CREATEROLE, or as superuser.\n"
        "-- Afterwards give each login its password with \\password and put it into the\n"
        "-- secrets folder as a file of mode 0600 named after the login.\n"
        "\\set ON_ERROR_STOP on\n"
        "BEGIN;\n"
        "SET LOCAL client_min_messages = warning;\n"
        + "".join(_role_unless_there(name, "NOLOGIN") for name in GROUP_ROLES)
        + "".join(_role_unless_there(login.name, _login_options(login)) for login in LOGINS)
        + "".join(f"{_idle_limit(login)};\n" for login in LOGINS)
        + f"{MEMBERSHIP};\n"
        + "".join(f"GRANT {name} TO CURRENT_USER;\n" for name in GROUP_ROLES)
        + f"SET LOCAL search_path = pg_catalog, pg_temp;\n{_sql('ledger')}\n"
        + "LOCK TABLE mana_ai.migrations IN SHARE ROW EXCLUSIVE MODE;\n"
        + _sql("adopt_earlier")
        + "".join(
            f"\nSELECT NOT EXISTS (SELECT FROM mana_ai.migrations WHERE name = '{step.name}')"
            f" AS lacking \\gset\n\\if :lacking\n{_step_script(step, needed_by(step.sql))}\\endif\n"
            for step in migrations()
        )
        + _put_script(list(function_texts()))
        + _drop_script()
        + AS_OWNER
        + _sql("secrets")
        + ";\nRESET ROLE;\n"
        + "".join(f"REVOKE {name} FROM CURRENT_USER;\n" for name in GROUP_ROLES)
        + "COMMIT;\n"
    )


def _step_script(step: Migration, lacking: Sequence[str]) -> str:
    """A step after those of the functions it calls that are lacking, noted as done."""
    note = f"INSERT INTO mana_ai.migrations (name) VALUES ('{step.name}');\n"
    return f"{_put_script(lacking)}\n-- {step.name}\n{step.sql}\n{note}"


def _put_script(names: Sequence[str]) -> str:
    """Brings these functions to their texts, and notes which texts those were."""
    if not names:
        return ""
    texts = function_texts()
    puts = [_sql("put_function").format(name=name, text=texts[name]) for name in names]
    digests = ", ".join(f"('{name}', '{text_digest(texts[name])}')" for name in names)
    note = _sql("note_functions").format(functions_made=_sql("functions_made"), digests=digests)
    owners = "mana_router, mana_fleet, mana_ender, mana_compactor"  # roles that own some of them
    hand_over = f"ON SCHEMA mana_ai {{}} {owners};\n"
    return "\n".join(
        [
            f"GRANT CREATE {hand_over.format('TO')}",
            *puts,
            f"REVOKE CREATE {hand_over.format('FROM')}",
            note,
        ]
    )


def _drop_script() -> str:
    names = ", ".join(f"'{name}'" for name in function_texts())
    owners = ", ".join(f"'{name}'" for name in GROUP_ROLES)
    return _sql("drop_functions").format(names=names, owners=owners) + "\n"


def _sql(name: str) -> str:
    return statements_of("migrate.sql")[name]


def _role_unless_there(name: str, options: str) -> str:
    return (
        "DO $$ BEGIN\n"
        f"  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{name}') THEN\n"
        f"    CREATE ROLE {name} {options};\n"
        "  END IF;\n"
        "END $$;\n"
    )


def _login_options(login: Login) -> str:
    return f"LOGIN CONNECTION LIMIT {login.connections}"


def _idle_limit(login: Login) -> str:
    setting = "idle_in_transaction_session_timeout"
    return f"ALTER ROLE {login.name} SET {setting} = '{login.idle_in_transaction_s}s'"


async def migrate(
    dsn: str,
    *,
    secrets_dir: Path,
    password: str | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> list[str]:
    """Apply what is missing and return the names of the steps this call applied.

    Raises `MigrationError` with one line that names the remedy. Passwords of the service roles
    are generated into `secrets_dir/<role>` (mode 0600) or taken from there.
    """
    remedy = (
        "run `mana migrate` as the owner of sync_changes with CREATEROLE and CREATE"
        " on the database, or give a DBA the output of `mana migrate --print-sql`"
    )
    async with log_owner(dsn, password, remedy) as connection:
        major = connection.get_server_version().major
        if major < OLDEST_POSTGRES:
            raise MigrationError(
                f"Postgres {major} is too old: {OLDEST_POSTGRES} or newer is needed"
            )
        for name in GROUP_ROLES:
            await _ensure_role(connection, name, "NOLOGIN")
        for login in LOGINS:
            password, is_new = password_of(secrets_dir, login.name)
            verifier = scram_verifier(password, secrets.token_bytes(16))
            options = f"{_login_options(login)} PASSWORD '{verifier}'"
            if await _ensure_role(connection, login.name, f"{options}; {_idle_limit(login)}"):
                progress(f"role {login.name} created")
            elif is_new:
                await connection.execute(f"ALTER ROLE {login.name} PASSWORD '{verifier}'")
                progress(f"role {login.name} has a new password")
        await in_turn(connection, "roles", partial(_ensure_membership, connection))
        prepared = ";\n".join([_sql("ledger"), LOCK_LEDGER, _sql("adopt_earlier")])
        await in_turn(connection, "the ledger", partial(connection.execute, prepared))
        applied: list[str] = []
        for step in migrations():
            applied += await in_turn(connection, step.name, partial(_apply, connection, step))
        applied += await in_turn(connection, "functions", partial(_put_functions, connection))
        steps = [name for name in applied if not name.startswith(FUNCTION)]
        for name in steps:
            progress(f"migration {name} applied")
        if len(applied) > len(steps):
            progress(f"functions put: {len(applied) - len(steps)}")
        await in_turn(
            connection, "secrets", partial(connection.execute, AS_OWNER + _sql("secrets"))
        )
        return applied


@asynccontextmanager
async def log_owner(
    dsn: str, password: str | None, remedy: str
) -> AsyncGenerator[asyncpg.Connection]:
    """A connection that may act as our group roles; raises `MigrationError` with the remedy."""
    try:
        connection = await asyncpg.connect(dsn, password=password, timeout=30)
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError) as exc:
        reason = str(exc) or type(exc).__name__
        raise MigrationError(f"the database cannot be reached: {reason}") from exc
    try:
        yield connection
    except asyncpg.InsufficientPrivilegeError as exc:
        raise MigrationError(f"{exc}: {remedy}") from exc
    except asyncpg.RaiseError as exc:  # said by our own SQL
        raise MigrationError(str(exc)) from exc
    except (asyncpg.PostgresError, asyncpg.InterfaceError) as exc:
        raise MigrationError(f"Postgres refused: {exc}") from exc
    finally:
        await connection.close()


async def _ensure_role(connection: asyncpg.Connection, name: str, options: str) -> bool:
    """Whether this call made the role; roles belong to the server, others may make it too.

    Statements after a semicolon in `options` are part of the same transaction.
    """
    if await connection.fetchval("SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = $1)", name):
        return False
    try:
        await connection.execute(f"CREATE ROLE {name} {options}")
    except (asyncpg.DuplicateObjectError, asyncpg.UniqueViolationError):
        return False
    return True


async def _ensure_membership(connection: asyncpg.Connection) -> None:
    if not await connection.fetchval("SELECT pg_has_role('mana_ender', 'mana_agent', 'USAGE')"):
        await connection.execute(MEMBERSHIP)


async def in_turn(
    connection: asyncpg.Connection, what: str, work: Callable[[], Awaitable[Done]]
) -> Done:
    """Work in a transaction that owns our roles, tried again where others were in the way.

    It waits at most 2 s for a lock on the shared log, so that pushes are not held up.
    """
    trouble: Exception | None = None
    for attempt in range(TRIES):
        try:
            async with as_member(connection):
                return await work()
        except (
            asyncpg.LockNotAvailableError,
            asyncpg.DeadlockDetectedError,
            asyncpg.UniqueViolationError,  # two made the same catalogue row
            asyncpg.InternalServerError,  # "tuple concurrently updated"
        ) as exc:
            trouble = exc
            await asyncio.sleep(0.05 * (attempt + 1))
    raise MigrationError(f"{what}: others stayed in the way ({trouble}); try at a quieter time")


async def _apply(connection: asyncpg.Connection, step: Migration) -> list[str]:
    """Do the step unless it is done; the ledger's lock makes that once."""
    await connection.execute(LOCK_LEDGER)
    done = "SELECT EXISTS (SELECT FROM mana_ai.migrations WHERE name = $1)"
    if await connection.fetchval(done, step.name):
        return []
    lacking = await _lacking(connection, needed_by(step.sql))
    await connection.execute(_step_script(step, lacking))
    return [step.name, *(f"{FUNCTION}{name}" for name in lacking)]


async def _put_functions(connection: asyncpg.Connection) -> list[str]:
    """Bring every function to its text that was changed here, or there by hand."""
    await connection.execute(LOCK_LEDGER)
    lacking = await _lacking(connection, list(function_texts()))
    await connection.execute(_put_script(lacking) + _drop_script())
    return [f"{FUNCTION}{name}" for name in lacking]


async def _lacking(connection: asyncpg.Connection, names: Sequence[str]) -> list[str]:
    """Those of these functions that the database has not, or with another text."""
    put = _sql("functions_put").format(functions_made=_sql("functions_made"))
    there = {row["name"]: row["text_digest"] for row in await connection.fetch(put)}
    texts = function_texts()
    return [name for name in names if there.get(name) != text_digest(texts[name])]


@asynccontextmanager
async def as_member(connection: asyncpg.Connection) -> AsyncGenerator[None]:
    """A transaction that belongs to our group roles while it lasts, and finds only our names."""
    async with connection.transaction():
        await connection.execute("SET LOCAL lock_timeout = '2s'")
        await connection.execute("SET LOCAL search_path = pg_catalog, pg_temp")
        for name in GROUP_ROLES:
            await connection.execute(f"GRANT {name} TO CURRENT_USER")
        yield
        await connection.execute("RESET ROLE")
        for name in GROUP_ROLES:
            await connection.execute(f"REVOKE {name} FROM CURRENT_USER")
