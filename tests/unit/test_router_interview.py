"""What services say of their models, as they say it, and what counts of it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mana_actors.json_values import JsonObject
from mana_actors.llm.router.aliases.registry import ModelEntry
from mana_actors.llm.router.entries.abilities import NOTHING, Abilities
from mana_actors.llm.router.entries.interview import Listing, interviewed
from tests.unit.test_router_routing import LOCAL, World, registry_of, until

Answers = dict[str, JsonObject | None]


async def told(answers: Answers, *wanted: str) -> Listing:
    async def ask(
        path: str, body: JsonObject | None = None, *, at_root: bool = False
    ) -> JsonObject | None:
        return answers.get(f"~{path}" if at_root else path)

    return await interviewed(ask, wanted)


def listed(**entry: Any) -> Answers:
    return {"/models": {"object": "list", "data": [{"id": "m", **entry}]}}


@pytest.mark.parametrize(
    ("entry", "abilities"),
    [
        ({}, NOTHING),
        ({"owned_by": "vllm", "max_model_len": 8192}, Abilities(context_tokens=8192)),
        (
            {"context_window": 131_072, "max_completion_tokens": 32_768},
            Abilities(context_tokens=131_072, max_output_tokens=32_768),
        ),
        (
            {
                "context_length": 200_000,
                "top_provider": {"context_length": 100_000, "max_completion_tokens": 4096},
                "supported_parameters": ["max_tokens", "tools"],
                "architecture": {"input_modalities": ["text"]},
            },
            Abilities(context_tokens=100_000, max_output_tokens=4096, tools=True, vision=False),
        ),
        (
            {"supported_parameters": ["temperature"], "architecture": None},
            Abilities(tools=False),
        ),
        (
            {
                "max_context_length": 32_768,
                "capabilities": {"function_calling": True, "vision": False},
            },
            Abilities(context_tokens=32_768, tools=True, vision=False),
        ),
        ({"owned_by": "llamacpp", "meta": {"n_ctx_train": 4096}}, Abilities(context_tokens=4096)),
        ({"max_model_len": "8192", "context_length": -1, "context_window": True}, NOTHING),
        ({"capabilities": ["completion"], "supported_parameters": None}, NOTHING),
    ],
)
async def test_each_dialect_is_understood(entry: JsonObject, abilities: Abilities):
    found = await told(listed(**entry), "m")
    assert found.of("m") == abilities


async def test_what_llama_cpp_was_started_with_counts_more_than_its_model():
    answers = listed(owned_by="llamacpp", meta={"n_ctx_train": 131_072})
    answers["~/props"] = {"default_generation_settings": {"n_ctx": 8192}}
    assert (await told(answers)).of("m") == Abilities(context_tokens=8192)


SHOWN: JsonObject = {
    "model_info": {"qwen2.context_length": 32_768},
    "capabilities": ["completion", "tools"],
}


@pytest.mark.parametrize(
    ("shown", "running", "context"),
    [
        (SHOWN, None, 32_768),
        (SHOWN | {"parameters": "stop  x\nnum_ctx   16384"}, None, 16_384),
        (SHOWN, {"models": [{"name": "m", "context_length": 4096}]}, 4096),
        (SHOWN, {"models": [{"name": "other", "context_length": 4096}]}, 32_768),
    ],
)
async def test_of_an_ollama_model_what_is_loaded_counts_then_what_is_set(
    shown: JsonObject, running: JsonObject | None, context: int
):
    answers = listed(owned_by="library")
    answers |= {"~/api/show": shown, "~/api/ps": running}
    expected = Abilities(context_tokens=context, tools=True, vision=False)
    assert (await told(answers, "m")).of("m") == expected


async def test_who_has_no_list_has_said_nothing():
    silences: list[Answers] = [{}, {"/models": {"choices": []}}, {"/models": {"data": "x"}}]
    for answers in silences:
        assert (await told(answers)).models is None


json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=10,
)


@given(
    st.dictionaries(
        st.sampled_from(
            ["id", "owned_by", "meta", "context_length", "capabilities", "top_provider"]
        ),
        json | st.just("library") | st.just("llamacpp"),
    ),
    json,
)
def test_no_answer_at_all_breaks_it(entry: JsonObject, other: Any):
    answers: Answers = {"/models": {"data": [entry, other]}, "~/api/show": {"model_info": other}}
    asyncio.run(told(answers, "m"))


@pytest.mark.parametrize(
    ("names", "wanted", "model", "words"),
    [
        (["m"], "", "m", ""),
        (["m", "nomic-embed-text"], "", "m", ""),
        (["a", "b"], "", "", "it has 2 models (a, b); name one: MANA_LLM_MODEL=a"),
        ([], "", "", "it has no model; load one there first"),
        (["a", "b"], "b", "b", ""),
        (["gemma3:latest", "b"], "gemma3", "gemma3:latest", ""),
        (["a"], "hidden", "hidden", ""),
    ],
)
def test_the_only_model_is_taken_or_the_one_that_is_named(
    names: list[str], wanted: str, model: str, words: str
):
    assert Listing(dict.fromkeys(names, NOTHING)).choice(wanted) == (model, words)


def test_a_long_list_is_not_shown_whole():
    words = Listing(dict.fromkeys((f"m{n:03}" for n in range(300)), NOTHING)).choice()[1]
    assert "it has 300 models (m000, " in words
    assert "m100" not in words


async def test_the_file_comes_before_what_a_service_says_and_that_before_guesses():
    world = World(registry_of(home=ModelEntry(context_tokens=4096)))
    said = Abilities(context_tokens=8192, tools=False)
    world.upstreams["home"].listing = Listing({"a": said})
    await world.router.ask_services()
    profile = world.router.profile(LOCAL)
    assert profile.abilities == Abilities(context_tokens=4096, tools=False)
    assert profile.told_by == {"context_tokens": "file", "tools": "asked"}


async def test_who_wants_no_questions_is_asked_none():
    world = World()
    entries = {
        name: type(entry)(name, entry.url, entry.exposure, probe_path=None)
        for name, entry in world.registry.providers.items()
    }
    quiet = World(registry_of(entries=entries))
    quiet.upstreams["home"].listing = Listing({"a": Abilities(tools=False)})
    await quiet.router.ask_services()
    assert quiet.router.profile(LOCAL).told_by == {}


async def test_a_new_file_is_asked_about_anew():
    world = World()
    asking = asyncio.create_task(world.router.ask_loop())
    try:
        world.upstreams["home"].listing = Listing({"a": Abilities(tools=False)})
        world.router.replace(world.registry, world.upstreams)
        await until(lambda: world.router.profile(LOCAL).told_by == {"tools": "asked"})
    finally:
        asking.cancel()
