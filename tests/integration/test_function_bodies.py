"""What Postgres finds in our functions without running them.

`plpgsql_check` is an extension that Debian has for its Postgres (postgresql-15-plpgsql-check).
"""

import asyncpg
import pytest

from state.store.sql import function_texts
from tests.integration.steps import session
from tests.postgres import SUPERUSER, Database

IS_THERE = "SELECT EXISTS (SELECT FROM pg_available_extensions WHERE name = 'plpgsql_check')"
FINDINGS = """
SELECT p.proname, f.lineno, f.level, f.message, f.detail
  FROM pg_proc AS p JOIN pg_language AS l ON l.oid = p.prolang AND l.lanname = 'plpgsql'
  LEFT JOIN pg_trigger AS t ON t.tgfoid = p.oid
 CROSS JOIN LATERAL public.plpgsql_check_function_tb(
       p.oid, coalesce(t.tgrelid, 0), newtable => t.tgnewtable, other_warnings => true,
       performance_warnings => true, extra_warnings => true, security_warnings => true,
       compatibility_warnings => true) AS f
 WHERE p.pronamespace = 'mana_ai'::regnamespace
"""
FAULTY = {
    "column": "PERFORM nothing FROM mana_ai.runs;",
    "cast": "n := (SELECT count(*) FROM mana_ai.runs);",
    "unused": "",
}
FAULT = """
CREATE FUNCTION mana_ai.faulty() RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  n int;
BEGIN
  {}
END $$
"""


async def _findings(admin: asyncpg.Connection) -> list[tuple[str, ...]]:
    if not await admin.fetchval(IS_THERE):
        pytest.skip("no plpgsql_check in this Postgres (Debian: postgresql-15-plpgsql-check)")
    await admin.execute("CREATE EXTENSION plpgsql_check SCHEMA public")
    return [tuple(row) for row in await admin.fetch(FINDINGS)]


async def test_no_function_has_a_fault_that_plpgsql_check_sees(database: Database):
    async with session(database, SUPERUSER) as admin:
        assert await _findings(admin) == []


@pytest.mark.parametrize("fault", FAULTY)
async def test_a_fault_is_seen(database: Database, fault: str):
    async with session(database, SUPERUSER) as admin:
        await admin.execute(FAULT.format(FAULTY[fault]))
        assert {row[0] for row in await _findings(admin)} == {"faulty"}


async def test_every_function_compiles_with_every_extra_check_of_the_server(database: Database):
    """Shadowed variables, too many rows, another number of columns: errors where it can tell."""
    async with session(database, SUPERUSER) as admin:
        await admin.execute("SET plpgsql.extra_errors = 'all'; SET check_function_bodies = on")
        for text in function_texts().values():
            await admin.execute(text)
