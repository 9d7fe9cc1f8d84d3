"""Integration tests use real Postgres servers; tests/conftest.py says which."""

from collections.abc import AsyncGenerator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from state.store.connect import Database as Connections
from state.store.gateway.proposals import ProposalStore
from supervisor.gateway.people.inbox.shelf import CatalogueShelf
from tests.devices import Home
from tests.fake_provider import FakeProvider
from tests.integration.support import World, open_world
from tests.owners import House, open_house
from tests.postgres import Database
from tests.router_parts import RunningRouter, alias_file


@pytest.fixture
async def world(database: Database) -> AsyncGenerator[World]:
    """A log, its store, and a supervision that the test drives; its model has no script."""
    async with open_world(database) as opened:
        yield opened


@pytest.fixture
async def store(world: World) -> AsyncGenerator[ProposalStore]:
    """The proposals of that world, as the gateway reads and writes them."""
    connections = Connections(world.access("mana_gateway"), max_connections=4)
    made = ProposalStore(connections, CatalogueShelf())
    yield made
    await made.close()


@pytest.fixture
async def house(database: Database, tmp_path: Path) -> AsyncGenerator[House]:
    """A gateway as people reach it, on the test's own database."""
    async with open_house(database, tmp_path) as opened:
        yield opened


@pytest.fixture
async def home(database: Database, tmp_path: Path) -> AsyncGenerator[Home]:
    """A person with a vault, their devices, a gateway, and a runtime behind it."""
    async with AsyncExitStack() as stack:
        world = await stack.enter_async_context(open_world(database))
        house = await stack.enter_async_context(open_house(database, tmp_path))
        yield Home(world, house, tmp_path, await house.desk().key())


@pytest.fixture
def near() -> Iterator[FakeProvider]:
    """The first service of the chains of `router`."""
    with FakeProvider() as server:
        yield server


@pytest.fixture
def far() -> Iterator[FakeProvider]:
    """The one that is asked when the first does not serve."""
    with FakeProvider() as server:
        yield server


@pytest.fixture
def router(tmp_path: Path, near: FakeProvider, far: FakeProvider) -> Iterator[RunningRouter]:
    """A router with the alias file of tests/router_parts.py."""
    with RunningRouter(tmp_path, alias_file(tmp_path, near.url, far.url)) as running:
        yield running
