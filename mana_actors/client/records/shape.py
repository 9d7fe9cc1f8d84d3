"""What all typed records have, and how a table of them is named."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec
from msgspec import UNSET, UnsetType

from mana_actors.client.table_names import TableName, TypedTableName
from state.proposals.effects import TablePlace

Text = str | None | UnsetType
"""Sealed text is text, too: `enc:1:…`."""
Flag = bool | None | UnsetType
Whole = int | None | UnsetType
Number = int | float | None | UnsetType
Texts = list[str] | str | None | UnsetType
"""A list of texts, or text where it is sealed."""
Objects = list[dict[str, Any]] | str | None | UnsetType
Object = dict[str, Any] | str | None | UnsetType


class TypedRecord(msgspec.Struct, kw_only=True, rename="camel"):
    """A record; what it does not have is UNSET, and what is not declared stays as it is.

    Whose it is and since when is set where it is made. Instants are texts.
    """

    id: str
    created_at: Text = UNSET
    user_id: Text = UNSET
    space_id: Text = UNSET
    author_id: Text = UNSET
    visibility: Text = UNSET


T = TypeVar("T", bound=TypedRecord)


def table_of(place: TablePlace, shape: type[T]) -> TypedTableName[T]:
    """The table at a place of the log, in this shape."""
    return TypedTableName(TableName(place.app, place.table), shape)
