"""People who sign in here and the spaces they share, as the role `mana_gateway`.

Of whatever lets somebody in, this gets and keeps the hash only. What is done about somebody leaves
a row of `people_trail` in the same transaction.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Literal
from uuid import UUID

import asyncpg
import msgspec
from msgspec import structs

from state.rules import sign_ins
from state.rules.scopes import Scope
from state.store.connect import Database
from state.store.sql import statements_of

SQL = statements_of("people.sql")

MOST_TOKENS = 100
Why = Literal["no-such-person", "removed", "exists", "taken", "too-many", "no-such-space"]


class PeopleRefused(Exception):
    """Something about a person or a space that cannot be done as they are; `why` is a word."""

    def __init__(self, why: Why) -> None:
        super().__init__(why)
        self.why: Why = why


class Doer(msgspec.Struct, frozen=True):
    """Who does something about a person (a user id, or `operator`), and from where they say."""

    name: str
    address: str | None = None
    user_agent: str | None = None


class Person(msgspec.Struct, frozen=True):
    """Somebody who may sign in, or could once; how many ways in they have now."""

    user_id: str
    display_name: str
    added_at: datetime
    removed_at: datetime | None
    sign_ins: int
    tokens: int
    spaces: tuple[str, ...]


class Standing(msgspec.Struct, frozen=True):
    """Who somebody is now, and the shared spaces they are a member of."""

    user_id: str
    display_name: str
    spaces: tuple[str, ...]
    way_id: str | None = None  # of the token or the sign-in
    way_name: str | None = None
    scopes: tuple[Scope, ...] = ()  # of a personal token


class SignIn(msgspec.Struct, frozen=True):
    """A browser or client that signed in and may go on."""

    sign_in_id: UUID
    is_browser: bool
    address: str | None
    user_agent: str | None
    made_at: datetime
    used_at: datetime
    expires_at: datetime


class PersonalToken(msgspec.Struct, frozen=True):
    """A token that its person has not revoked; nothing that would let anybody in."""

    token_id: UUID
    name: str
    scopes: tuple[Scope, ...]
    made_at: datetime
    expires_at: datetime
    used_at: datetime | None
    is_expired: bool


class TrailRow(msgspec.Struct, frozen=True):
    """Something that was done about a person's ways in, spaces or place, and by whom."""

    id: int
    action: str
    detail: str | None
    done_by: str
    address: str | None
    user_agent: str | None
    at: datetime


class Refreshed(msgspec.Struct, frozen=True):
    """A sign-in that goes on, and its refresh token from now on."""

    user_id: str
    sign_in_id: UUID
    refresh_token: str


class Space(msgspec.Struct, frozen=True):
    """A shared space and its members."""

    space_id: str
    name: str
    made_at: datetime
    members: tuple[str, ...]


class PeopleStore:
    """Who they are, what lets them in, what they share."""

    def __init__(self, database: Database) -> None:
        self._db = database

    async def close(self) -> None:
        """Close the connections."""
        await self._db.close()

    # --- people -----------------------------------------------------------------------------------

    async def people(self, after: str | None, limit: int, *, removed: bool) -> list[Person]:
        """People by id, those after an id; with `removed` also who was removed."""
        async with self._db.connection() as connection:
            rows = await connection.fetch(SQL["people"], after, removed, limit)
        return [msgspec.convert(dict(row.items()), Person) for row in rows]

    async def has_people(self) -> bool:
        """Whether anybody may sign in at all."""
        async with self._db.connection() as connection:
            return bool(await connection.fetchval(SQL["has_people"]))

    async def add(self, user: str, display_name: str, by: Doer, *, again: bool) -> None:
        """Add somebody; `again`: also who was removed, with the records they had.

        Raises PeopleRefused (exists, removed).
        """
        async with self._db.transaction() as connection:
            action = "added"
            if not await connection.fetchval(SQL["add_person"], user, display_name):
                row = await connection.fetchrow(SQL["lock_person"], user)
                if row is None or row["removed_at"] is None:
                    raise PeopleRefused("exists")
                if not again:
                    raise PeopleRefused("removed")
                await connection.execute(SQL["restore_person"], user, display_name)
                action = "added-again"
            await _note(connection, user, action, None, by)

    async def remove(self, user: str, by: Doer) -> None:
        """End every way in and every membership at once; records stay in the log.

        Raises PeopleRefused (no-such-person).
        """
        async with self._db.transaction() as connection:
            row = await connection.fetchrow(SQL["lock_person"], user)
            if row is None or row["removed_at"] is not None:
                raise PeopleRefused("no-such-person")
            await connection.execute(SQL["remove_person"], user)
            await connection.execute(SQL["end_ways"], user)
            await _note(connection, user, "removed", None, by)

    async def standing(self, user: str, sign_in: UUID | None) -> Standing | None:
        """A person now; None where they were removed, or this sign-in of theirs is over."""
        async with self._db.connection() as connection:
            row = await connection.fetchrow(SQL["standing"], user, sign_in)
        if row is None:
            return None
        way = None if sign_in is None else str(sign_in)
        return Standing(user, row["display_name"], tuple(row["spaces"]), way)

    async def note(self, user: str, action: str, detail: str | None, by: Doer) -> None:
        """A row of the trail; raises PeopleRefused (no-such-person)."""
        async with self._db.transaction() as connection:
            await _living(connection, user)
            await _note(connection, user, action, detail, by)

    # --- links and sign-ins -----------------------------------------------------------------------

    async def trail(self, user: str, before: int | None, limit: int) -> list[TrailRow]:
        """What was done about somebody, the newest first, those before an id."""
        async with self._db.connection() as connection:
            rows = await connection.fetch(SQL["trail_of"], user, before, limit)
        return [TrailRow(**dict(row.items())) for row in rows]

    async def add_link(self, user: str, link: bytes, life: timedelta, by: Doer) -> datetime:
        """Let somebody in once by what has this hash; until when. Raises PeopleRefused."""
        async with self._db.transaction() as connection:
            await _living(connection, user)
            until: datetime = await connection.fetchval(SQL["add_link"], link, user, life)
            await _note(connection, user, "link-made", None, by)
            return until

    async def is_link(self, link: bytes) -> bool:
        """Whether what has this hash would let somebody in; it is not used up by that."""
        async with self._db.connection() as connection:
            return bool(await connection.fetchval(SQL["is_link"], link))

    async def browser_in(self, link: bytes, cookie: bytes, by: Doer) -> Standing | None:
        """Use a link up for a browser with a cookie of this hash; None for no such link."""
        async with self._db.transaction() as connection:
            person = await connection.fetchrow(SQL["use_link"], link)
            if person is None:
                return None
            return await _signed_in(connection, person, by, cookie=cookie)

    async def client_in(self, link: bytes, token: bytes, chain: bytes, by: Doer) -> Standing | None:
        """Use a link up for a client with a refresh token of this hash; None for no such link."""
        async with self._db.transaction() as connection:
            person = await connection.fetchrow(SQL["use_link"], link)
            if person is None:
                return None
            standing = await _signed_in(connection, person, by, chain=chain)
            assert standing.way_id is not None
            await connection.execute(SQL["add_refresh_token"], token, UUID(standing.way_id))
            return standing

    async def sign_in_of(self, token: bytes) -> UUID | None:
        """The sign-in that a refresh token of this hash is or was of."""
        async with self._db.connection() as connection:
            return await connection.fetchval(SQL["sign_in_of_token"], token)

    async def refreshed(self, token: str, by: Doer) -> Refreshed | None:
        """The next refresh token in this one's place; None where it lets nobody in any more.

        A replaced one that comes back after the grace ends its sign-in.
        """
        hashed = sign_ins.hash_of(token)
        async with self._db.transaction() as connection:
            sign_in = await connection.fetchval(SQL["sign_in_of_token"], hashed)
            row = await connection.fetchrow(SQL["lock_sign_in"], sign_in)
            if row is None:
                return None
            known = await connection.fetchrow(SQL["refresh_token"], hashed)
            assert known is not None  # a row of a sign-in that is locked
            now: datetime = known["now"]
            is_gone = row["ended_at"] is not None or row["removed_at"] is not None
            said = sign_ins.verdict(
                known["replaced_at"], is_over=is_gone or row["expires_at"] <= now, now=now
            )
            if said == "over":
                return None
            if said == "reused":
                await connection.execute(SQL["end_sign_in"], sign_in, row["user_id"], "reuse")
                await _note(connection, row["user_id"], "reuse-detected", str(sign_in), by)
                return None
            token = sign_ins.next_refresh_token(token, row["chain_secret"])
            if said == "rotate":
                await connection.execute(SQL["replace_refresh_token"], hashed, now)
                await connection.execute(SQL["add_refresh_token"], sign_ins.hash_of(token), sign_in)
                until = sign_ins.good_until(row["made_at"], now)
                await connection.execute(SQL["prolong_sign_in"], sign_in, now, until)
            return Refreshed(row["user_id"], sign_in, token)

    async def by_cookie(self, cookie: bytes) -> Standing | None:
        """Whose browser has the cookie of this hash."""
        async with self._db.connection() as connection:
            values = cookie, sign_ins.UNUSED, sign_ins.AT_MOST
            row = await connection.fetchrow(SQL["by_cookie"], *values)
        if row is None:
            return None
        spaces = tuple(row["spaces"])
        return Standing(row["user_id"], row["display_name"], spaces, str(row["sign_in_id"]))

    async def sign_ins(self, user: str) -> list[SignIn]:
        """Where somebody is signed in, the newest first."""
        async with self._db.connection() as connection:
            rows = await connection.fetch(SQL["sign_ins"], user)
        return [SignIn(**dict(row.items())) for row in rows]

    async def end_sign_in(self, user: str, sign_in: UUID, by: Doer) -> bool:
        """Sign one browser or client out; False where it was not signed in."""
        async with self._db.transaction() as connection:
            if not await connection.fetchval(SQL["end_sign_in"], sign_in, user, "signed-out"):
                return False
            await _note(connection, user, "signed-out", str(sign_in), by)
            return True

    # --- personal tokens --------------------------------------------------------------------------

    async def add_token(
        self,
        user: str,
        name: str,
        token: bytes,
        *,
        scopes: Sequence[Scope],
        life: timedelta,
        by: Doer,
    ) -> tuple[UUID, datetime]:
        """A token with this hash, its id and its end; raises PeopleRefused."""
        async with self._db.transaction() as connection:
            await _living(connection, user)
            if await connection.fetchval(SQL["live_tokens"], user) >= MOST_TOKENS:
                raise PeopleRefused("too-many")
            row = await connection.fetchrow(
                *SQL.given(
                    "add_token",
                    user=user,
                    name=name,
                    token_hash=token,
                    scopes=list(scopes),
                    life=life,
                )
            )
            if row is None:
                raise PeopleRefused("taken")
            await _note(connection, user, "token-made", f"{name}: {' '.join(scopes)}", by)
            return row["token_id"], row["expires_at"]

    async def by_token(self, token: bytes) -> Standing | None:
        """Whose personal token has this hash, and what it may do; None for none that is good."""
        async with self._db.connection() as connection:
            row = await connection.fetchrow(SQL["by_token"], token)
        if row is None:
            return None
        return Standing(
            user_id=row["user_id"],
            display_name=row["display_name"],
            spaces=tuple(row["spaces"]),
            way_id=str(row["token_id"]),
            way_name=row["name"],
            scopes=tuple(row["scopes"]),
        )

    async def tokens(self, user: str) -> list[PersonalToken]:
        """A person's tokens by name."""
        async with self._db.connection() as connection:
            rows = await connection.fetch(SQL["tokens"], user)
        return [msgspec.convert(dict(row.items()), PersonalToken) for row in rows]

    async def revoke_token(self, user: str, which: str, by: Doer) -> bool:
        """End a token by its id or name; False where there is none."""
        async with self._db.transaction() as connection:
            name = await connection.fetchval(SQL["revoke_token"], user, which)
            if name is None:
                return False
            await _note(connection, user, "token-revoked", name, by)
            return True

    # --- spaces -----------------------------------------------------------------------------------

    async def spaces(self, *, space: str | None = None, member: str | None = None) -> list[Space]:
        """Shared spaces by name: all, one, or those of a member."""
        async with self._db.connection() as connection:
            rows = await connection.fetch(SQL["spaces"], space, member)
        return [msgspec.convert(dict(row.items()), Space) for row in rows]

    async def add_space(self, space: str, name: str, first: str, by: Doer) -> None:
        """A shared space with its first member; raises PeopleRefused (no-such-person)."""
        async with self._db.transaction() as connection:
            await _living(connection, first)
            await connection.execute(SQL["add_space"], space, name)
            await connection.fetchval(SQL["add_member"], space, first)
            await _note(connection, first, "space-joined", space, by)

    async def add_member(self, space: str, user: str, by: Doer) -> bool:
        """Let somebody share a space; False where they do. Raises PeopleRefused."""
        async with self._db.transaction() as connection:
            await _living(connection, user)
            if not await connection.fetch(SQL["spaces"], space, None):
                raise PeopleRefused("no-such-space")
            if await connection.fetchval(SQL["add_member"], space, user) is None:
                return False
            await connection.execute(SQL["wake_space"], user, space)
            await _note(connection, user, "space-joined", space, by)
            return True

    async def remove_member(self, space: str, user: str, by: Doer) -> bool:
        """Let somebody share a space no longer; False where they did not."""
        async with self._db.transaction() as connection:
            if await connection.fetchval(SQL["remove_member"], space, user) is None:
                return False
            await _note(connection, user, "space-left", space, by)
            return True

    async def memberships(self, user: str) -> list[str]:
        """The shared spaces somebody is a member of."""
        async with self._db.connection() as connection:
            rows = await connection.fetch(SQL["memberships"], user)
        return [row["space_id"] for row in rows]


async def _living(connection: asyncpg.Connection, user: str) -> None:
    """Hold on to a person who may sign in; raises PeopleRefused (no-such-person)."""
    row = await connection.fetchrow(SQL["person"], user)
    if row is None or row["removed_at"] is not None:
        raise PeopleRefused("no-such-person")


async def _signed_in(
    connection: asyncpg.Connection,
    person: asyncpg.Record,
    by: Doer,
    *,
    cookie: bytes | None = None,
    chain: bytes | None = None,
) -> Standing:
    user = person["user_id"]
    by = structs.replace(by, name=user)
    await _living(connection, user)
    sign_in: UUID = await connection.fetchval(
        *SQL.given(
            "add_sign_in",
            user=user,
            cookie_hash=cookie,
            chain_secret=chain,
            address=by.address,
            user_agent=by.user_agent,
            life=sign_ins.UNUSED,
        )
    )
    await _note(connection, user, "signed-in", str(sign_in), by)
    rows = await connection.fetch(SQL["memberships"], user)
    spaces = tuple(row["space_id"] for row in rows)
    return Standing(user, person["display_name"], spaces, str(sign_in))


async def _note(
    connection: asyncpg.Connection, user: str, action: str, detail: str | None, by: Doer
) -> None:
    await connection.execute(
        *SQL.given(
            "trail",
            user=user,
            action=action,
            detail=detail,
            done_by=by.name,
            address=by.address,
            user_agent=by.user_agent,
        )
    )
