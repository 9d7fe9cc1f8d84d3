"""What is true of a database besides its rows: roles, privileges, policies, triggers, functions.

Read as the log's owner, and as the supervisor where rows are counted. The doctor judges it.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from functools import cache
from importlib import resources
from typing import Any

import asyncpg
import msgspec

from state.rules.reach import Relation, SqlFunction
from state.store.connect import ACT_AS, Access, Database, Refused, translated
from state.store.sql import function_texts, statements_of

SQL = statements_of("catalogue.sql")

_BODY = re.compile(r"AS \$\$(.*?)\$\$;", re.DOTALL)
PROBE_USER = "mana:doctor"
LOOK_AT_MOST = 50_001
FIRST_WITH_PARAMETERS = 15
NO_SUCH_TABLE = "42P01"
_GRANT = re.compile(
    r"^GRANT (?P<privileges>.+) ON (?P<kind>TABLE|SEQUENCE|FUNCTION|SCHEMA) (?P<object>[\w.]+)"
    r"(\(.*\))? TO (?P<role>\w+);$",
    re.MULTILINE,
)
_PRIVILEGE = re.compile(r"\w+(?:\(\w+\))?")


class ServerFacts(msgspec.Struct, frozen=True):
    """Version, whether the log is there, and its owner's name if nothing can hold it back."""

    major: int
    version: str
    mighty_owner: str | None
    has_log: bool


class LogSize(msgspec.Struct, frozen=True):
    """The log with its indexes, in bytes; rows are estimated, `written` counts since `since`."""

    bytes: int
    rows: int
    written: int
    since: datetime | None


class FunctionFacts(msgspec.Struct, frozen=True):
    """One function of schema mana_ai."""

    name: str
    source: str
    is_definer: bool
    owner: str
    is_fixed: bool
    is_public: bool


class TableFacts(msgspec.Struct, frozen=True):
    """One table that holds people's rows."""

    name: str
    is_enabled: bool
    is_forced: bool


class Probe(msgspec.Struct, frozen=True):
    """What became of a push that was rolled back: rows the router saw, and rows in the feed."""

    seen: int
    too_much: int
    fed: int


class Waiting(msgspec.Struct, frozen=True):
    """Rows in the feed, rows set aside, missions due for over two minutes; counted to a limit."""

    fed: int
    quarantined: int
    late: int


class Catalogue:
    """A database's catalogue as its log's owner sees it; errors are those of `connect`."""

    def __init__(self, dsn: str, password: str | None) -> None:
        self._dsn, self._password = dsn, password

    async def server(self) -> ServerFacts:
        """Version and owner."""
        return ServerFacts(**(await self._rows("server"))[0])

    async def roles(self, names: Sequence[str], logins: Sequence[str]) -> dict[str, list[str]]:
        """The roles that exist, with what is wrong about each."""
        rows = await self._rows("mighty_roles", list(names), list(logins))
        return {row["rolname"]: row["faults"] for row in rows}

    async def planted_settings(self, logins: Sequence[str]) -> list[str]:
        """Defaults of our logins that somebody set."""
        return [row["planted"] for row in await self._rows("planted_settings", list(logins))]

    async def log_trigger(self, name: str, function: str) -> tuple[str, bool] | None:
        """A trigger's state (`O` and `A` fire) and whether it calls this function of ours."""
        rows = await self._rows("log_trigger", name, function)
        return (rows[0]["enabled"], rows[0]["is_ours"]) if rows else None

    async def log_size(self) -> LogSize | None:
        """How large the log is, and how many rows came since statistics began."""
        rows = await self._rows("log_size")
        return LogSize(**rows[0]) if rows else None

    async def functions(self) -> list[FunctionFacts]:
        """Every function of ours."""
        return [FunctionFacts(**row) for row in await self._rows("functions")]

    async def tables(self) -> list[TableFacts]:
        """Every table with people's rows."""
        return [TableFacts(**row) for row in await self._rows("tables")]

    async def log_policies(self) -> set[str]:
        """Names of the log's policies."""
        return {row["name"] for row in await self._rows("log_policies")}

    async def agent_relations(self) -> list[Relation]:
        """Whatever an agent's login may read or change."""
        return [Relation(**row) for row in await self._rows("agent_relations")]

    async def agent_functions(self) -> list[SqlFunction]:
        """Every function of ours, and whatever else an agent's login may call."""
        return [SqlFunction(**row) for row in await self._rows("agent_functions")]

    async def agent_odds(self) -> list[str]:
        """What else it could make, read or change; empty where all is well."""
        odds = await self._rows("agent_odds")
        if (await self.server()).major >= FIRST_WITH_PARAMETERS:
            odds += await self._rows("agent_parameters")
        return [row["fault"] for row in odds]

    async def privileges(self, roles: Sequence[str]) -> set[str]:
        """What these roles were granted by name, as `granted_by_schema` says it."""
        return {row["granted"] for row in await self._rows("privileges", list(roles))}

    async def risks(self) -> list[str]:
        """What of this server helps an attacker and is not ours to change."""
        return [row["risk"] for row in await self._rows("risks")]

    async def values_logged(self) -> list[str]:
        """By which settings values that were bound to a statement get into the server's log."""
        return [row["setting"] for row in await self._rows("values_logged")]

    async def vault_faults(self, others: Sequence[str], *, is_used: bool) -> list[str]:
        """What is wrong about the vault's tables; these other logins must not get at them.

        Where no vaults are kept, that is all that matters.
        """
        return [row["fault"] for row in await self._rows("vault", list(others), is_used)]

    async def probe(self) -> Probe:
        """Push two rows, look as the router, take them back."""
        async with self._as_router() as connection:
            await connection.execute("RESET ROLE")
            await connection.execute(ACT_AS, PROBE_USER)
            await connection.execute(SQL["probe"], PROBE_USER)
            await connection.execute(ACT_AS, "")
            await connection.execute("SET LOCAL ROLE mana_router")
            row = await connection.fetchrow(SQL["probed"], PROBE_USER)
        assert row is not None
        return Probe(**dict(row.items()))

    async def written_lately(self) -> list[tuple[str, str]]:
        """(user, iteration id) of plans written under our client id within the hour."""
        async with self._as_router() as connection:
            rows = await connection.fetch(SQL["written_lately"])
        return [(row["user_id"], row["iteration_id"]) for row in rows]

    @asynccontextmanager
    async def _as_router(self) -> AsyncGenerator[asyncpg.Connection]:
        """A transaction as the router, rolled back always, of at most 5 s."""
        async with self._connection() as connection:
            work = connection.transaction()
            await work.start()
            try:
                await connection.execute("SET LOCAL statement_timeout = '5s'")
                await connection.execute("SET LOCAL lock_timeout = '2s'")
                await connection.execute(SQL["hold_router"])
                await connection.execute("SET LOCAL ROLE mana_router")
                yield connection
            finally:
                await work.rollback()

    async def _rows(self, name: str, *values: Any) -> list[dict[str, Any]]:
        async with self._connection() as connection:
            return [dict(row.items()) for row in await connection.fetch(SQL[name], *values)]

    @asynccontextmanager
    async def _connection(self) -> AsyncGenerator[asyncpg.Connection]:
        try:
            connection = await asyncpg.connect(self._dsn, password=self._password, timeout=10)
            try:
                yield connection
            finally:
                await connection.close()
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError) as exc:
            raise translated(exc) from exc


class ServiceView:
    """What the supervisor's login finds; close it."""

    def __init__(self, access: Access) -> None:
        self._db = Database(access, max_connections=1)

    async def applied(self) -> list[str]:
        """Names of the migrations done."""
        async with self._db.connection() as connection:
            return [row["name"] for row in await connection.fetch(SQL["applied"])]

    async def texts(self) -> dict[str, str]:
        """Digests of the texts that our functions were put from; none before there was a ledger."""
        try:
            async with self._db.connection() as connection:
                rows = await connection.fetch(SQL["texts"])
        except Refused as exc:
            if exc.sqlstate != NO_SUCH_TABLE:
                raise
            return {}
        return {row["name"]: row["text_digest"] for row in rows}

    async def signs(self, audience: str) -> bool:
        """Whether capabilities for an audience can be signed."""
        async with self._db.connection() as connection:
            return bool(await connection.fetchval(SQL["signs"], audience))

    async def waiting(self) -> Waiting:
        """What is not done yet."""
        async with self._db.connection() as connection:
            row = await connection.fetchrow(SQL["waiting"], LOOK_AT_MOST)
        assert row is not None
        return Waiting(**dict(row.items()))

    async def unknown_plans(self, plans: Sequence[tuple[str, str]]) -> int:
        """How many of these plans (user, iteration id) no run of ours made."""
        users, ids = [user for user, _ in plans], [id_ for _, id_ in plans]
        async with self._db.connection() as connection:
            return int(await connection.fetchval(SQL["unknown_plans"], users, ids))

    async def ends_session(self, pid: int) -> bool:
        """End this session of an agent's login, as those are ended that get too old."""
        async with self._db.connection() as connection:
            return pid in [row[0] for row in await connection.fetch(SQL["end_session"], pid)]

    async def close(self) -> None:
        """Close the connection."""
        await self._db.close()


@asynccontextmanager
async def open_transaction(access: Access) -> AsyncGenerator[int]:
    """The pid of a session that keeps a transaction open until the block ends, or it is ended."""
    try:
        connection = await asyncpg.connect(
            access.dsn, user=access.role, password=access.password(), timeout=10
        )
        await connection.execute("BEGIN")
    except (asyncpg.PostgresError, asyncpg.InterfaceError, TimeoutError) as exc:
        raise translated(exc) from exc
    try:
        yield connection.get_server_pid()
    finally:
        connection.terminate()


@cache
def function_sources() -> dict[str, str]:
    """The bodies of our PL/pgSQL functions as their files have them."""
    found = {name: _BODY.search(text) for name, text in function_texts().items()}
    return {name: body[1] for name, body in found.items() if body is not None}


@cache
def granted_by_schema() -> frozenset[str]:
    """What schema.sql grants, one text per role, privilege and object; without schema auth."""
    script = resources.files("state.store").joinpath("schema.sql").read_text("utf-8")
    found = [one for one in _GRANT.finditer(script) if one["object"].split(".")[0] != "auth"]
    return frozenset(
        f"{one['role']} {'EXECUTE' if privilege == 'ALL' else privilege} {one['object']}"
        for one in found
        for privilege in _PRIVILEGE.findall(one["privileges"])
    )
