"""A table of a client: what a person's program reads and writes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, Generic, Protocol, TypeVar

import msgspec

from mana_actors.client.errors import WriteRefused
from mana_actors.client.local import writes
from mana_actors.client.local.kept import FieldMeta, KeptRecord
from mana_actors.client.local.store import LocalStore
from mana_actors.client.local.writes import Hand
from mana_actors.client.table_names import TableName, TypedTableName
from state.log import merge
from state.log.own_changes import OwnRow, RecordAt

T = TypeVar("T", bound=msgspec.Struct)
R = TypeVar("R")

Made = Callable[[KeptRecord, Hand], list[OwnRow]]


class ShownRecord(msgspec.Struct, frozen=True):
    """A record as it is here: its fields by name, when and by whom each was written.

    `updated_at` is derived: when its newest field was written.
    """

    id: str
    fields: dict[str, Any]
    field_meta: dict[str, FieldMeta]
    updated_at: str

    def __getitem__(self, name: str) -> Any:
        """A field's value; raises KeyError."""
        return self.fields[name]

    def get(self, name: str, default: Any = None) -> Any:
        """A field's value, or `default` where the record has no such field."""
        return self.fields.get(name, default)


class TableClient(Protocol):
    """The client that a table is of."""

    async def read(self, work: Callable[[LocalStore, bool], R]) -> R:
        """Look into the store; in a transaction, at what that has written too."""
        ...

    async def written(self, at: RecordAt, made: Made) -> None:
        """Write the rows that `made` returns for the record, as the one who writes now."""
        ...

    def changed_in(self, app: str, table: str) -> AsyncIterator[str]:
        """Ids of the table's records as they change."""
        ...

    def new_id(self) -> str:
        """An id that nobody has."""
        ...


class Table:
    """The records of one table. Every write is kept and waiting to be pushed when it returns.

    Writes raise WriteRefused. Inside `client.transaction()` they are part of it.
    """

    def __init__(self, client: TableClient, name: TableName) -> None:
        self._client, self.name = client, name

    async def get(self, record_id: str) -> ShownRecord | None:
        """A record, or None where there is none or it was deleted."""
        at = self._at(record_id)
        found = await self._client.read(lambda store, inside: store.shown(at, inside=inside))
        return None if found is None or found.is_hidden else shown(record_id, found)

    async def list(self, *, since_ms: int = -1) -> list[ShownRecord]:
        """Records that are not deleted, the ones changed longest ago first.

        `since_ms`: only those changed after this, in ms since the epoch.
        """
        app, table = self.name.app, self.name.table
        found = await self._client.read(
            lambda store, inside: store.shown_all(app, table, since_ms=since_ms, inside=inside)
        )
        return [shown(record_id, record) for record_id, record in found]

    async def insert(self, fields: Mapping[str, Any], record_id: str | None = None) -> str:
        """A new record; its id."""
        record_id = record_id or self._client.new_id()
        at, owner = self._at(record_id), self.name.owner

        def made(known: KeptRecord, by: Hand) -> list[OwnRow]:
            if not merge.hidden(known.snapshot):
                raise WriteRefused("id", "is a record's already")
            return writes.put(at, owner, known, fields, by)

        await self._client.written(at, made)
        return record_id

    async def put(self, record_id: str, fields: Mapping[str, Any]) -> None:
        """The record made, changed, or brought back, with these fields; its others stay."""
        at, owner = self._at(record_id), self.name.owner
        await self._client.written(at, lambda known, by: writes.put(at, owner, known, fields, by))

    async def update(self, record_id: str, fields: Mapping[str, Any]) -> None:
        """These fields of a record that is there; None clears one."""

        def made(known: KeptRecord, by: Hand) -> list[OwnRow]:
            if merge.hidden(known.snapshot):
                raise WriteRefused("id", "is of no record that is there")
            return writes.changed(known, fields, by)

        await self._client.written(self._at(record_id), made)

    async def delete(self, record_id: str) -> None:
        """The record is hidden on every device; `put` brings it back. Again is no change."""

        def made(known: KeptRecord, by: Hand) -> list[OwnRow]:
            gone = merge.hidden(known.snapshot)
            return [] if gone else writes.changed(known, {"deletedAt": True}, by)

        await self._client.written(self._at(record_id), made)

    def changes(self) -> AsyncIterator[str]:
        """Ids of records as they change, here or elsewhere, once this is waited for."""
        return self._client.changed_in(self.name.app, self.name.table)

    def _at(self, record_id: str) -> RecordAt:
        if not record_id or merge.too_long(record_id) or "\0" in record_id:
            raise WriteRefused("id", f"must be 1 to {merge.MAX_ID_BYTES} bytes without NUL")
        return RecordAt(self.name.app, self.name.table, record_id)


class TypedTable(Generic[T]):
    """The records of one table in their declared shape; what they have beside it stays."""

    def __init__(self, table: Table, name: TypedTableName[T]) -> None:
        self.table, self._shape = table, name.shape

    async def get(self, record_id: str) -> T | None:
        """A record, or None; raises msgspec.ValidationError where it has another shape."""
        found = await self.table.get(record_id)
        return None if found is None else self._typed(found)

    async def list(self) -> list[T]:
        """Records that are not deleted and have the shape, changed longest ago first."""
        found: list[T] = []
        for record in await self.table.list():
            try:
                found.append(self._typed(record))
            except msgspec.ValidationError:
                continue  # somebody wrote something else there: `table.list` has it
        return found

    async def put(self, record: T) -> None:
        """The record made or changed as far as it differs."""
        fields: dict[str, Any] = msgspec.to_builtins(record)
        await self.table.put(fields.pop("id"), fields)

    def _typed(self, found: ShownRecord) -> T:
        return msgspec.convert({**found.fields, "id": found.id}, self._shape)


def shown(record_id: str, record: KeptRecord) -> ShownRecord:
    """A kept record as programs see it."""
    return ShownRecord(record_id, record.snapshot.fields, record.meta, record.updated_at)
