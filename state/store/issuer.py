"""The vault's rows: read and changed in their owner's place, as the role `mana_issuer`."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, Literal

import asyncpg
import msgspec

from state.errors import UserIdMissingError
from state.grants.vault import Vault
from state.store.connect import Database
from state.store.sql import statements_of

SQL = statements_of("issuer.sql")

Action = Literal[
    "init",
    "fetch",
    "rotate",
    "failed_fetch",
    "recovery_set",
    "recovery_clear",
    "zk_enable",
    "zk_disable",
]


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """A row of the trail: what was tried, from where, and the HTTP status it got."""

    action: Action
    status: int
    context: str | None = None
    ip_address: str | None = None
    user_agent: str | None = None


class Opened:
    """One person's vault, if any, inside a transaction that holds its row's lock."""

    def __init__(
        self, connection: asyncpg.Connection, user: str, vault: Vault | None, now: datetime
    ) -> None:
        self._connection = connection
        self._user = user
        self.vault = vault
        self.now = now

    async def add(self, vault: Vault) -> Vault:
        """This vault, or the one that somebody else added first."""
        wrap = (vault.wrapped_mk, vault.wrap_iv, vault.format_version, vault.kek_id)
        await self._connection.execute(SQL["add_vault"], self._user, *wrap, vault.created_at)
        self.vault = await _locked(self._connection, self._user)
        assert self.vault is not None
        return self.vault

    async def save(self, vault: Vault) -> None:
        """Put this in the place of what there was."""
        await self._connection.execute(
            *SQL.given(
                "save_vault",
                user=self._user,
                wrapped_mk=vault.wrapped_mk,
                wrap_iv=vault.wrap_iv,
                format_version=vault.format_version,
                kek_id=vault.kek_id,
                recovery_wrapped_mk=vault.recovery_wrapped_mk,
                recovery_iv=vault.recovery_iv,
                recovery_format_version=vault.recovery_format_version,
                recovery_set_at=vault.recovery_set_at,
                zero_knowledge=vault.zero_knowledge,
                rotated_at=vault.rotated_at,
            ),
        )
        self.vault = vault

    async def key_check(self) -> str | None:
        """What the vault's key must hash to; None where nobody wrote that down for this key."""
        assert self.vault is not None
        since = self.vault.key_since
        return await self._connection.fetchval(SQL["key_check"], self._user, since)

    async def save_key_check(self, check: str) -> None:
        """Write down what the vault's key hashes to."""
        assert self.vault is not None
        since = self.vault.key_since
        await self._connection.execute(SQL["save_key_check"], self._user, since, check)

    async def record(self, entry: Entry) -> None:
        """A row of the trail, which stands if this transaction does."""
        await self._connection.execute(SQL["add_audit"], self._user, *_columns(entry))


class VaultStore:
    """Vaults, one person's per transaction."""

    def __init__(self, database: Database) -> None:
        self._db = database

    async def find(self, user: str) -> Vault | None:
        """A person's vault as it is now."""
        async with self._as(user) as connection:
            return _vault(await connection.fetchrow(SQL["find_vault"], user))

    @asynccontextmanager
    async def opened(self, user: str) -> AsyncGenerator[Opened]:
        """A person's vault, nobody else's to change until the block ends; an error undoes all."""
        async with self._as(user) as connection:
            vault = await _locked(connection, user)
            yield Opened(connection, user, vault, await connection.fetchval(SQL["now"]))

    async def record(self, user: str, entry: Entry) -> None:
        """A row of the trail in a transaction of its own: it stands whatever else fails."""
        async with self._as(user) as connection:
            await connection.execute(SQL["add_audit"], user, *_columns(entry))

    async def close(self) -> None:
        """Close the connections."""
        await self._db.close()

    @asynccontextmanager
    async def _as(self, user: str) -> AsyncGenerator[asyncpg.Connection]:
        if not user:
            raise UserIdMissingError("vault")
        async with self._db.acting_for(user) as connection:
            yield connection


async def _locked(connection: asyncpg.Connection, user: str) -> Vault | None:
    return _vault(await connection.fetchrow(SQL["lock_vault"], user))


def _vault(row: Any) -> Vault | None:
    return None if row is None else Vault(**dict(row.items()))


def _columns(entry: Entry) -> tuple[str | int | None, ...]:
    return (entry.action, entry.ip_address, entry.user_agent, entry.context, entry.status)
