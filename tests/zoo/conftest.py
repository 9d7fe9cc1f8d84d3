"""What tests of the zoo share."""

from collections.abc import AsyncGenerator

import pytest

from mana_actors.llm.client import HttpProvider
from tests.router_parts import RunningRouter


@pytest.fixture
async def provider(router: RunningRouter) -> AsyncGenerator[HttpProvider]:
    """An agent's client of the module's router."""
    client = HttpProvider(router.url, key_file=router.token_file)
    yield client
    await client.aclose()
