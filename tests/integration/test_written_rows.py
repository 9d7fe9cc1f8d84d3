"""A mission's row as the database writes it is the row that clients of the original expect."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from state.log.iterations import Author, append_iteration, row_actor
from state.log.principals import SYSTEM_MISSION_RUNNER, normalize_actor, system_actor
from state.store.connect import ACT_AS
from tests.postgres import Database
from tests.vectors.__main__ import load
from tests.vectors.actors import is_from_mission_runner, origin_from_actor
from tests.vectors.overrides import OVERRIDES
from tests.vectors.suites import ROW

CASES = load(Path(__file__).parents[1] / "vectors" / "iteration.json")
APPENDED = [c for c in CASES if c["input"]["fn"] == "append" and c["input"]["userId"]]
WRITE = "SELECT mana_ai.write_mission($1, $2, $3::jsonb, $4, $5::jsonb, $6)"
WRITTEN = """
SELECT app_id, table_name, record_id, user_id, op, data, field_meta, client_id, schema_version,
       actor, origin
  FROM sync_changes
"""

Row = dict[str, Any]


async def written(
    database: Database, user: str, mission: str, data: Any, stamp: str, actor: Row, origin: str
) -> Row:
    connection = await database.connect("postgres")
    try:
        texts = json.dumps(data), stamp, json.dumps(actor), origin
        async with connection.transaction():
            await connection.execute(ACT_AS, user)
            await connection.execute(WRITE, user, mission, *texts)
        (row,) = await connection.fetch(WRITTEN)
    finally:
        await connection.close()
    as_json = ("data", "field_meta", "actor")
    return {k: msgspec.json.decode(v) if k in as_json else v for k, v in dict(row).items()}


@pytest.mark.parametrize("case", APPENDED, ids=lambda case: case["name"])
async def test_an_iteration_is_written_as_the_golden_cases_have_it(case: Any, database: Database):
    given = case["input"]
    agent = given["agent"]
    author = Author(agent["id"], agent["name"]) if agent else None
    actor = row_actor(given["missionId"], given["iterationId"], author, given["rationale"])
    data = {"iterations": append_iteration(given["existing"], given["newIteration"])}
    row = await written(
        database, given["userId"], given["missionId"], data, given["now"], actor, "agent"
    )
    matching = [each for each in OVERRIDES["iteration"] if each.applies(given)]
    expected = matching[0].value(given) if matching else case["expected"]
    assert row == expected["row"]
    assert {column: row[column] for column in ROW} == ROW
    assert normalize_actor(row["actor"]) is row["actor"], "clients need not mend our actors"


async def test_a_row_of_ours_names_its_origin_as_clients_do(database: Database):
    runner = system_actor(SYSTEM_MISSION_RUNNER)
    stamp = "2026-04-15T10:00:00.000Z"
    row = await written(database, "u1", "m1", {"nextRunAt": None}, stamp, runner, "system")
    assert is_from_mission_runner(row["actor"])
    assert origin_from_actor(row["actor"]) == row["origin"]
    assert row["field_meta"] == {"nextRunAt": stamp}, "plain text: object stamps break a pull"
