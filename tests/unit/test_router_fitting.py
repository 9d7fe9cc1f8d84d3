"""What a request becomes for an entry that takes less than others; nothing else changes."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mana_actors.agent.planner.exchange import (
    ChatMessage,
    ModelRequest,
    ToolCall,
)
from mana_actors.json_values import JsonObject
from mana_actors.llm.router.aliases.needs import LEAST_OUTPUT, needs_of
from mana_actors.llm.router.entries.abilities import Abilities, profile_of
from mana_actors.llm.router.entries.fitting import fitted, shorter_schema
from mana_actors.llm.router.entries.services import assumed

CALL = ToolCall("call_1", "create_task", {"title": "Brot"})
ROUND_2: JsonObject = msgspec.json.decode(
    ModelRequest(
        "mana/reasoning",
        (
            ChatMessage("system", "Du planst."),
            ChatMessage("user", "Plane."),
            ChatMessage("assistant", tool_calls=(CALL,)),
            ChatMessage("tool", '{"success":true,"message":"ok"}', tool_call_id="call_1"),
            ChatMessage("system", "Sparsam sein."),
        ),
        ({"type": "function", "function": {"name": "create_task", "parameters": {}}},),
    ).raw
)


def test_a_request_of_ours_stays_itself_where_an_entry_says_nothing():
    assert fitted(ROUND_2, Abilities()) is ROUND_2
    assert fitted(ROUND_2, Abilities(tools=True, context_tokens=8192), 100_000) is ROUND_2
    assert fitted(ROUND_2, Abilities(limit_name="max_tokens", system="anywhere")) is ROUND_2


@pytest.mark.parametrize("name", ["max_completion_tokens", "max_output_tokens"])
def test_the_limit_of_the_answer_has_the_entrys_name_in_its_old_place(name: Any):
    sent = fitted(ROUND_2, Abilities(limit_name=name))
    assert [key.replace(name, "max_tokens") for key in sent] == list(ROUND_2)
    assert sent[name] == ROUND_2["max_tokens"] == 4096
    back = fitted(sent, Abilities(limit_name="max_tokens"))
    assert back == ROUND_2


@pytest.mark.parametrize(
    ("abilities", "room", "most"),
    [
        (Abilities(max_output_tokens=1000), None, 1000),
        (Abilities(max_output_tokens=9000), None, 4096),
        (Abilities(), 2000, 2000),
        (Abilities(max_output_tokens=1500), 2000, 1500),
    ],
)
def test_an_answer_is_never_asked_to_be_longer_than_the_entry_can(
    abilities: Abilities, room: int | None, most: int
):
    assert fitted(ROUND_2, abilities, room)["max_tokens"] == most


def test_a_caller_who_names_no_limit_gets_none():
    body: JsonObject = {"model": "m", "messages": [], "max_tokens": None}
    assert fitted(body, Abilities(limit_name="max_completion_tokens"), 5) is body


def test_what_an_entry_refuses_is_left_out():
    sent = fitted(ROUND_2, Abilities(unsupported=("temperature", "tool_choice", "seed")))
    assert sent.keys() == ROUND_2.keys() - {"temperature", "tool_choice"}
    assert fitted(ROUND_2, Abilities(unsupported=("seed",))) is ROUND_2


def test_an_effort_is_asked_for_where_the_caller_asks_for_none():
    assert fitted(ROUND_2, Abilities(reasoning_effort="low"))["reasoning_effort"] == "low"
    own = ROUND_2 | {"reasoning_effort": "high"}
    assert fitted(own, Abilities(reasoning_effort="low")) is own
    both = Abilities(reasoning_effort="low", unsupported=("reasoning_effort",))
    assert "reasoning_effort" not in fitted(own, both)


def test_reminders_go_to_the_front_where_system_messages_may_only_be_first():
    sent = fitted(ROUND_2, Abilities(system="first"))["messages"]
    assert [each["role"] for each in sent] == ["system", "user", "assistant", "tool"]
    assert sent[0]["content"] == "Du planst.\n\nSparsam sein."
    assert sent[1:] == ROUND_2["messages"][1:4]
    first_round = ROUND_2 | {"messages": ROUND_2["messages"][:4]}
    assert fitted(first_round, Abilities(system="first")) is first_round


def test_two_system_messages_at_the_front_are_one_as_well():
    body: JsonObject = {"messages": [_said("system", "a"), _said("system", "b"), _said("user")]}
    sent = fitted(body, Abilities(system="first"))
    assert sent["messages"] == [_said("system", "a\n\nb"), _said("user")]


@pytest.mark.parametrize(
    ("given", "first"),
    [
        ([{"role": "user", "content": "x"}], {"role": "user", "content": "S\n\nx"}),
        (
            [{"role": "user", "content": [{"type": "text", "text": "x"}]}],
            {
                "role": "user",
                "content": [{"type": "text", "text": "S"}, {"type": "text", "text": "x"}],
            },
        ),
        ([{"role": "assistant", "content": "x"}], {"role": "user", "content": "S"}),
        ([], {"role": "user", "content": "S"}),
    ],
)
def test_without_a_system_role_its_words_open_the_first_question(
    given: list[JsonObject], first: JsonObject
):
    body: JsonObject = {"messages": [{"role": "system", "content": "S"}, *given]}
    sent = fitted(body, Abilities(system="none"))["messages"]
    assert sent[0] == first
    assert len(sent) == max(1, len(given) + (given[:1] == [_said("assistant")]))


def _said(role: str, content: str = "x") -> JsonObject:
    return {"role": role, "content": content}


SCHEMA: JsonObject = {
    "$schema": "x",
    "type": "object",
    "additionalProperties": False,
    "required": ["format"],
    "properties": {
        "format": {"type": "string", "format": "date-time", "enum": ["format"]},
        "n": {"anyOf": [{"type": "null"}, {"type": "integer", "format": "int32"}], "title": "N"},
        "list": {"type": "array", "items": {"type": "object", "additionalProperties": True}},
    },
}


def test_words_of_a_schema_go_everywhere_but_where_they_are_names_or_values():
    short = shorter_schema(SCHEMA, {"$schema", "additionalProperties", "format", "anyOf"})
    assert short == {
        "type": "object",
        "required": ["format"],
        "properties": {
            "format": {"type": "string", "enum": ["format"]},
            "n": {"type": "integer", "title": "N"},
            "list": {"type": "array", "items": {"type": "object"}},
        },
    }


def test_schemas_of_tools_and_of_the_answers_format_are_shortened():
    tool = {"type": "function", "function": {"name": "t", "parameters": SCHEMA}}
    bare = {"type": "function", "function": {"name": "u"}}
    form = {"type": "json_schema", "json_schema": {"name": "f", "schema": SCHEMA}}
    body: JsonObject = {"messages": [], "tools": [tool, bare], "response_format": form}
    sent = fitted(body, Abilities(schema_without=("$schema",)))
    assert "$schema" not in sent["tools"][0]["function"]["parameters"]
    assert sent["tools"][1] == bare
    assert "$schema" not in sent["response_format"]["json_schema"]["schema"]
    assert "$schema" in tool["function"]["parameters"]  # pyright: ignore - the caller's is as it was
    assert fitted(body, Abilities(schema_without=("nowhere",))) is body


json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=20,
)
keys = st.sampled_from(["messages", "tools", "max_tokens", "response_format", "temperature"])


@given(st.dictionaries(keys, json))
def test_no_shape_of_a_request_breaks_it(body: JsonObject):
    everything = Abilities(
        limit_name="max_completion_tokens",
        max_output_tokens=5,
        unsupported=("temperature",),
        system="none",
        schema_without=("anyOf",),
        reasoning_effort="low",
    )
    once = fitted(body, everything)
    assert fitted(once, everything) == once


def test_what_lies_very_deep_stays_as_it_is():
    deep: Any = {"anyOf": []}
    for _ in range(2000):
        deep = {"items": deep}
    shorter_schema(deep, {"anyOf"})


def test_who_comes_first_is_right_and_a_lesson_adds_to_lists():
    found = profile_of(
        [
            ("learnt", Abilities(unsupported=("temperature",))),
            ("file", Abilities(unsupported=("top_p", "temperature"), context_tokens=8192)),
            ("asked", Abilities(context_tokens=32_768, max_output_tokens=2048)),
            ("assumed", Abilities(unsupported=("seed",), tools=False)),
        ]
    )
    assert found.abilities.unsupported == ("temperature", "top_p", "seed")
    assert found.abilities.context == 8192
    assert found.abilities.tools is False
    assert found.told_by == {
        "unsupported": "learnt",
        "context_tokens": "file",
        "max_output_tokens": "asked",
        "tools": "assumed",
    }


@pytest.mark.parametrize(
    ("url", "model", "field"),
    [
        ("https://api.openai.com/v1", "o3-mini", "limit_name"),
        ("https://api.openai.com/v1", "gpt-5.1", "unsupported"),
        ("https://mine.openai.azure.com/openai/v1", "gpt-5-mini", "limit_name"),
        ("https://api.moonshot.ai/v1", "kimi-k2.6", "unsupported"),
        ("https://api.mistral.ai/v1", "mistral-large-latest", "system"),
        ("https://generativelanguage.googleapis.com/v1beta/openai", "gemini-3", "schema_without"),
    ],
)
def test_well_known_services_are_met_as_they_like(url: str, model: str, field: str):
    assert getattr(assumed(url, model), field)


@pytest.mark.parametrize("url", ["http://localhost:8000", "https://api.openai.com.evil.example"])
def test_of_others_nothing_is_assumed(url: str):
    assert assumed(url, "o3") == Abilities()
    assert assumed("https://api.openai.com/v1", "gpt-4o") == Abilities()


@pytest.mark.parametrize(
    ("context", "lacking"), [(8192, None), (3000, None), (2000, "context"), (1000, "context")]
)
def test_a_context_has_to_leave_room_for_an_answer(context: int, lacking: str | None):
    body: JsonObject = {"messages": [_said("user", "x" * 2000)], "max_tokens": 4096}
    needs = needs_of(body)
    abilities = Abilities(context_tokens=context)
    assert needs.lacking(abilities, 2.0) == lacking
    if lacking is None:
        room = needs.output_room(abilities, 2.0)
        assert LEAST_OUTPUT <= fitted(body, abilities, room)["max_tokens"] <= min(room, 4096)
