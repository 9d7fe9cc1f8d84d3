"""Every statement of the stores prepares, and is allowed, for the role that runs it."""

import re
from importlib import resources
from pathlib import Path

import pytest

from state.store.queries import statements, statements_of
from tests.integration.steps import session
from tests.postgres import Database

STORE = Path(str(resources.files("state.store")))
_NAMED = re.compile(r'sql\(\s*"([a-z_]+)"|"((?:load|save|drop)_(?:missions|agents))"')
_HEADING = re.compile(r"^-- ([a-z_]+) --$", re.MULTILINE)

ROLES = {
    "agents.py": "mana_agent",
    "snapshots.py": "mana_supervisor",
    "schedule.py": "mana_supervisor",
    "janitor.py": "mana_janitor",
    "keys.py": "mana_keys",
    "audit.py": "mana_agent",
    "copies.py": "mana_agent",
}
"""Which role's connection a module gets."""


def _users() -> dict[str, set[str]]:
    """For each statement of queries.sql, the roles that run it."""
    users: dict[str, set[str]] = {name: set() for name in statements()}
    for module, role in ROLES.items():
        path = STORE / module
        text = path.read_text("utf-8") if path.exists() else ""
        for found in _NAMED.finditer(text):
            users[found[1] or found[2]].add(role)
    return users


def _fleet() -> dict[str, str]:
    _, *parts = _HEADING.split((STORE / "fleet.sql").read_text("utf-8"))
    return {name: body.strip() for name, body in zip(parts[::2], parts[1::2], strict=True)}


async def _refused(database: Database, role: str, wanted: dict[str, str]) -> dict[str, str]:
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


def test_every_statement_has_a_user():
    assert [name for name, roles in _users().items() if not roles] == []


@pytest.mark.parametrize("role", sorted(set(ROLES.values())))
async def test_every_statement_is_allowed_for_the_role_that_runs_it(database: Database, role: str):
    users = _users()
    wanted = {name: text for name, text in statements().items() if role in users[name]}
    assert await _refused(database, role, wanted) == {}


async def test_every_statement_of_the_fleet_is_allowed_for_the_gateway(database: Database):
    assert await _refused(database, "mana_gateway", _fleet()) == {}


@pytest.mark.parametrize(
    ("file", "role"),
    [("vault.sql", "mana_issuer"), ("owner.sql", "mana_gateway"), ("copier.sql", "mana_gateway")],
)
async def test_every_statement_of_a_persons_own_is_allowed_for_its_role(
    database: Database, file: str, role: str
):
    assert await _refused(database, role, statements_of(file)) == {}


async def test_a_statement_of_another_role_is_refused(database: Database):
    """Proves that the check above would see a missing privilege."""
    wanted = {"take_shard": statements()["take_shard"]}
    refused = await _refused(database, "mana_agent", wanted)
    assert "permission denied" in refused["take_shard"]
