"""What a run costs the database, counted from its own log: it fails when a run asks for more.

Each statement of an agent's login counts, and each transaction: a statement outside of one is its
own. Rounds are counted in a process that ran before, on a connection that is open already.
"""

import re
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable
from pathlib import Path

import msgspec
import pytest

from tests.fake_provider import Entry
from tests.integration.key_scene import key_scene, minted
from tests.integration.support import DONE, World, open_world, until
from tests.integration.test_granted_runs import prepared
from tests.postgres import SUPERUSER, Database

TASKS: Entry = {"calls": [{"name": "list_tasks", "args": {}}], "usage": [40, 10]}
NOTES: Entry = {"calls": [{"name": "list_notes", "args": {}}], "usage": [40, 10]}
STATEMENT = re.compile(r"mana_agent@(\w+) LOG:  (?:statement|execute [^:]+): (.*)")
LOG_FILE = "SELECT pg_current_logfile()"
LOGGED = "ALTER ROLE mana_agent IN DATABASE {} SET log_statement = 'all'"


class Cost(msgspec.Struct, frozen=True):
    """Transactions and statements of one run."""

    transactions: int
    statements: int

    def within(self, transactions: int, statements: int) -> bool:
        """Whether it is no more than this."""
        return self.transactions <= transactions and self.statements <= statements


def cost_of(statements: list[str]) -> Cost:
    """What these statements of one connection after the other came to."""
    transactions, is_open = 0, False
    for statement in statements:
        begins = statement.startswith("BEGIN")
        transactions += begins or not is_open
        is_open = begins or (is_open and not statement.startswith(("COMMIT", "ROLLBACK")))
    return Cost(transactions, len(statements))


async def logged(world: World, work: Callable[[], Awaitable[None]]) -> list[str]:
    """The statements of agents during `work`, from the server's log."""
    admin = await world.connect(SUPERUSER)
    begins, ends = (f"{what} {uuid.uuid4()}" for what in ("begins", "ends"))
    file = world.database.server.data_dir / await admin.fetchval(LOG_FILE)
    await admin.execute(f"DO $$ BEGIN RAISE LOG '{begins}'; END $$")
    await work()
    await admin.execute(f"DO $$ BEGIN RAISE LOG '{ends}'; END $$")

    async def is_written() -> bool:
        return ends in file.read_text("utf-8", "replace")

    await until(is_written)  # by the server's collector, in its own time
    _, _, whole = file.read_text("utf-8", "replace").partition(begins)
    found = STATEMENT.findall(whole.partition(ends)[0])
    return [statement for database, statement in found if database == world.database.name]


async def run_what_is_due(world: World) -> None:
    """One run by the agent's process."""
    _, (report,) = await world.driver.tick()
    assert report.outcome == "ran", report


async def cost_when_warm(world: World, *script: Entry) -> tuple[Cost, list[str]]:
    """What a run costs in a process that had one before."""
    client, statements = await world.client(), list[str]()
    await client.agent()
    world.provider.script = [*script, *script]
    for mission in ("m0", "m1"):
        await client.mission(mission)
        await world.driver.settled()  # a run that is ordered before asks for what it lacks
        statements = await logged(world, lambda: run_what_is_due(world))
    assert len(world.provider.requests) == 2 * len(script)
    return cost_of(statements), [statement[:60] for statement in statements]


@pytest.fixture
async def world(database: Database) -> AsyncGenerator[World]:
    async with open_world(database) as opened:
        await opened.sql(LOGGED.format(database.name))
        yield opened


async def test_a_run_of_one_round(world: World):
    """Claim, hold, and settle with the commit."""
    cost, statements = await cost_when_warm(world, DONE)
    assert cost.within(3, 3), "\n".join(statements)


async def test_a_run_of_three_rounds(world: World):
    """Two more for each further round, and what the tools read."""
    cost, statements = await cost_when_warm(world, TASKS, NOTES, DONE)
    assert cost.within(9, 15), "\n".join(statements)


@pytest.mark.one_postgres
async def test_a_granted_run(database: Database, tmp_path: Path):
    """In a process of its own, as each is that held a key: its memory and connection are new."""
    async with open_world(database) as world, key_scene(world, tmp_path) as scene:
        world.driver = world.new_driver(key_socket=str(scene.socket_path))
        await world.driver.start()
        await world.sql(LOGGED.format(database.name))
        world.provider.script = [DONE]
        await prepared(scene, minted())
        statements = await logged(world, lambda: run_what_is_due(world))
        assert cost_of(statements).within(9, 15), "\n".join(one[:60] for one in statements)


def test_a_statement_outside_a_transaction_is_its_own():
    counted = ["SELECT 1", "BEGIN;", "SELECT 1", "SELECT 2", "COMMIT;", "SELECT 3"]
    assert cost_of(counted) == Cost(3, 6)
