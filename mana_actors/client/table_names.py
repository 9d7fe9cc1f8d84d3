"""Which app a table is in, as the records of the modules are synced."""

from __future__ import annotations

from typing import Generic, TypeVar

import msgspec

from mana_actors.client.errors import WriteRefused
from mana_actors.client.local.writes import Owner
from state.log.tables import INPUT_APPS, INPUT_TABLES, READ_TABLES

T = TypeVar("T", bound=msgspec.Struct)

AI_APP = "ai"
APPS: dict[str, str] = {
    "agents": AI_APP,
    "aiMissions": AI_APP,
    **{INPUT_TABLES[module]: app for module, app in INPUT_APPS.items()},
    **{of.table: of.app for of in READ_TABLES.values()},
}
"""By table."""

OF_A_PERSON = frozenset({"userContext"})
"""Tables whose records belong to a person as such, and to no space."""


class TableName(msgspec.Struct, frozen=True):
    """A table of an app."""

    app: str
    table: str
    owner: Owner = "space"


class TypedTableName(msgspec.Struct, Generic[T], frozen=True):
    """A table whose records have a declared shape.

    `shape`: a struct with an `id`, whose other fields have defaults and are named as records name
    them (`rename="camel"`). A field that is `UNSET` is one that the record does not have; what a
    record has beside them stays as it is.
    """

    name: TableName
    shape: type[T]


def table_named(table: str, app: str | None = None) -> TableName:
    """A table by its name; raises WriteRefused for one of which no app is known."""
    found = app or APPS.get(table)
    if found is None:
        raise WriteRefused("app", f"is not known of the table {table!r}: say which")
    return TableName(found, table, "user" if table in OF_A_PERSON else "space")
