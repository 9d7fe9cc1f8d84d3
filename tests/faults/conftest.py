"""One node is hurt by all tests of this folder that it survives."""

from collections.abc import Iterator

import pytest

from tests.faults.scene import FAST, Scene, ScriptedProvider
from tests.node import NodeProcess
from tests.postgres import TestServer


@pytest.fixture(scope="package")
def hurt_scene(postgres: TestServer) -> Iterator[Scene]:
    """A node that is hurt again and again, and well again after each test."""
    database = postgres.migrated()
    with ScriptedProvider() as provider, NodeProcess(database, provider.url, **FAST) as node:
        yield Scene(database, provider, node)
    postgres.drop(database)
