"""What carrying a proposal out does to records: a handler is data, and here is what each kind does.

A handler names the records it needs; they are read, and it says what to write. It sees only those,
and writes nothing itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, tzinfo
from enum import Enum
from typing import Any, Literal, cast

import msgspec

from state.log.records import ENCRYPTED_PREFIX
from state.log.stamps import text_of
from state.proposals.proposal import new_record_id

Record = Mapping[str, Any]


class TablePlace(msgspec.Struct, frozen=True):
    """A table of the log."""

    app: str
    table: str


class Need(msgspec.Struct, frozen=True):
    """A record to read, or with an empty id all of a table."""

    place: TablePlace
    id: str = ""


class Effect(msgspec.Struct, frozen=True):
    """One record to make, change or hide; `fields` are the whole record, or what changes."""

    place: TablePlace
    id: str
    op: Literal["insert", "update", "delete"]
    fields: dict[str, Any] = {}


class CannotCarryOut(Exception):
    """Nothing can be written for these parameters, and why, in words for the owner."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


class NeedsDevice(Exception):
    """Only a device of the owner's can write this, or read what it takes."""


class Scene(msgspec.Struct, frozen=True):
    """All that a handler may know; `found` holds live records by table, each with its `id`."""

    proposal: str
    params: Mapping[str, Any]
    found: Mapping[TablePlace, Sequence[Record]]
    now: datetime
    zone: tzinfo

    def record(self, place: TablePlace, id_: str) -> Record:
        """One live record; raises CannotCarryOut where it is gone."""
        for each in self.found.get(place, ()):
            if each["id"] == id_:
                return each
        raise CannotCarryOut(f"there is no such record in {place.table}: {id_}")

    def text(self, record: Record, field: str) -> str:
        """A readable text; raises NeedsDevice where it is sealed."""
        value = record.get(field)
        if not isinstance(value, str):
            return ""
        if value.startswith(ENCRYPTED_PREFIX):
            raise NeedsDevice
        return value

    def filled(self, place: TablePlace, id_: str, template: Template) -> list[Effect]:
        """One record changed by a template."""
        return [Effect(place, id_, "update", filled(template, place, self))]

    def new_id(self, number: int = 0) -> str:
        """The id of a record this proposal makes."""
        return new_record_id(self.proposal, number)


class Now(Enum):
    """Values that are known when it is carried out."""

    INSTANT = "now"
    DAY = "today"
    COUNT = "how many records the table has"
    NEW_ID = "a new id"


class P(msgspec.Struct, frozen=True):
    """The value of a parameter; left out where it is absent and there is no default."""

    name: str
    default: Any = msgspec.UNSET
    change: Callable[[Any], Any] | None = None


Template = Mapping[str, Any]
"""Record fields: constants, `P`, `Now`, or templates under them."""


class Create(msgspec.Struct, frozen=True):
    """Makes one record."""

    place: TablePlace
    fields: Template

    def needs(self, _params: Record) -> list[Need]:
        counts = Now.COUNT in self.fields.values()
        return [Need(self.place)] if counts else []

    def effects(self, scene: Scene) -> list[Effect]:
        made = filled(self.fields, self.place, scene)
        return [Effect(self.place, scene.new_id(), "insert", made)]


class SetFields(msgspec.Struct, frozen=True):
    """Sets fields of one record; `only_if` holds what it must be, with words where it is not.

    Parameters that are absent change nothing; at least one has to be there where all are optional.
    """

    place: TablePlace
    id: str
    fields: Template
    only_if: tuple[str, tuple[Any, ...], str] | None = None

    def needs(self, params: Record) -> list[Need]:
        return [Need(self.place, str(params[self.id]))]

    def effects(self, scene: Scene) -> list[Effect]:
        id_ = str(scene.params[self.id])
        record = scene.record(self.place, id_)
        if self.only_if is not None:
            field, allowed, words = self.only_if
            if record.get(field) not in allowed:
                raise CannotCarryOut(words)
        given = any(
            isinstance(value, P) and value.name in scene.params for value in self.fields.values()
        )
        asks = any(isinstance(value, P) for value in self.fields.values())
        if asks and not given and all(isinstance(v, P | Now) for v in self.fields.values()):
            raise CannotCarryOut("it says nothing that changes")
        return [Effect(self.place, id_, "update", filled(self.fields, self.place, scene))]


class Append(msgspec.Struct, frozen=True):
    """Adds a parameter to what a field holds: `join` makes the new value of old and added."""

    place: TablePlace
    id: str
    field: str
    param: str
    join: Callable[[Any, Any], Any]

    def needs(self, params: Record) -> list[Need]:
        return [Need(self.place, str(params[self.id]))]

    def effects(self, scene: Scene) -> list[Effect]:
        id_ = str(scene.params[self.id])
        record = scene.record(self.place, id_)
        before = scene.text(record, self.field)
        after = self.join(before, scene.params[self.param])
        if after == before:
            return []  # it is there already
        return [Effect(self.place, id_, "update", {self.field: after})]


class Remove(msgspec.Struct, frozen=True):
    """Hides one record."""

    place: TablePlace
    id: str

    def needs(self, params: Record) -> list[Need]:
        return [Need(self.place, str(params[self.id]))]

    def effects(self, scene: Scene) -> list[Effect]:
        id_ = str(scene.params[self.id])
        scene.record(self.place, id_)
        return [Effect(self.place, id_, "delete")]


class Custom(msgspec.Struct, frozen=True):
    """What none of the others can say: the tables it reads whole, and a function of the scene."""

    tables: tuple[TablePlace, ...]
    make: Callable[[Scene], list[Effect]]

    def needs(self, _params: Record) -> list[Need]:
        return [Need(place) for place in self.tables]

    def effects(self, scene: Scene) -> list[Effect]:
        return self.make(scene)


Handler = Create | SetFields | Append | Remove | Custom


def filled(template: Template, place: TablePlace, scene: Scene) -> dict[str, Any]:
    """The fields with their values; a parameter that is absent and has no default is left out."""
    found: dict[str, Any] = {}
    for name, value in template.items():
        match value:
            case P():
                if value.name in scene.params:
                    given = scene.params[value.name]
                    found[name] = given if value.change is None else value.change(given)
                elif value.default is not msgspec.UNSET:
                    default = {"": value.default}
                    found[name] = filled(default, place, scene)[""]
            case Now.INSTANT:
                found[name] = text_of(scene.now)
            case Now.DAY:
                found[name] = scene.now.astimezone(scene.zone).date().isoformat()
            case Now.COUNT:
                found[name] = len(scene.found.get(place, ()))
            case Now.NEW_ID:
                found[name] = scene.new_id(1)
            case dict():
                found[name] = filled(cast("Template", value), place, scene)
            case _:
                found[name] = value
    return found
