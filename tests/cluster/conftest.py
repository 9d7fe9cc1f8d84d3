"""One node serves all tests of this folder that do not end it: a start takes several seconds."""

from collections.abc import Iterator

import pytest

from tests.faults.scene import FAST, Scene, ScriptedProvider
from tests.node import NodeProcess
from tests.postgres import TestServer

AWAKE_MAX = 6


@pytest.fixture(scope="session")
def shared_scene(postgres: TestServer) -> Iterator[Scene]:
    """A node with short leases that lets six agents be awake."""
    database = postgres.migrated()
    with (
        ScriptedProvider() as provider,
        NodeProcess(database, provider.url, **FAST, MANA_AGENTS_AWAKE_MAX=str(AWAKE_MAX)) as node,
    ):
        yield Scene(database, provider, node)
    postgres.drop(database)


@pytest.fixture
def scene(shared_scene: Scene) -> Iterator[Scene]:
    """The shared node, with no crash point armed."""
    shared_scene.node.disarm()
    yield shared_scene
    shared_scene.node.disarm()
