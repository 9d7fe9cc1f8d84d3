"""Typed records are what clients and our handlers really write, field by field."""

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from mana_actors.client.records import ALL
from mana_actors.client.table_names import APPS, TypedTableName, table_named
from state.proposals.effects import Scene, TablePlace
from state.proposals.tool_handlers import CALENDARS, DRINKS, HANDLERS, TASKS
from state.sealing.copies import SEALED_FIELDS
from tests.integration.test_tool_handlers import BEFORE, PARAMS
from tests.record_shapes import GOAL, SHAPES, Shape

BY_TABLE = {(one.name.app, one.name.table): one for one in ALL}
SCENE: dict[TablePlace, list[dict[str, Any]]] = {
    TablePlace(app, table): [dict(record)] for (app, table), record in BEFORE.items()
}


def declared(table: TypedTableName[Any]) -> set[str]:
    return {field.encode_name for field in msgspec.structs.fields(table.shape)}


@pytest.mark.parametrize("shape", [*SHAPES, GOAL], ids=lambda shape: shape.id)
def test_a_record_as_clients_write_it_is_typed_whole_and_back(shape: Shape):
    table = BY_TABLE[shape.app, shape.table]
    assert set(shape.record) <= declared(table)
    record = msgspec.convert(shape.record, table.shape)
    assert msgspec.to_builtins(record) == shape.record


@pytest.mark.parametrize("tool", HANDLERS)
def test_what_a_handler_writes_is_declared(tool: str):
    found = {**SCENE, CALENDARS: SCENE[CALENDARS], DRINKS: SCENE[DRINKS], TASKS: SCENE[TASKS]}
    for place, rows in found.items():
        if tool == "resume_goal" and place.table == "companionGoals":
            rows[0]["status"] = "paused"
        if place.table == "lasts":
            rows[0]["status"] = "confirmed" if tool == "reclaim_last" else "suspected"
        if tool == "pause_goal" and place.table == "companionGoals":
            rows[0]["status"] = "active"
    scene = Scene("p", PARAMS[tool][0], found, datetime(2026, 11, 28, tzinfo=UTC), UTC)
    for effect in HANDLERS[tool].effects(scene):
        table = BY_TABLE[effect.place.app, effect.place.table]
        assert set(effect.fields) <= declared(table), tool
        msgspec.convert({**effect.fields, "id": effect.id}, table.shape)


def test_every_field_that_clients_encrypt_may_be_a_sealed_text():
    for table in ALL:
        sealed = dict.fromkeys(SEALED_FIELDS.get(table.name.table, ()), "enc:1:a.b")
        assert set(sealed) <= declared(table)
        msgspec.convert({**sealed, "id": "x"}, table.shape)


def test_a_table_known_by_its_name_is_the_same_here():
    known = [table.name for table in ALL if table.name.table in APPS]
    assert len(known) > 10
    assert [table_named(one.table) for one in known] == known
