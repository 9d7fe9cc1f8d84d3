"""Sessions of operators, as the role `mana_gateway`: the hash of a cookie says whose one is."""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime

import msgspec

from state.errors import StateError
from state.store.connect import Database
from state.store.people.store import SQL, Doer

NAME_CHARS = 12


def session_name(cookie: bytes) -> str:
    """What people call the session of a cookie with this hash; it lets nobody in."""
    return cookie.hex()[:NAME_CHARS]


class OperatorSession(msgspec.Struct, frozen=True):
    """A browser that an operator's page is open in, and from where it says it is."""

    name: str
    address: str | None
    user_agent: str | None
    opened_at: datetime
    seen_at: datetime  # to the minute
    ends_at: datetime


class SessionStore:
    """All that are open; one without a row has ended."""

    def __init__(self, database: Database) -> None:
        self._db = database

    async def open(self, cookie: bytes, by: Doer, ends_at: datetime) -> None:
        """Once this returns the session is open at every door; again it changes nothing."""
        asked = SQL.given(
            "open_session",
            cookie=cookie,
            address=by.address,
            user_agent=by.user_agent,
            ends_at=ends_at,
        )
        async with self._db.connection() as connection:
            await connection.execute(*asked)

    async def is_open(self, cookie: bytes) -> bool:
        """Whether this session has begun and not ended; notes that it was seen."""
        async with self._db.connection() as connection:
            is_long_ago = await connection.fetchval(SQL["session_seen_at"], cookie)
        if is_long_ago:
            with suppress(StateError):  # a full disk, say: that is when somebody has to look
                async with self._db.connection() as connection:
                    await connection.execute(SQL["note_session_seen"], cookie)
        return is_long_ago is not None

    async def list(self) -> list[OperatorSession]:
        """The newest first."""
        async with self._db.connection() as connection:
            rows = await connection.fetch(SQL["open_sessions"])
        return [OperatorSession(**dict(row.items())) for row in rows]

    async def end(self, name: str) -> bool:
        """End one, for every copy of its cookie; False where there is none of this name."""
        async with self._db.connection() as connection:
            return await connection.execute(SQL["end_session"], name) != "DELETE 0"

    async def end_all(self) -> int:
        """End every session; how many there were."""
        async with self._db.connection() as connection:
            told = await connection.execute(SQL["end_all_sessions"])
        return int(told.rpartition(" ")[2])
