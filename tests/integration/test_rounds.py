"""Whole runs against services that refuse a history which lacks what they sent along."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Callable, Iterator
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest

from mana_actors.agent.planner.exchange import ChatMessage, ModelAnswer, ModelRequest
from mana_actors.errors import ProviderError
from mana_actors.llm.client import HttpProvider
from state.store.connect import Database as Reached
from state.store.gateway.fleet import Filter, FleetStore, ReceiptLine
from tests.fake_provider import Entry, FakeProvider, Recorded
from tests.integration.support import HeldProvider, Json, World, open_world
from tests.postgres import Database
from tests.router_parts import RunningRouter, alias_file

pytestmark = pytest.mark.one_postgres

USAGE = {"prompt_tokens": 80, "completion_tokens": 20, "total_tokens": 100}
SECRET = "weil-es-so-ist"
Rule = Callable[[list[Json]], bool]


def call(identity: str | None = "c1", title: str = "Einkaufen", **more: Any) -> Json:
    function = {"name": "create_task", "arguments": msgspec.json.encode({"title": title}).decode()}
    return {
        "type": "function",
        "function": function,
        **({"id": identity} if identity else {}),
        **more,
    }


def said(message: Json, usage: Any = USAGE) -> Entry:
    choice = {"index": 0, "message": {"role": "assistant", "content": None} | message}
    return {"answer": {"choices": [choice | {"finish_reason": "stop"}], "usage": usage}}


DONE = said({"content": "Fertig."})


class Strict(HeldProvider):
    """Plays its script as long as the history of a request is as `rule` wants it."""

    def __init__(self, rule: Rule) -> None:
        super().__init__()
        self.rule = rule
        self.refused = 0

    def _record(self, request: Recorded) -> Entry:
        turns = [each for each in request.body["messages"] if each["role"] == "assistant"]
        if self.rule(turns):
            return super()._record(request)
        self.refused += 1
        self.requests.append(request)
        return {"status": 400, "answer": {"error": {"message": "history is not as it was"}}}


def has(name: str, value: object) -> Rule:
    return lambda turns: all(turn.get(name) == value for turn in turns)


def signed(turns: list[Json]) -> bool:
    calls = [each for turn in turns for each in turn["tool_calls"]]
    return all(each["extra_content"]["google"]["thought_signature"] == SECRET for each in calls)


def unique_ids(turns: list[Json]) -> bool:
    ids = [each["id"] for turn in turns for each in turn["tool_calls"]]
    return len(set(ids)) == len(ids) and all(len(each) <= 64 for each in ids)


def plain_names(turns: list[Json]) -> bool:
    names = [each["function"]["name"] for turn in turns for each in turn["tool_calls"]]
    return all(re.fullmatch(r"[A-Za-z0-9_-]{1,64}", name) for name in names)


def parts(turns: list[Json]) -> bool:
    return all(turn["content"][0].get("signature") == SECRET for turn in turns)


ROWS: dict[str, tuple[Rule, list[Entry]]] = {
    "reasoning_content": (
        has("reasoning_content", SECRET),
        [said({"reasoning_content": SECRET, "tool_calls": [call()]})],
    ),
    "reasoning_details": (
        has("reasoning_details", [{"data": SECRET}]),
        [said({"reasoning": "x", "reasoning_details": [{"data": SECRET}], "tool_calls": [call()]})],
    ),
    "thinking in parts": (
        parts,
        [said({"content": [{"type": "thinking", "signature": SECRET}], "tool_calls": [call()]})],
    ),
    "thought_signature": (
        signed,
        [said({"tool_calls": [call(extra_content={"google": {"thought_signature": SECRET}})]})],
    ),
    "one id twice": (unique_ids, [said({"tool_calls": [call("dup"), call("dup", "Kochen")]})]),
    "no ids": (
        unique_ids,
        [said({"tool_calls": [call(None)]}), said({"tool_calls": [call(None, "Kochen")]})],
    ),
    "a long id": (unique_ids, [said({"tool_calls": [call("x" * 500)]})]),
    "a name with its namespace": (
        plain_names,
        [
            said(
                {
                    "tool_calls": [
                        call()
                        | {
                            "function": {
                                "name": "functions.create_task",
                                "arguments": '{"title":"Einkaufen"}',
                            }
                        }
                    ]
                }
            )
        ],
    ),
    "a name of no tool": (
        plain_names,
        [
            said(
                {
                    "tool_calls": [
                        call(),
                        call("c2") | {"function": {"name": "böse.rm -rf", "arguments": "{}"}},
                    ]
                }
            )
        ],
    ),
}


@pytest.fixture
def rule() -> Rule:
    return lambda _turns: True


@pytest.fixture
async def world(database: Database, rule: Rule) -> AsyncGenerator[World]:
    async with open_world(database, provider=Strict(rule)) as opened:
        yield opened


async def receipt(world: World) -> tuple[ReceiptLine, ...]:
    fleet = FleetStore(Reached(world.access("mana_gateway"), max_connections=1))
    try:
        (row,) = await fleet.runs(Filter())
    finally:
        await fleet.close()
    return row.receipt


async def planned(world: World, script: list[Entry]) -> Any:
    world.provider.script = script
    await (await world.client()).mission()
    await world.driver.fold_all()
    return await world.run()


@pytest.mark.parametrize(("rule", "script"), ROWS.values(), ids=list(ROWS))
async def test_a_run_goes_on_where_its_model_wants_back_what_it_sent(
    world: World, script: list[Entry]
):
    report = await planned(world, [*script, DONE])
    assert cast("Strict", world.provider).refused == 0
    assert (report.outcome, report.reason) == ("ran", "")
    (row,) = await world.written()
    written = row["data"]["iterations"][-1]
    assert "Einkaufen" in [step["intent"]["params"]["title"] for step in written["plan"]]
    assert written["summary"] == "Fertig."
    assert SECRET not in str(written)
    assert await world.spent() == [100] * (len(script) + 1)


@pytest.mark.parametrize("rule", [has("reasoning_content", SECRET)])
async def test_what_is_carried_survives_the_end_of_an_attempt(world: World):
    thinking = said({"reasoning_content": SECRET, "tool_calls": [call()]})
    report = await planned(world, [thinking, {"status": 500}])
    assert report.outcome == "waiting"
    world.provider.script += [DONE]
    await world.sql("UPDATE mana_ai.runs SET not_before = clock_timestamp()")
    assert (await world.run()).outcome == "ran"
    first, failed, again = (each.raw for each in world.provider.requests)
    assert SECRET.encode() not in first
    assert failed == again, "the journalled answer gives the same request"
    assert await world.spent() == [100, 0, 100]


async def test_what_is_carried_counts_as_request(world: World):
    long = SECRET * 2000
    world.provider.script = [
        said({"tool_calls": [call()], "reasoning_content": long}),
        said({}, None),
    ]
    await planned(world, list(world.provider.script))
    _, hold = await world.spent()
    assert hold > len(long) // 2


# --- what was spent ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "usage",
    [
        {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0},
        {"prompt_tokens": 40, "completion_tokens": 3},
        {"prompt_tokens": 40, "completion_tokens": 400, "total_tokens": 40},
        {"prompt_tokens": -40, "completion_tokens": 400},
    ],
    ids=["zeros", "too few", "a total below its parts", "below nothing"],
)
async def test_an_impossible_report_is_charged_at_the_hold(world: World, usage: Json):
    await planned(world, [said({"content": "Wort " * 1020}, usage)])
    assert await world.value("SELECT basis FROM mana_ai.token_usage") == "hold"
    (charged,) = await world.spent()
    assert charged > len(world.provider.requests[0].raw) // 2


async def test_an_impossible_report_above_the_hold_is_charged_as_it_stands(world: World):
    await planned(
        world, [said({"content": "x"}, {"prompt_tokens": 90_000, "completion_tokens": 0})]
    )
    assert await world.spent() == [90_000]


async def test_cached_tokens_are_on_the_receipt(world: World):
    usage = USAGE | {"prompt_tokens_details": {"cached_tokens": 64}}
    await planned(world, [said({"content": "Fertig."}, usage)])
    (line,) = await receipt(world)
    assert (line.tokens, line.cached_tokens, line.carried_lost) == (100, 64, 0)


# --- through the router --------------------------------------------------------------------------


async def ask(router: RunningRouter, *messages: ChatMessage) -> ModelAnswer:
    provider = HttpProvider(router.url, key_file=router.token_file)
    request = ModelRequest("mana/fast-text", (ChatMessage("user", "Hallo"), *messages))
    try:
        return await provider.complete(request, deadline_s=5)
    finally:
        await provider.aclose()


def turn_of(answer: ModelAnswer) -> list[ChatMessage]:
    turn = ChatMessage(
        "assistant",
        answer.content,
        answer.tool_calls,
        carried=answer.carried,
        said_by=answer.resolved_model,
    )
    results = [ChatMessage("tool", "{}", tool_call_id=each.id) for each in answer.tool_calls]
    return [turn, *results]


THINKING = said(
    {
        "content": [{"type": "thinking", "thinking": SECRET}, {"type": "text", "text": "Gut."}],
        "reasoning_content": SECRET,
        "tool_calls": [call("functions.create_task:0", extra_content={"google": SECRET})],
    }
)


async def test_a_model_gets_back_what_it_said_and_no_other_one_does(
    near: FakeProvider, far: FakeProvider, router: RunningRouter
):
    near.script = [THINKING, DONE, {"status": 500}]
    history = turn_of(await ask(router))
    own = await ask(router, *history)
    theirs = await ask(router, *history)
    assert (own.resolved_model, own.carried_lost) == ("near/small", 0)
    assert (theirs.resolved_model, theirs.carried_lost) == ("far/vendor/large", 1)
    _, (_, same, result), (_, failed, _) = (each.body["messages"] for each in near.requests)
    sent = THINKING["answer"]["choices"][0]["message"]
    assert same == failed == sent
    assert result["tool_call_id"] == "functions.create_task:0"
    (request,) = far.requests
    assert SECRET.encode() not in request.raw
    assert "said-by" not in str(request.headers)
    _, turn, result = request.body["messages"]
    (made,) = turn["tool_calls"]
    assert made["id"] == result["tool_call_id"]
    assert len(made["id"]) == 9
    assert made["id"].isalnum()
    assert turn == {
        "role": "assistant",
        "content": "Gut.",
        "tool_calls": [{"id": made["id"], "type": "function", "function": call()["function"]}],
    }


async def test_each_model_of_a_conversation_gets_its_own_turns_back(
    near: FakeProvider, far: FakeProvider, router: RunningRouter
):
    near.script = [THINKING, {"status": 500}, DONE]
    far.script = [said({"reasoning": "fern", "tool_calls": [call("toolu_1", "Kochen")]})]
    history = turn_of(await ask(router))
    history += turn_of(await ask(router, *history))
    last = await ask(router, *history)
    assert (last.resolved_model, last.carried_lost) == ("near/small", 1)
    _, first, _, second, _ = near.requests[-1].body["messages"]
    assert first["reasoning_content"] == SECRET
    assert "reasoning" not in second


async def test_what_a_model_sends_and_then_refuses_is_left_out(
    near: FakeProvider, far: FakeProvider, router: RunningRouter
):
    words = "'messages.1' : for 'role:assistant' the following must be satisfied"
    words += "[('messages.1' : property 'reasoning_content' is unsupported)]"
    refusal: Entry = {"status": 400, "answer": {"error": {"message": words}}}
    near.script = [THINKING, refusal, DONE, DONE]
    history = turn_of(await ask(router))
    assert (await ask(router, *history)).resolved_model == "near/small"
    assert (await ask(router, *history)).resolved_model == "near/small"
    full, *later = (each.body["messages"][1] for each in near.requests[1:])
    sent = THINKING["answer"]["choices"][0]["message"]
    assert full == sent
    less = {name: sent[name] for name in sent if name != "reasoning_content"}
    assert later == [less, less], "asked once, and then known"
    assert far.requests == []


async def test_a_service_that_takes_other_ids_than_it_gives_gets_them(
    near: FakeProvider, far: FakeProvider, router: RunningRouter
):
    words = "Tool call id was call_49c89af0 but must be a-z, A-Z, 0-9, with a length of 9."
    refusal: Entry = {"status": 400, "answer": {"object": "error", "message": words}}
    near.script = [said({"tool_calls": [call("call_49c89af0")]}), refusal, DONE, DONE]
    history = turn_of(await ask(router))
    assert (await ask(router, *history)).resolved_model == "near/small"
    assert (await ask(router, *history)).resolved_model == "near/small"
    for request in near.requests[2:]:
        _, turn, result = request.body["messages"]
        (made,) = turn["tool_calls"]
        assert made["id"] == result["tool_call_id"]
        assert re.fullmatch(r"[A-Za-z0-9]{9}", made["id"])
    assert len(near.requests) == 4, "asked once, and then known"
    assert far.requests == []


async def test_what_another_caller_sends_along_is_left_as_it_is(
    near: FakeProvider, router: RunningRouter
):
    turn = {"role": "assistant", "content": "x", "reasoning_content": SECRET}
    router.chat(messages=[turn, {"role": "user", "content": "y"}])
    assert near.requests[0].body["messages"][0] == turn
    answer = router.chat(headers={"x-mana-llm-said-by": "[1]"})
    assert answer.status_code == 422
    assert "said-by" in answer.json()["detail"]["message"]


@pytest.fixture
def priced(tmp_path: Path, near: FakeProvider, far: FakeProvider) -> Iterator[RunningRouter]:
    source = alias_file(tmp_path, near.url, far.url)
    path = Path(source.path)
    path.write_text(path.read_text().replace("prompt: 0.5,", "prompt: 10, cached: 1,"))
    with RunningRouter(tmp_path, source) as running:
        yield running


async def test_an_answer_costs_what_its_prompt_from_the_cache_costs(
    near: FakeProvider, priced: RunningRouter
):
    usage = {"input_tokens": 20, "output_tokens": 4, "cache_read_input_tokens": 80}
    near.script = [
        said({"content": "Hi"}, usage),
        said({"content": "Hi"}, USAGE | {"total_tokens": 1}),
    ]
    answer, impossible = await ask(priced), await ask(priced)
    assert (answer.prompt_tokens, answer.cached_tokens) == (100, 80)
    assert answer.cost_micros == 20 * 10 + 80 * 1 + 4 * 1.5
    assert (impossible.usage_reported, impossible.cost_micros) == (False, None)


async def test_what_failed_attempts_spent_comes_with_the_answer(
    near: FakeProvider, far: FakeProvider, router: RunningRouter
):
    near.script = [{"garbage": b"{"}]
    far.script = [DONE]
    answer = await ask(router)
    assert (answer.total_tokens, answer.wasted.unreported) == (100, 1)


async def test_a_failure_names_the_provider_that_failed(
    near: FakeProvider, far: FakeProvider, router: RunningRouter
):
    near.script = [{"status": 500}]
    far.script = [{"garbage": b"{"}]
    with pytest.raises(ProviderError) as caught:
        await ask(router)
    assert (caught.value.provider, caught.value.wasted.unreported) == ("far", 1)
    near.script += [{"status": 422, "kind": "blocked"}]
    with pytest.raises(ProviderError) as caught:
        await ask(router)
    assert caught.value.provider == "near"
