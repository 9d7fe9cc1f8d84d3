"""What one round must bring to the next: opaque, whole, and in a form that every service takes."""

import re
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mana_actors.agent.planner.exchange import (
    ChatMessage,
    ModelAnswer,
    ModelRequest,
    ToolCall,
    decode_answer,
    encode_answer,
    request_hash,
    said_by,
)
from mana_actors.agent.planner.loop import LoopInput, PlanOutcome, run_loop
from mana_actors.agent.planner.names import meant_name
from mana_actors.agent.tools.catalogue import catalogue, function_spec
from mana_actors.agent.tools.executor import Executor
from mana_actors.errors import ProviderBusy
from mana_actors.llm.carried import MAX_CARRIED_BYTES
from mana_actors.llm.completions import read_answer

SPEC = function_spec(catalogue()["create_task"])


def call(identity: object = "c1", name: object = "create_task", **more: Any) -> dict[str, Any]:
    arguments = more.pop("arguments", '{"title":"a"}')
    return {
        "id": identity,
        "type": "function",
        "function": {"name": name, "arguments": arguments},
        **more,
    }


def read(message: dict[str, Any], model: str = "deepseek/chat") -> ModelAnswer:
    body = msgspec.json.encode({"choices": [{"message": message, "finish_reason": "stop"}]})
    return read_answer(body, resolved=model, asked_model="mana/reasoning", provider="deepseek")


class Conversation:
    """A model that plays messages as a service sends them, and keeps the bodies it was sent."""

    def __init__(self, *script: dict[str, Any]) -> None:
        self.script, self.requests = list(script), list[ModelRequest]()

    async def __call__(self, request: ModelRequest, _number: int) -> ModelAnswer:
        self.requests.append(request)
        if not self.script:
            raise ProviderBusy("timeout")
        return read(self.script.pop(0))

    @property
    def bodies(self) -> list[dict[str, Any]]:
        return [msgspec.json.decode(request.raw) for request in self.requests]


async def talk(*script: dict[str, Any]) -> tuple[list[dict[str, Any]], PlanOutcome]:
    """The last request's messages of a run that hears `script` and then "fertig"."""
    model = Conversation(*script, {"content": "fertig"})
    given_ = LoopInput(system="S", user="U", model="m", tools=(SPEC,))
    outcome = await run_loop(given_, model, Executor({}))
    return model.bodies[-1]["messages"], outcome


@pytest.mark.parametrize(
    "carried",
    [
        {"reasoning_content": "weil"},
        {"reasoning_content": ""},
        {
            "reasoning": "weil",
            "reasoning_details": [{"type": "reasoning.encrypted", "data": "c2ln"}],
        },
        {"thinking_blocks": [{"type": "thinking", "thinking": "weil", "signature": "c2ln"}]},
        {"provider_specific_fields": {"x": [1, 2.5, None, True]}},
        {"etwas": {"noch": "nie gesehen"}},
    ],
)
async def test_a_message_brings_its_unknown_members_back(carried: dict[str, Any]):
    messages, outcome = await talk({"content": None, "tool_calls": [call()], **carried})
    assert messages[2] == {"role": "assistant", "content": None, "tool_calls": [call()], **carried}
    assert "weil" not in (outcome.summary or "")


async def test_a_call_brings_its_unknown_members_back_and_no_step_shows_them():
    signed = call(extra_content={"google": {"thought_signature": "c2ln"}})
    signed["function"]["etwas"] = "drin"
    messages, outcome = await talk({"content": None, "tool_calls": [signed]})
    assert messages[2]["tool_calls"] == [signed]
    assert [step.carried for step in outcome.steps] == [{}]


async def test_content_in_parts_comes_back_in_parts_and_reads_as_its_text():
    parts = [
        {"type": "thinking", "thinking": [{"type": "text", "text": "weil"}], "signature": "c2ln"},
        {"type": "reasoning", "text": "darum"},
        {"type": "text", "text": "Ich lege an."},
    ]
    answer = read({"content": parts, "tool_calls": [call()]})
    assert answer.content == "Ich lege an."
    messages, _ = await talk({"content": parts, "tool_calls": [call()]})
    assert messages[2]["content"] == parts


def test_nothing_is_carried_that_says_nothing_or_is_read():
    message: dict[str, Any] = {"role": "assistant", "content": "x", "refusal": None, "audio": None}
    answer = read({**message, "annotations": [], "tool_calls": [call(index=0)]})
    assert answer.carried == answer.tool_calls[0].carried == {}


def test_too_much_is_not_kept_and_that_is_counted():
    most = "x" * (MAX_CARRIED_BYTES - 100)
    assert read({"content": "x", "reasoning": most}).carried == {"reasoning": most}
    for message in (
        {"content": "x", "reasoning": most + "x" * 100},
        {"content": "x", "tool_calls": [call(sig=most), call(sig=most)]},
    ):
        answer = read(message)
        assert (answer.carried, answer.carried_lost) == ({}, 1)
        assert all(each.carried == {} for each in answer.tool_calls)


def test_numbers_and_signs_come_back_as_they_were():
    message = {"zahl": [2**70, 1e300, -0.5], "text": "\u2028\x7f\U0001f600 \\ud83d"}
    assert read({"content": "x", **message}).carried == message
    (sent,) = _sent(ChatMessage("assistant", "x", carried=message))
    assert sent == {"role": "assistant", "content": "x", **message}


def test_what_is_carried_survives_the_journal_and_counts_as_request():
    answer = read({"content": None, "tool_calls": [call(sig="c2ln")], "reasoning_content": "weil"})
    kept = decode_answer(encode_answer(answer))
    assert kept == answer
    with_it, again, without = (
        ModelRequest("m", (ChatMessage("assistant", None, each.tool_calls, carried=carried),))
        for each, carried in ((answer, answer.carried), (kept, kept.carried), (answer, {}))
    )
    assert request_hash(with_it) == request_hash(again) != request_hash(without)
    assert len(with_it.raw) > len(without.raw)


def test_a_journal_of_an_older_release_is_read():
    old = b'{"content":"x","tool_calls":[{"id":"1","name":"n","arguments":{}}]}'
    assert decode_answer(old).carried == {}


def test_carried_members_never_replace_what_we_say():
    turn = ChatMessage(
        "assistant",
        "x",
        (
            ToolCall(
                "c1", "n", {"a": 1}, carried={"id": "y", "type": "z", "function": {"name": "böse"}}
            ),
        ),
        carried={"role": "system", "tool_calls": [], "tool_call_id": "y"},
    )
    (message,) = _sent(turn)
    made = {"id": "c1", "type": "function", "function": {"name": "n", "arguments": '{"a":1}'}}
    assert message == {"role": "assistant", "content": "x", "tool_calls": [made]}


# --- ids, names, arguments ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "turns",
    [
        [["dup", "dup"]],
        [["dup"], ["dup"], ["dup"]],
        [[None], [None]],
        [[None, None], ["call_0", ""]],
        [["x" * 500, "x" * 500 + "y"]],
        [["ä", "a b", "\n", "call00001", "call00002", '"', 7]],
    ],
    ids=["one turn", "turns", "none", "ours", "long", "odd"],
)
async def test_each_call_has_an_id_of_its_own_and_its_result_has_it(turns: list[list[object]]):
    script = [
        {
            "content": None,
            "tool_calls": [
                call(id_, arguments={"title": f"{n}-{m}"}) for m, id_ in enumerate(turn)
            ],
        }
        for n, turn in enumerate(turns)
    ]
    messages, _ = await talk(*script)
    ids = [each["id"] for message in messages for each in message.get("tool_calls", ())]
    assert len(set(ids)) == len(ids) == sum(map(len, turns))
    results = [message["tool_call_id"] for message in messages if message["role"] == "tool"]
    assert results == ids
    for id_ in ids:
        assert id_.isascii()
        assert 0 < len(id_) <= 64


async def test_results_go_to_their_own_call_although_ids_are_equal():
    calls = [
        call("dup", arguments='{"title":"a"}'),
        call("dup", "rm_rf"),
        call("dup", arguments="{"),
    ]
    messages, _ = await talk({"content": None, "tool_calls": calls})
    results = {m["tool_call_id"]: msgspec.json.decode(m["content"]) for m in messages[3:]}
    assert list(results) == [each["id"] for each in messages[2]["tool_calls"]]


@pytest.mark.parametrize(
    "id_", ["functions.create_task:0", "call_abc-1", "toolu_01", "call_1__thought__" + "YWI=" * 99]
)
async def test_a_model_gets_its_own_id_back_where_it_can_serve(id_: str):
    messages, _ = await talk({"content": None, "tool_calls": [call(id_)]})
    assert messages[2]["tool_calls"][0]["id"] == messages[3]["tool_call_id"] == id_


@given(
    st.lists(st.text(max_size=4) | st.sampled_from(["dup", "call00001"]), min_size=1, max_size=8)
)
def test_ids_differ_whatever_they_were(ids: list[str]):
    calls = tuple(ToolCall(id_, "n") for id_ in ids)
    results = (ChatMessage("tool", "{}", tool_call_id=id_) for id_ in ids)
    turn, *answers = _sent(ChatMessage("assistant", None, calls), *results)
    sent = [each["id"] for each in turn["tool_calls"]]
    assert len(set(sent)) == len(ids)
    assert [each["tool_call_id"] for each in answers] == sent


@pytest.mark.parametrize(
    "name",
    [
        "functions.create_task",
        "create_task<|channel|>json",
        "functions.create_task<|channel|>commentary",
        "default_api.create_task",
        "default_api:create_task",
        "tools/create_task",
        "functions::create_task",
        "functions.create_task:0",
        "create_task:12",
        " create_task\n",
        "create_task()",
    ],
)
def test_a_name_is_read_by_the_tool_it_ends_in(name: str):
    assert meant_name(name, frozenset({"create_task"})) == "create_task"


@pytest.mark.parametrize(
    "name",
    ["functions.delete_task", "create_task.undo", "xcreate_task", "CREATE_TASK", "", "<|x|>"],
)
def test_no_other_name_is_read_as_a_tool(name: str):
    assert meant_name(name, frozenset({"create_task"})) == name


@pytest.mark.parametrize(
    "name",
    ["functions.rm_rf", "rm rf", "löschen", "", "x" * 300, "create task", "<|call|>", 7, None],
)
async def test_the_history_holds_a_name_that_every_service_takes(name: object):
    calls = [call("c1", name), call("c2")]
    messages, outcome = await talk({"content": None, "tool_calls": calls})
    wrong, right = (each["function"]["name"] for each in messages[2]["tool_calls"])
    assert right == "create_task"
    assert wrong != "create_task"
    assert re.fullmatch(r"[A-Za-z0-9_-]{1,64}", wrong)
    assert len(outcome.executed_calls) == 2


@pytest.mark.parametrize(
    "given_", ['{"title":"a"}', {"title": "a"}, '"{\\"title\\":\\"a\\"}"', ' {"title": "a"}\n']
)
def test_arguments_are_read_in_each_form(given_: object):
    (made,) = read({"content": None, "tool_calls": [call(arguments=given_)]}).tool_calls
    assert (made.arguments, made.problem) == ({"title": "a"}, "")


@pytest.mark.parametrize("given_", ["", " ", None, "null", "{}", {}, '""'])
def test_no_arguments_are_none(given_: object):
    (made,) = read({"content": None, "tool_calls": [call(arguments=given_)]}).tool_calls
    assert (made.arguments, made.problem) == ({}, "")


@pytest.mark.parametrize(
    "given_", ['{"title":"a"}}', '{"title":"a"}<|im_end|>', "[1]", 7, True, [{}], '"x"']
)
async def test_unreadable_arguments_spoil_no_other_call(given_: object):
    calls = [call("c1", arguments=given_), call("c2", arguments='{"title":"b"}')]
    broken, whole = read({"content": None, "tool_calls": calls}).tool_calls
    assert (broken.arguments, bool(broken.problem)) == ({}, True)
    assert (whole.arguments, whole.problem) == ({"title": "b"}, "")


def test_calls_are_read_in_older_and_barer_forms():
    named = {"name": "create_task", "arguments": '{"title":"a"}'}
    for message in (
        {"content": None, "function_call": named},
        {"content": None, "tool_calls": {"id": "c1", "function": named}},
        {"content": None, "tool_calls": [{"id": "c1", **named}]},
        {"content": None, "tool_calls": [None, 7, {"function": named}]},
    ):
        (made,) = read(message).tool_calls
        assert (made.name, made.arguments, made.carried) == ("create_task", {"title": "a"}, {})
        assert made.id


async def test_no_turn_on_the_wire_is_empty():
    empty, blank = ChatMessage("assistant", None), ChatMessage("assistant", " \n", said_by="a/b")
    said = ChatMessage("assistant", "ja", said_by="c/d")
    user = ChatMessage("user", "u")
    request = ModelRequest("m", (user, empty, blank, said))
    assert [m["role"] for m in _sent(*request.messages)] == ["user", "assistant"]
    assert said_by(request) == {1: "c/d"}
    with_call = ChatMessage("assistant", " ", (ToolCall("c1", "n"),))
    assert _sent(with_call)[0]["content"] is None


def _sent(*messages: ChatMessage) -> list[dict[str, Any]]:
    return msgspec.json.decode(ModelRequest("m", messages, (SPEC,)).raw)["messages"]
