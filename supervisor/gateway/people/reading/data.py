"""A person's records as the log says they are now, and who wrote what."""

from typing import Any, cast

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from mana_actors.http.bodies import BadRequest, answer
from mana_actors.json_values import JsonObject
from state.log.principals import AuthoredRow, WrittenField, written_record
from state.log.stamps import NS_PER_US, clamp, format_instant
from state.log.tables import INPUT_APPS
from state.sealing.values import is_sealed
from state.store.own.records import RecordRows
from supervisor.custody.vaults import Caller
from supervisor.gateway.answers import path_part, query, whole_number
from supervisor.gateway.cursors import cursor, read_cursor
from supervisor.gateway.people.owners import Owners

SEALED = "(sealed)"
"""Stands where only the owner's client can read."""
MOST_ROWS_TOLD = 100


class DataPlace(msgspec.Struct, frozen=True, array_like=True):
    """Where a list of records goes on: the last record told."""

    table: str
    record: str


async def get_modules(request: Request, caller: Caller, owners: Owners) -> Response:
    """What there is: modules, their tables, and how many records each ever had."""
    query(request, ())
    modules: dict[str, list[dict[str, Any]]] = {}
    for each in await owners.records.tables(caller.user, caller.spaces):
        told = {"table": each.table, "records": each.records, "rows": each.rows}
        modules.setdefault(each.app, []).append(told)
    return answer({"modules": [{"module": app, "tables": of} for app, of in modules.items()]})


async def get_records(request: Request, caller: Caller, owners: Owners) -> Response:
    """A module's records that are there, by table and id; `after` continues the list.

    A page may hold fewer than `limit`, since deleted records are looked at and not told.
    """
    given = query(request, ("table", "after", "limit"))
    limit = whole_number("limit", given.get("limit", "100"), 1, 500)
    after = read_cursor(given["after"], DataPlace) if "after" in given else None
    found = await owners.records.records(
        caller.user,
        _app(request),
        table=given.get("table"),
        after=None if after is None else (after.table, after.record),
        limit=limit,
        spaces=caller.spaces,
    )
    told = [_record(each, with_authors=False) for each in found]
    more = cursor(DataPlace(found[-1].table, found[-1].id)) if found else None
    return answer({"records": [each for each in told if each is not None], "after": more})


async def get_record(request: Request, caller: Caller, owners: Owners) -> Response:
    """One record: each field with who wrote it and when, and the rows it is made of."""
    query(request, ())
    place = path_part(request, "table"), path_part(request, "record")
    found = await owners.records.record(caller.user, _app(request), *place, caller.spaces)
    told = None if found is None else _record(found, with_authors=True)
    if found is None or told is None:
        raise BadRequest("record", "is not there", 404)
    rows = list(found.rows or ())
    return answer({**told, "rows": [_row(each) for each in rows[-MOST_ROWS_TOLD:]]})


def _app(request: Request) -> str:
    """The sync channel of a module; its own name where inputs call it otherwise."""
    module = path_part(request, "module")
    return INPUT_APPS.get(module, module)


def _record(of: RecordRows, *, with_authors: bool) -> dict[str, Any] | None:
    """What is told of a record, None where it is deleted or was never established."""
    place = {"table": of.table, "id": of.id}
    if of.rows is None:
        return {**place, "tooLarge": True}
    record = written_record(of.rows)
    if record.gone:
        return None
    last = max(record.fields.values(), key=lambda field: field.at, default=None)
    return {
        **place,
        "fields": {
            name: _field(field) if with_authors else _shown(field.value)
            for name, field in record.fields.items()
        },
        "updatedAt": record.updated_at,
        "updatedBy": None if last is None else _author(last),
    }


def _field(of: WrittenField) -> dict[str, Any]:
    return {"value": _shown(of.value), "at": of.at, **_author(of)}


def _author(of: WrittenField | AuthoredRow) -> dict[str, Any]:
    return {"actor": of.actor, "origin": of.origin}


def _row(of: AuthoredRow) -> dict[str, Any]:
    return {
        "at": format_instant(clamp(of.change.created_at * NS_PER_US)),
        "op": of.change.op,
        "fields": sorted(of.change.data or ()),
        "client": of.client,
        **_author(of),
    }


def _shown(value: Any) -> Any:
    """A value without ciphertext, which nobody but its owner's client can read."""
    match value:
        case dict():
            return {name: _shown(each) for name, each in cast("JsonObject", value).items()}
        case list():
            return [_shown(each) for each in cast("list[Any]", value)]
        case _:
            return SEALED if is_sealed(value) else value
