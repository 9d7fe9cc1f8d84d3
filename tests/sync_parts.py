"""Devices of people as the sync tests use them: plain HTTP, no library."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import httpx2
import pytest
from msgspec import structs

from supervisor.custody.vaults import Caller
from tests.integration.support import Json
from tests.owners import House
from tests.postgres import SUPERUSER

EPOCH = "1970-01-01T00:00:00.000Z"
AT = "2026-04-26T10:00:0{}.000Z"


def insert(id_: str, **data: Any) -> Json:
    """A new task, as a client sends it."""
    data = {"id": id_, "createdAt": AT.format(0), **data}
    return {"table": "tasks", "id": id_, "op": "insert", "data": data}


def update(id_: str, at: str = AT.format(1), **values: Any) -> Json:
    """Fields of a task anew, all with one stamp."""
    fields = {name: {"value": value, "at": at} for name, value in values.items()}
    return {"table": "tasks", "id": id_, "op": "update", "fields": fields}


class SyncDevice:
    """One device of a person."""

    def __init__(
        self, house: House, user: str = "u1", client: str = "c-1", *, spaces: tuple[str, ...] = ()
    ) -> None:
        self.house, self.user, self.client_id, self.spaces = house, user, client, spaces

    @property
    def headers(self) -> dict[str, str]:
        token = self.house.auth.token(self.user, spaces=list(self.spaces))
        return {"Authorization": f"Bearer {token}", "X-Client-Id": self.client_id}

    async def post(
        self, *changes: Json, since: str = EPOCH, app: str = "todo", **more: Any
    ) -> httpx2.Response:
        """One push, however it is answered."""
        body = {"clientId": self.client_id, "since": since, "changes": list(changes), **more}
        return await self.house.client.post(f"/sync/{app}", json=body, headers=self.headers)

    async def push(self, *changes: Json, **more: Any) -> Json:
        """One push that is taken."""
        answered = await self.post(*changes, **more)
        assert answered.status_code == 200, answered.text
        return answered.json()

    async def page(self, since: str = EPOCH, table: str = "tasks", app: str = "todo") -> Json:
        """One page."""
        answered = await self.house.client.get(
            f"/sync/{app}/pull",
            params={"collection": table, "since": since},
            headers=self.headers,
        )
        assert answered.status_code == 200, answered.text
        return answered.json()

    async def pull(self, since: str = EPOCH, **more: Any) -> tuple[list[Json], str]:
        """All pages, and the position reached."""
        found: list[Json] = []
        while True:
            page = await self.page(since, **more)
            found += page["serverChanges"]
            assert page["syncedUntil"] > since or not page.get("hasMore")
            since = page["syncedUntil"]
            if not page.get("hasMore"):
                return found, since


def membership(house: House, patch: pytest.MonkeyPatch, user: str) -> list[str]:
    """The shared spaces of this person from now on, whatever their token says."""
    spaces: list[str] = []

    async def seen(caller: Caller) -> Caller:
        return structs.replace(caller, spaces=tuple(spaces)) if caller.user == user else caller

    patch.setattr(house.owners.sync_outside, "seen", seen)
    return spaces


@asynccontextmanager
async def writing(
    house: House, *ids: str, user: str = "u1", at: str | None = None, **columns: Any
) -> AsyncGenerator[asyncpg.Connection]:
    """Rows of a writer that is not ours, visible when the block ends; `at` is their created_at."""
    connection = await house.database.connect(SUPERUSER)
    columns = {"app_id": "todo", "table_name": "tasks", "op": "insert", **columns}
    names = ", ".join(columns)
    places = ", ".join(f"${n + 4}" for n in range(len(columns)))
    statement = (
        "INSERT INTO public.sync_changes"
        f" (user_id, record_id, created_at, client_id, data, {names})"
        f" VALUES ($1, $2, coalesce($3::text::timestamptz, now()), 'psql', '{{}}', {places})"
    )
    try:
        async with connection.transaction():
            for id_ in ids:
                await connection.execute(statement, user, id_, at, *columns.values())
            yield connection
    finally:
        await connection.close()
