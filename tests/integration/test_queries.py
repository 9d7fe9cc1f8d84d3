"""Every statement of the stores is called, prepares, and is allowed for the role that runs it."""

import re
from collections.abc import Mapping
from importlib import resources
from pathlib import Path

import pytest

from state.store.sql import statements_of
from tests.integration.steps import session
from tests.postgres import LOG_OWNER, Database

STORE = Path(str(resources.files("state.store")))
_NAMED = re.compile(r'\b(?:SQL(?:\[|\.given\()|asked\()\s*"([a-z_]+)"')

ROLES = {
    "agent.sql": "mana_agent",
    "gateway.sql": "mana_gateway",
    "issuer.sql": "mana_issuer",
    "janitor.sql": "mana_janitor",
    "keys.sql": "mana_keys",
    "own.sql": "mana_gateway",
    "owner.sql": "mana_gateway",
    "people.sql": "mana_gateway",
    "supervisor.sql": "mana_supervisor",
    "sync_log.sql": LOG_OWNER,
}
"""Which role's connection runs a file's statements."""

CALLED_BY_NAME = {"catalogue.sql", "migrate.sql"}
"""Files whose module asks by a variable, or as several roles; its own tests run them."""


def _called(file: str) -> set[str]:
    """The statements that the module, or the package, named like the file runs."""
    module = STORE / file.removesuffix(".sql")
    sources = [module.with_suffix(".py")] if not module.is_dir() else module.glob("*.py")
    return {name for path in sources for name in _NAMED.findall(path.read_text("utf-8"))}


async def _refused(database: Database, role: str, wanted: Mapping[str, str]) -> dict[str, str]:
    """What Postgres says against each statement: privileges too, which EXPLAIN checks."""
    refused: dict[str, str] = {}
    async with session(database, role) as connection:
        for name, text in wanted.items():
            try:
                prepared = await connection.prepare(text, name=f"q_{name}")
                given = ", ".join(["NULL"] * len(prepared.get_parameters()))
                call = f"({given})" if given else ""
                await connection.execute(f"EXPLAIN EXECUTE q_{name}{call}")
            except Exception as exc:  # noqa: BLE001 - any refusal is the finding
                refused[name] = str(exc)
    return refused


def test_every_file_of_statements_belongs_to_a_role():
    assert {path.name for path in (STORE / "sql").glob("*.sql")} == {*ROLES, *CALLED_BY_NAME}


@pytest.mark.parametrize("file", ROLES)
def test_every_statement_is_called_and_every_call_has_a_statement(file: str):
    assert sorted(statements_of(file)) == sorted(_called(file))


@pytest.mark.parametrize("file", sorted(CALLED_BY_NAME))
def test_every_statement_asked_for_by_a_variable_is_named_in_its_module(file: str):
    source = (STORE / file).parent.joinpath(file.replace(".sql", ".py")).read_text("utf-8")
    assert [name for name in statements_of(file) if f'"{name}"' not in source] == []


@pytest.mark.parametrize("file", ROLES)
async def test_every_statement_is_allowed_for_the_role_that_runs_it(database: Database, file: str):
    assert await _refused(database, ROLES[file], statements_of(file)) == {}


async def test_a_statement_of_another_role_is_refused(database: Database):
    """Proves that the check above would see a missing privilege."""
    wanted = {"take_shard": statements_of("supervisor.sql")["take_shard"]}
    refused = await _refused(database, "mana_agent", wanted)
    assert "permission denied" in refused["take_shard"]
