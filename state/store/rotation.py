"""New secrets for signing capabilities, made inside the database: nobody ever sees one."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from functools import partial

import asyncpg
import msgspec

from state.errors import StateError, TerminalError
from state.store.connect import Database
from state.store.migrate import AS_OWNER, in_turn, log_owner

ROTATED_ALREADY = "MA003"
ROTATE = "SELECT mana_ai.rotate_capability_secrets({})"
SECRETS_NOW = "SELECT * FROM mana_ai.capability_secrets_now()"
END_AGENTS = """
GRANT mana_agent TO CURRENT_USER;
DO $$ BEGIN
  PERFORM pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE usename = 'mana_agent' AND datname = current_database();
END $$;
REVOKE mana_agent FROM CURRENT_USER
"""
"""A transaction that began before would go on seeing the secrets that were there then."""

REMEDY = (
    "rotate as the owner of sync_changes with CREATEROLE, or have a DBA run"
    " SELECT mana_ai.rotate_capability_secrets(false)"
)
END_REMEDY = (
    "the old secrets are gone, but agents' transactions under way may still go by them:"
    " have a DBA run SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename ="
    " 'mana_agent'"
)


class CapabilitySecret(msgspec.Struct, frozen=True):
    """A secret without the secret; `verifies_until` is None while it signs."""

    audience: str
    kid: str
    created_at: datetime
    verifies_until: datetime | None
    asked_at: datetime

    @property
    def verifies(self) -> bool:
        """Whether what it signed is still accepted."""
        return self.verifies_until is None or self.verifies_until > self.asked_at


class RotatedAlready(StateError, TerminalError):
    """The secrets before the present ones still verify, and two at a time are the most."""

    def __str__(self) -> str:
        return (
            "rotated less than 2 hours and a minute ago: what was signed before is still accepted"
            " (mana keys check says until when); if a secret leaked, rotate with --now"
        )


async def rotate_capability(dsn: str, password: str | None, *, at_once: bool) -> None:
    """Sign with new secrets from now on; raises RotatedAlready or MigrationError.

    `at_once` refuses from now on whatever was signed before and ends the agents' sessions.
    """
    async with log_owner(dsn, password, REMEDY) as connection:
        await in_turn(connection, "rotation", partial(_rotated, connection, at_once=at_once))
    if at_once:
        async with log_owner(dsn, password, END_REMEDY) as connection:
            await in_turn(connection, "agents' sessions", partial(connection.execute, END_AGENTS))


async def _rotated(connection: asyncpg.Connection, *, at_once: bool) -> bool:
    try:
        await connection.execute(AS_OWNER + ROTATE.format("true" if at_once else "false"))
    except asyncpg.PostgresError as exc:
        if exc.sqlstate == ROTATED_ALREADY:
            raise RotatedAlready from None
        raise
    return True


async def capability_secrets(database: Database) -> Sequence[CapabilitySecret]:
    """Which there are, by audience and newest first, as the supervisor's login may know."""
    async with database.connection() as connection:
        rows = await connection.fetch(SECRETS_NOW)
    return [CapabilitySecret(**dict(row.items())) for row in rows]
