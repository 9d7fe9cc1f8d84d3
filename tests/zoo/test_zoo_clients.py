"""The official `openai` client at our router's door, plain and streamed, for each personality."""

from __future__ import annotations

import json
from collections.abc import Generator
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.router_parts import TOKEN, RunningRouter
from tests.zoo.keeper import PLAN, Personality, Zoo, alias_file
from tests.zoo.rules import Json
from tests.zoo.species import ALL

TOOL: Any = {
    "type": "function",
    "function": {
        "name": "create_task",
        "parameters": {"type": "object", "properties": {"title": {"type": "string"}}},
    },
}
OF_ITS_SHAPE = [
    one
    for one in ALL
    if one.habits.arguments in ("text", "spaced")
    and one.habits.content != "parts"
    and not (one.habits.prefix or one.habits.suffix)
    and one.name != "cerebras"
]
WITH_INDEX = [one for one in OF_ITS_SHAPE if one.habits.stream != "gemini"]
"""Without the index of a call the client cannot put its pieces together."""
WITH_IDS = [
    one for one in OF_ITS_SHAPE if one.habits.ids in ("openai", "nine", "anthropic", "kimi")
]


def cases(people: list[Personality]) -> list[Any]:
    return [pytest.param(one, id=one.name) for one in people]


@pytest.fixture(scope="module")
def zoo() -> Generator[Zoo]:
    with Zoo(ALL) as open_zoo:
        yield open_zoo


@pytest.fixture(scope="module")
def router(zoo: Zoo, tmp_path_factory: pytest.TempPathFactory) -> Generator[RunningRouter]:
    folder: Path = tmp_path_factory.mktemp("clients")
    with RunningRouter(
        folder, alias_file(zoo, folder, {name: [name] for name in zoo.residents})
    ) as running:
        yield running


@pytest.fixture
def client(router: RunningRouter) -> Generator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{router.url}/v1", api_key=TOKEN, max_retries=0) as one:
        yield one


def begun() -> list[Any]:
    return [
        {"role": "system", "content": "Plane."},
        {"role": "user", "content": "Die Woche."},
    ]


def results(message: Json) -> list[Json]:
    calls: list[Json] = message.get("tool_calls") or []
    return [{"role": "tool", "tool_call_id": call["id"], "content": "{}"} for call in calls]


def said(message: Json) -> tuple[str, list[Json]]:
    """Its text without what frames it, and the arguments of its calls."""
    content: Any = message.get("content") or ""
    text = content if isinstance(content, str) else "".join(part["text"] for part in content)
    calls: list[Json] = message.get("tool_calls") or []
    arguments: list[Any] = [call["function"]["arguments"] for call in calls]
    return text, [json.loads(each) if isinstance(each, str) else each for each in arguments]


@pytest.mark.parametrize("personality", cases(WITH_IDS))
def test_a_conversation_that_echoes_its_answers_comes_to_its_end(
    personality: Personality, zoo: Zoo, client: openai.OpenAI
):
    resident = zoo.anew(personality.name)
    messages = begun()
    for turn in PLAN:
        answer = client.chat.completions.create(
            model=f"mana/{personality.name}", messages=messages, tools=[TOOL], max_tokens=500
        )
        message = answer.choices[0].message.model_dump(exclude_unset=True)
        text, arguments = said(message)
        assert turn.text in text
        if not personality.habits.in_text:
            assert arguments == [call.arguments for call in turn.calls]
        messages += [message, *results(message)]
    assert len(resident.issued) == len(PLAN)


@pytest.mark.parametrize("personality", cases(WITH_INDEX))
def test_a_streamed_answer_is_the_plain_one(
    personality: Personality, zoo: Zoo, client: openai.OpenAI
):
    resident = zoo.anew(personality.name)
    turns: list[tuple[str, list[Json]]] = []
    asked: Any = {"model": f"mana/{personality.name}", "messages": begun(), "tools": [TOOL]}
    with client.chat.completions.stream(**asked, stream_options={"include_usage": True}) as stream:
        whole = stream.get_final_completion()
    turns.append(said(whole.choices[0].message.model_dump(exclude_unset=True)))
    if personality.habits.usage in ("plain", "details", "deepseek", "thinking_apart"):
        assert whole.usage is not None
        assert whole.usage.total_tokens == resident.billed
    resident = zoo.anew(personality.name)
    make: Any = client.chat.completions.create
    plain: Any = make(**asked)
    turns.append(said(plain.choices[0].message.model_dump(exclude_unset=True)))
    assert turns[0] == turns[1]
    assert whole.choices[0].finish_reason == plain.choices[0].finish_reason
    assert whole.model == plain.model
