"""Browsers of people whom the deployment's auth service knows, as the role `mana_gateway`.

Who they are and what they share is what a token of that service said when it asked for the link.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from uuid import UUID

import asyncpg

from state.rules import sign_ins
from state.store.connect import Database
from state.store.people.store import SQL, Doer, SignIn, Standing


class VisitorStore:
    """Their links and cookies, as hashes."""

    def __init__(self, database: Database) -> None:
        self._db = database

    async def close(self) -> None:
        """Close the connections."""
        await self._db.close()

    async def add_link(
        self, user: str, spaces: tuple[str, ...], link: bytes, life: timedelta
    ) -> datetime:
        """Let a browser of theirs in once by what has this hash; until when."""
        async with self._db.connection() as connection:
            return await connection.fetchval(SQL["add_visitor"], user, spaces, link, life)

    async def is_link(self, link: bytes) -> bool:
        """Whether what has this hash would let somebody in; it is not used up by that."""
        async with self._db.connection() as connection:
            return bool(await connection.fetchval(SQL["is_visitors_link"], link))

    async def browser_in(self, link: bytes, cookie: bytes, by: Doer) -> Standing | None:
        """Use a link up for a browser with a cookie of this hash; None for no such link."""
        async with self._db.connection() as connection:
            row = await connection.fetchrow(
                *SQL.given(
                    "visitor_in",
                    link=link,
                    cookie=cookie,
                    address=by.address,
                    user_agent=by.user_agent,
                    life=sign_ins.VISIT,
                )
            )
        return None if row is None else _standing(row)

    async def by_cookie(self, cookie: bytes) -> Standing | None:
        """Whose browser has the cookie of this hash."""
        async with self._db.connection() as connection:
            row = await connection.fetchrow(SQL["visitor_by_cookie"], cookie)
        return None if row is None else _standing(row)

    async def sign_ins(self, user: str) -> list[SignIn]:
        """Where somebody is signed in, the newest first."""
        async with self._db.connection() as connection:
            rows = await connection.fetch(SQL["visitors_of"], user)
        return [SignIn(**dict(row.items())) for row in rows]

    async def end_sign_in(self, user: str, sign_in: UUID) -> bool:
        """Sign one browser out; False where it was not signed in."""
        async with self._db.connection() as connection:
            return await connection.fetchval(SQL["end_visitor"], sign_in, user) is not None


def _standing(row: asyncpg.Record) -> Standing:
    user = row["user_id"]
    return Standing(user, user, tuple(row["spaces"]), str(row["sign_in_id"]))
