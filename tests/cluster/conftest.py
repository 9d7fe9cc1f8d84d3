"""One node serves all tests of this folder that do not end it: a start takes several seconds.

It ends with the folder: an idle node takes a tenth of a processor from whatever runs beside it.
"""

from collections.abc import Iterator

import pytest

from tests.faults import granted
from tests.faults.scene import FAST, Scene, ScriptedProvider
from tests.node import NodeProcess
from tests.postgres import TestServer

AWAKE_MAX = 6


@pytest.fixture(scope="package")
def shared_scene(postgres: TestServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """A node with short leases and keys for grants that lets six agents be awake."""
    database = postgres.migrated()
    keys = granted.key_folder(tmp_path_factory.mktemp("keys"))
    more = {"MANA_AGENTS_AWAKE_MAX": str(AWAKE_MAX), "MANA_KEYS_DIR": str(keys)}
    with (
        ScriptedProvider() as provider,
        NodeProcess(database, provider.url, **FAST, **more) as node,
    ):
        yield Scene(database, provider, node)
    postgres.drop(database)


@pytest.fixture
def scene(shared_scene: Scene) -> Iterator[Scene]:
    """The shared node, with no crash point armed."""
    shared_scene.node.disarm()
    yield shared_scene
    shared_scene.node.disarm()
