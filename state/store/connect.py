"""Connections to Postgres: pools per role, driver errors translated once, and asking again."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Protocol, TypeVar, cast

import asyncpg
import msgspec

from state.errors import StateError, TerminalError, TransientError
from state.runs.backoff import backoff_s
from state.slots import Slot, Slots

CAPABILITY_INVALID = "MA001"
SUPERSEDED = "MA002"
CAPABILITY_TOO_LONG = "MA004"
KEPT_S = 30.0
"""How long a connection outlives its last use where its process holds a slot."""

ACT_AS = "SELECT set_config('app.current_user_id', $1, true)"
ACT_IN = "SELECT set_config('app.current_user_space_ids', $1, true)"


_TRIES = 8
_LEAST_S, _MOST_S = 0.05, 5.0

T = TypeVar("T")


class Unavailable(StateError, TransientError):
    """The database did not answer; the effect of the last statement is unknown."""

    def __init__(self, kind: str) -> None:
        super().__init__(kind)
        self.kind = kind

    def __str__(self) -> str:
        return f"database unavailable: {self.kind}"


class CapabilityInvalid(StateError, TerminalError):
    """The capability is missing, forged, for something else, or has expired."""


class CapabilityTooLong(StateError, TerminalError):
    """What it would have to list does not fit a capability: none was signed."""

    def __str__(self) -> str:
        return "more inputs than a capability can list"


class Superseded(StateError, TerminalError):
    """Another attempt has this run, or the run is closed: this one may write nothing."""


class Refused(StateError, TerminalError):
    """The database refused a statement: a bug or a hostile value, never worth a retry as it is."""

    def __init__(self, sqlstate: str) -> None:
        super().__init__(sqlstate)
        self.sqlstate = sqlstate

    @property
    def blames_a_value(self) -> bool:
        """Data exception or limit exceeded: one row is to blame, not our statement."""
        return self.sqlstate.startswith(("22", "54"))

    def __str__(self) -> str:
        return f"statement refused ({self.sqlstate})"


class Access(msgspec.Struct, frozen=True):
    """How to reach the database as one role; the password stays in its file."""

    dsn: str
    role: str
    password_file: str
    application: str = "mana"
    statement_timeout_ms: int = 30_000

    def password(self) -> str:
        """What the file says now; raises Unavailable where it cannot be read."""
        try:
            return Path(self.password_file).read_text("utf-8").strip()
        except OSError as exc:
            raise Unavailable("PasswordFileUnreadable") from exc


_OUTAGES = (
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # what the driver says of a backend that died between statements
    OSError,
    TimeoutError,
)


def translated(exc: Exception) -> Exception:
    """The error of ours that a driver error means; anything else as it is."""
    if isinstance(exc, asyncpg.InterfaceError) and isinstance(exc, ValueError):
        return Refused("22000")  # the driver could not encode a value: that is no outage
    if isinstance(exc, _OUTAGES):
        return Unavailable(type(exc).__name__)
    if isinstance(exc, asyncpg.PostgresError):
        state = exc.sqlstate or ""
        if state == CAPABILITY_INVALID:
            return CapabilityInvalid()
        if state == SUPERSEDED:
            return Superseded()
        if state == CAPABILITY_TOO_LONG:
            return CapabilityTooLong()
        if state.startswith(("08", "57P", "53", "40", "55P03")) or state in (
            "57014",
            "25006",  # read-only: a standby that takes over later, or a primary without room
            "25P03",
            "28000",
        ):
            return Unavailable(type(exc).__name__)
        return Refused(state)
    return exc


async def _nothing_to_reset(_connection: object) -> None:
    """Every setting of ours is the transaction's; asyncpg itself rolls back what is left open."""


class Database:
    """A small pool of one role's connections; none is held outside a transaction.

    An unused connection is closed after `idle_s`. With `slots` one is kept for `KEPT_S` instead, as
    long as one of these is held, which is given back then.

    `plans_once`: statements are planned once for all values. A planner that looks at values first
    does so five times over, which is as long as an agent's connection lives and half of its cost.
    """

    def __init__(
        self,
        access: Access,
        *,
        max_connections: int,
        idle_s: float = 60.0,
        slots: Slots | None = None,
        plans_once: bool = False,
    ) -> None:
        self._access = access
        self._plans = "force_generic_plan" if plans_once else "auto"
        self._max = max_connections
        self._idle_s = idle_s
        self._pool: asyncpg.Pool | None = None
        self._slot = None if slots is None else Slot(slots)
        self._kept: asyncpg.Pool | None = None  # of the one connection that the slot is for
        self._kept_is_used = False
        self._giving_back: asyncio.TimerHandle | None = None

    @asynccontextmanager
    async def connection(self) -> AsyncGenerator[asyncpg.Connection]:
        """A connection outside a transaction, for single statements."""
        takes_kept = self._slot is not None and not self._kept_is_used and self._slot.take()
        try:
            if takes_kept:
                self._kept_is_used = True
                if self._giving_back is not None:
                    self._giving_back.cancel()
                pool = self._kept = self._kept or self._made(1, 0)
            else:
                pool = self._pool = self._pool or self._made(self._max, self._idle_s)
            await pool  # connects nothing while min_size is 0
            async with pool.acquire() as proxy:
                yield cast("asyncpg.Connection", proxy)  # it passes every call on
        except (asyncpg.PostgresError, *_OUTAGES) as exc:
            raise translated(exc) from exc
        finally:
            if takes_kept:
                self._kept_is_used = False
                loop = asyncio.get_running_loop()
                self._giving_back = loop.call_later(KEPT_S, self._give_back)

    def _made(self, connections: int, idle_s: float) -> asyncpg.Pool:
        """A pool; connections that are unused for `idle_s` are closed, with 0 never."""
        return asyncpg.create_pool(
            self._access.dsn,
            user=self._access.role,
            password=self._access.password(),
            min_size=0,
            max_size=connections,
            max_inactive_connection_lifetime=idle_s,
            statement_cache_size=0 if "pgbouncer" in self._access.application else 100,
            timeout=10,
            reset=_nothing_to_reset,
            command_timeout=self._access.statement_timeout_ms / 1000 + 5,
            # All passed, because a login may change the defaults of its role.
            server_settings={
                "application_name": self._access.application,
                "search_path": "pg_catalog, pg_temp",
                "row_security": "on",
                "default_transaction_read_only": "off",
                "default_transaction_isolation": "read committed",
                "idle_in_transaction_session_timeout": "10000",
                "lock_timeout": "0",
                "statement_timeout": str(self._access.statement_timeout_ms),
                "jit": "off",
                "plan_cache_mode": self._plans,
            },
        )

    def _give_back(self) -> None:
        """Close what nobody has used for a while, and let another process keep one."""
        if self._kept is not None:
            self._kept.terminate()
            self._kept = None
        if self._slot is not None:
            self._slot.give_back()

    async def fetchrow(self, statement: str, *values: object) -> asyncpg.Record | None:
        """The first row of a statement that is its own transaction."""
        async with self.connection() as connection:
            return await connection.fetchrow(statement, *values)

    @asynccontextmanager
    async def transaction(self) -> AsyncGenerator[asyncpg.Connection]:
        """A connection inside a transaction that commits when the block ends without an error."""
        async with self.connection() as connection, connection.transaction():
            yield connection

    @asynccontextmanager
    async def acting_for(
        self, user: str, spaces: Sequence[str] = ()
    ) -> AsyncGenerator[asyncpg.Connection]:
        """A transaction that row security takes for this user's, for logins that serve people.

        `spaces` are those whose other members' rows may be read, too.
        """
        async with self.transaction() as connection:
            await connection.execute(ACT_AS, user)
            if spaces:  # the log's policy takes a comma list
                listed = ",".join(space for space in spaces if "," not in space)
                await connection.execute(ACT_IN, listed)
            yield connection

    async def close(self) -> None:
        """Close what is open; the next use opens again."""
        if self._giving_back is not None:
            self._giving_back.cancel()
        self._give_back()
        if self._pool is not None:
            self._pool.terminate()
            self._pool = None


class ActsForPeople(Protocol):
    """Where reads and writes in a person's place are done."""

    def acting_for(
        self, user: str, spaces: Sequence[str] = ()
    ) -> AbstractAsyncContextManager[asyncpg.Connection]:
        """A transaction that row security takes for this user's."""
        ...

    async def close(self) -> None:
        """Close what is open."""
        ...


class OneTransaction:
    """A person's transaction that is open already, for all who would each begin one of their own.

    One statement runs at a time. It is for reading: what fails ends it for everybody.
    """

    def __init__(self, connection: asyncpg.Connection, user: str) -> None:
        self._connection, self._user = connection, user

    @asynccontextmanager
    async def acting_for(
        self, user: str, spaces: Sequence[str] = ()
    ) -> AsyncGenerator[asyncpg.Connection]:
        """The same connection, for the same person only; raises Refused for anybody else."""
        if user != self._user or spaces:
            raise Refused("42501")
        yield self._connection

    async def close(self) -> None:
        """Nothing: who opened it ends it."""


async def patiently(call: Callable[[], Awaitable[T]]) -> T:
    """The call's result, asked for again while the database is away; raises Unavailable at last.

    The call has to be one that is harmless to repeat.
    """
    for attempt in range(_TRIES - 1):
        try:
            return await call()
        except Unavailable:
            chance = secrets.SystemRandom().random()
            await asyncio.sleep(backoff_s(attempt, _LEAST_S, _MOST_S, chance))
    return await call()
