"""A person's records as the log says they are now, and who wrote what."""

from typing import Any, cast
from uuid import UUID

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from mana_actors.http.bodies import BadRequest, answer
from mana_actors.json_values import JsonObject
from state.log.principals import (
    AI,
    SYSTEM,
    USER,
    written_record,
)
from state.log.stamps import NS_PER_US, clamp, format_instant, instant_of
from state.log.tables import INPUT_APPS
from state.sealing.values import is_sealed
from state.store.own.records import DeedFilter
from supervisor.custody.vaults import Caller
from supervisor.gateway.answers import path_part, query, whole_number
from supervisor.gateway.api.problems import ApiProblem
from supervisor.gateway.cursors import Key, Moment, cursor, read_cursor
from supervisor.gateway.people.owners import Owners
from supervisor.gateway.people.reading.wire import (
    AuthorTold,
    DeedList,
    DeedTold,
    FieldTold,
    ModuleList,
    ModuleTold,
    RecordDetail,
    RecordList,
    RecordTold,
    RowTold,
    TableTold,
)

SEALED = "(sealed)"
"""Stands where only the owner's client can read."""
MOST_ROWS_TOLD = 100


class DataPlace(msgspec.Struct, frozen=True, array_like=True):
    """Where a list of records goes on: the last record told."""

    table: Key
    record: Key


class DeedPlace(msgspec.Struct, frozen=True, array_like=True):
    """Where a timeline goes on: the last row looked at."""

    at: Moment
    id: UUID


async def get_modules(request: Request, caller: Caller, owners: Owners) -> Response:
    """What there is: modules, their tables, and how many records each ever had."""
    query(request, ())
    modules: dict[str, list[TableTold]] = {}
    for each in await owners.records.tables(caller.user, caller.spaces):
        told = TableTold(table=each.table, records=each.records, rows=each.rows)
        modules.setdefault(each.app, []).append(told)
    items = [ModuleTold(module=app, tables=tables) for app, tables in modules.items()]
    return answer(ModuleList(items=items))


async def get_records(request: Request, caller: Caller, owners: Owners) -> Response:
    """A module's records that are there, by table and id."""
    given = query(request, ("table", "after", "limit"))
    limit = whole_number("limit", given.get("limit", "50"), 1, 200)
    after = read_cursor(given["after"], DataPlace, "after") if "after" in given else None
    found = await owners.records.records(
        caller.user,
        _app(request),
        table=given.get("table"),
        after=None if after is None else (after.table, after.record),
        limit=limit,
        spaces=caller.spaces,
    )
    items: list[RecordTold] = []
    for each in found:
        record = None if each.rows is None else written_record(each.rows)
        if record is None:
            items.append(RecordTold(table=each.table, id=each.id, too_large=True))
        elif not record.gone:
            last = max(record.fields.values(), key=lambda field: field.at, default=None)
            author = None
            if last is not None:
                author = AuthorTold(actor=_shown(last.actor), origin=last.origin)
            items.append(
                RecordTold(
                    table=each.table,
                    id=each.id,
                    fields={name: _shown(field.value) for name, field in record.fields.items()},
                    updated_at=record.updated_at,
                    updated_by=author,
                )
            )
    more = cursor(DataPlace(found[-1].table, found[-1].id)) if found else None
    return answer(RecordList(items=items, after=more))


async def get_record(request: Request, caller: Caller, owners: Owners) -> Response:
    """One record: each field with who wrote it and when, and the rows it is made of."""
    query(request, ())
    table, id_ = path_part(request, "table"), path_part(request, "record")
    found = await owners.records.record(caller.user, _app(request), table, id_, caller.spaces)
    if found is not None and found.rows is None:
        return answer(RecordDetail(table=table, id=id_, too_large=True))
    record = None if found is None or found.rows is None else written_record(found.rows)
    if found is None or found.rows is None or record is None or record.gone:
        raise ApiProblem(404, "you have no such record")
    return answer(
        RecordDetail(
            table=table,
            id=id_,
            fields={
                name: FieldTold(
                    value=_shown(field.value),
                    at=field.at,
                    actor=_shown(field.actor),
                    origin=field.origin,
                )
                for name, field in record.fields.items()
            },
            updated_at=record.updated_at,
            rows=[
                RowTold(
                    at=format_instant(clamp(each.change.created_at * NS_PER_US)),
                    op=each.change.op,
                    fields=sorted(each.change.data or ()),
                    client=each.client,
                    actor=_shown(each.actor),
                    origin=each.origin,
                )
                for each in found.rows[-MOST_ROWS_TOLD:]
            ],
        )
    )


async def get_timeline(request: Request, caller: Caller, owners: Owners) -> Response:
    """Rows of the log as deeds of people, agents and parts of the system."""
    filters = ("module", "table", "record", "kind", "principal")
    given = query(request, (*filters, "after", "limit"))
    limit = whole_number("limit", given.get("limit", "50"), 1, 200)
    kind, module = given.get("kind"), given.get("module")
    if kind not in (None, USER, AI, SYSTEM):
        raise BadRequest("kind", f"must be one of {USER}, {AI}, {SYSTEM}")
    after = read_cursor(given["after"], DeedPlace, "after") if "after" in given else None
    wanted = DeedFilter(
        app=None if module is None else INPUT_APPS.get(module, module),
        table=given.get("table"),
        record=given.get("record"),
        kind=kind,
        principal=given.get("principal"),
    )
    before = None if after is None else (after.at, str(after.id))
    page = await owners.records.timeline(
        caller.user, wanted, limit, before=before, spaces=caller.spaces
    )
    more = None if page.last is None else cursor(DeedPlace(page.last[0], UUID(page.last[1])))
    return answer(
        DeedList(
            items=[
                DeedTold(
                    id=each.id,
                    at=format_instant(clamp(instant_of(each.at))),
                    op=each.op,
                    module=each.app,
                    table=each.table,
                    record=each.record,
                    fields=list(each.fields),
                    client=each.client,
                    space_id=each.space,
                    actor=_shown(each.actor),
                    origin=each.origin,
                )
                for each in page.deeds
            ],
            after=more,
        )
    )


def _app(request: Request) -> str:
    """The sync channel of a module; its own name where inputs call it otherwise."""
    module = path_part(request, "module")
    return INPUT_APPS.get(module, module)


def _shown(value: Any) -> Any:
    """A value without ciphertext, which nobody but its owner's client can read."""
    match value:
        case dict():
            return {name: _shown(each) for name, each in cast("JsonObject", value).items()}
        case list():
            return [_shown(each) for each in cast("list[Any]", value)]
        case _:
            return SEALED if is_sealed(value) else value
