"""What a real server says, and what we make of it."""

from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from state.errors import StateError
from state.store.connect import Access
from state.store.connect import Database as Connections
from state.troubles import DatabaseTrouble, trouble_of
from tests.postgres import SUPERUSER, Database

pytestmark = pytest.mark.one_postgres

ROLE = "mana_gateway"


@pytest.fixture
async def admin(database: Database) -> AsyncGenerator[None]:
    yield
    connection = await database.connect(SUPERUSER)
    await connection.execute(f"ALTER ROLE {ROLE} LOGIN CONNECTION LIMIT -1")
    await connection.close()


async def trouble_with(
    database: Database,
    statement: str = "SELECT 1",
    *,
    dsn: str | None = None,
    password_file: Path | None = None,
    timeout_ms: int = 5000,
) -> DatabaseTrouble:
    """What becomes of a statement of the gateway's that cannot succeed."""
    file = str(password_file or database.password_file(ROLE))
    access = Access(dsn or database.dsn(ROLE, tcp=True), ROLE, file, "test", timeout_ms)
    connections = Connections(access, max_connections=1)
    try:
        async with connections.connection() as connection:
            await connection.execute(statement)
    except StateError as exc:
        return trouble_of(exc)
    finally:
        await connections.close()
    raise AssertionError(statement)


async def as_admin(database: Database, statement: str) -> None:
    connection = await database.connect(SUPERUSER)
    await connection.execute(statement)
    await connection.close()


async def test_a_cancelled_statement_is_no_absent_database(database: Database):
    found = await trouble_with(database, "SELECT pg_sleep(60)", timeout_ms=50)
    assert "cancelled" in found.what


async def test_a_wrong_password_is_said_so(database: Database, tmp_path: Path):
    wrong = tmp_path / "password"
    wrong.write_text("wrong")
    assert "password is wrong" in (await trouble_with(database, password_file=wrong)).what


async def test_a_missing_password_file_is_not_a_missing_server(database: Database, tmp_path: Path):
    found = await trouble_with(database, password_file=tmp_path / "nothing")
    assert "password file" in found.what


async def test_a_role_without_a_connection_left_is_said_so(database: Database, admin: None):
    await as_admin(database, f"ALTER ROLE {ROLE} CONNECTION LIMIT 0")
    assert "no connection left" in (await trouble_with(database)).what


async def test_a_role_that_may_not_log_in_is_said_so(database: Database, admin: None):
    await as_admin(database, f"ALTER ROLE {ROLE} NOLOGIN")
    assert "lets this login" in (await trouble_with(database)).what


async def test_a_read_only_server_is_said_so(database: Database):
    found = await trouble_with(
        database,
        "BEGIN READ ONLY; UPDATE mana_ai.user_settings SET time_zone = null; COMMIT",
    )
    assert "read-only" in found.what


@pytest.mark.parametrize(
    ("dsn", "word"),
    [
        ("postgresql://127.0.0.1:1/mana?sslmode=disable", "nothing listens"),
        ("postgresql://no-such-host.invalid/mana", "host name is unknown"),
        ("postgresql:///mana?host=/nowhere&port=5432", "nothing listens"),
    ],
)
async def test_an_address_where_nobody_is_is_said_so(database: Database, dsn: str, word: str):
    assert word in (await trouble_with(database, dsn=dsn)).what


async def test_a_database_that_is_not_there_and_a_server_without_tls_are_told_apart(
    database: Database,
):
    place = f"postgresql://127.0.0.1:{database.server.port}"
    assert "no such database" in (await trouble_with(database, dsn=f"{place}/nothing")).what
    found = await trouble_with(database, dsn=f"{place}/{database.name}?sslmode=require")
    assert "TLS" in found.what


async def test_a_schema_that_is_not_there_is_said_so(database: Database):
    assert "schema" in (await trouble_with(database, "SELECT FROM mana_ai.nothing")).what
