"""The search of the database finds what is planted, in whatever table and type it lies."""

import pytest

from tests import canary
from tests.canary import Hit
from tests.postgres import SUPERUSER, Database

pytestmark = pytest.mark.one_postgres

WORD = "mehlabcdefghijklmnop"
NEEDLES = [canary.text_needle("text", WORD)]
PLANTS = {
    "a.as_text": f"CREATE TABLE a.as_text AS SELECT '{WORD}' AS t",
    "a.as_json": f'CREATE TABLE a.as_json AS SELECT \'{{"k": ["„{WORD}“"]}}\'::jsonb AS t',
    "a.as_bytes": f"CREATE TABLE a.as_bytes AS SELECT convert_to('x{WORD}', 'UTF8') AS t",
    "a.as_base64": f"CREATE TABLE a.as_base64 AS SELECT encode('xy{WORD}', 'base64') AS t",
    "a.A b": f"CREATE TABLE a.\"A b\" AS SELECT ARRAY['{WORD}'] AS t",
    "a.seen": f"CREATE MATERIALIZED VIEW a.seen AS SELECT '{WORD}' AS t",
    "pg_catalog.pg_description": f"COMMENT ON SCHEMA a IS '{WORD}'",
}


async def test_rows_are_found_by_the_names_of_their_tables(database: Database) -> None:
    admin = await database.connect(SUPERUSER)
    try:
        await admin.execute("CREATE SCHEMA a")
        assert await canary.in_tables(NEEDLES, admin) == set()
        for plant in PLANTS.values():
            await admin.execute(plant)
        places = {hit.place for hit in await canary.in_tables(NEEDLES, admin)}
    finally:
        await admin.close()
    assert places == set(PLANTS)


async def test_a_statement_on_show_is_found(database: Database) -> None:
    admin, other = await database.connect(SUPERUSER), await database.connect(SUPERUSER)
    try:
        await other.execute(f"SELECT '{WORD}'")
        assert await canary.in_tables(NEEDLES, admin) == {Hit("text", "activity")}
    finally:
        await other.close()
        await admin.close()
