"""A prompt that no model has room for is known before anything is held, sent or paid."""

from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from mana_actors.agent.model.calls import require_context
from mana_actors.agent.planner.exchange import ChatMessage, ModelRequest
from mana_actors.errors import ProviderRefused
from mana_actors.llm.client import HttpProvider
from mana_actors.llm.provider import LEAST_OUTPUT, AliasFacts
from tests.fake_provider import FakeProvider
from tests.router_parts import RunningRouter, alias_file

pytestmark = pytest.mark.one_postgres


@pytest.fixture
async def facts(tmp_path: Path) -> AsyncGenerator[AliasFacts]:
    """What a router tells of a chain of 8000 and 200000 tokens, of which only the first may."""
    with (
        FakeProvider() as near,
        RunningRouter(tmp_path, alias_file(tmp_path, near.url, near.url)) as router,
    ):
        provider = HttpProvider(router.url, key_file=router.token_file)
        try:
            yield await provider.facts("mana/fast-text", "local")
        finally:
            await provider.aclose()


def request_of(size: int) -> ModelRequest:
    empty = ModelRequest("mana/fast-text", (ChatMessage("user", ""),))
    text = "x" * (size - len(empty.raw))
    return ModelRequest("mana/fast-text", (ChatMessage("user", text),))


async def test_what_fits_beside_the_least_answer_is_asked_and_a_byte_more_is_not(facts: AliasFacts):
    most = (8000 - LEAST_OUTPUT) * 2
    assert (facts.longest_prompt_bytes, facts.largest_context_tokens) == (most, 8000)
    require_context(request_of(most), facts)
    with pytest.raises(ProviderRefused) as caught:
        require_context(request_of(most + 1), facts)
    lack = caught.value.lack
    assert lack is not None
    assert (lack.kind, lack.limit, lack.asked) == ("context", 8000, 8001)
    assert (caught.value.cause, caught.value.may_have_spent) == ("too_long", False)


def test_where_nobody_tells_a_context_nothing_is_refused():
    require_context(request_of(10_000_000), AliasFacts())
