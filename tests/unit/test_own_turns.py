"""An entry has back what its own turns carried, and nothing of what the others' did."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mana_actors.llm.carried import said_by_in, said_by_text
from mana_actors.llm.router.wire.own_turns import own_turns, portable_id

OURS, OTHER = "groq/a", "deepseek/b"
MARK = "GEHEIM"


def turn(*ids: str, **carried: Any) -> dict[str, Any]:
    calls = [
        {"id": id_, "type": "function", "function": {"name": "n", "arguments": "{}"}, "sig": MARK}
        for id_ in ids
    ]
    return {"role": "assistant", "content": None, "tool_calls": calls, **carried}


def result(id_: str) -> dict[str, Any]:
    return {"role": "tool", "content": "{}", "tool_call_id": id_}


def test_a_conversation_of_its_own_is_the_same_object():
    body = {"messages": [turn("a", reasoning=MARK), result("a")]}
    for said_by in ({}, {0: OURS}):
        assert own_turns(body, said_by, OURS).body is body


def test_what_others_carry_is_left_out_and_counted():
    plain = {"role": "assistant", "content": "ja"}
    messages = [turn("a", reasoning=MARK), result("a"), plain, turn("b", thinking=[MARK]), plain]
    said_by = {0: OTHER, 2: OTHER, 3: OURS, 4: OTHER}
    found = own_turns({"messages": messages}, said_by, OURS)
    theirs, answer, second, ours, last = found.body["messages"]
    assert MARK not in str(theirs)
    assert found.lost == 1, "a turn that carried nothing lost nothing"
    assert (second, ours, last) == (plain, messages[3], plain)
    assert theirs["tool_calls"][0]["id"] == answer["tool_call_id"]
    assert messages[0]["reasoning"] == MARK, "the request itself stays for the next entry"


def test_nonsense_in_a_conversation_is_left_as_it_is():
    body = {"messages": [None, 7, {"role": "assistant"}, {"role": "tool"}, turn()]}
    found = own_turns(body, {0: OTHER, 2: OTHER, 4: OTHER, 99: OTHER, -1: OTHER}, OURS)
    assert len(found.body["messages"]) == 5


@given(st.lists(st.text(max_size=12), min_size=1, max_size=6, unique=True))
def test_ids_of_others_become_ids_that_all_take_and_stay_with_their_results(ids: list[str]):
    messages = [turn(*ids), *(result(id_) for id_ in ids)]
    first, *results = own_turns({"messages": messages}, {0: OTHER}, OURS).body["messages"]
    sent = [each["id"] for each in first["tool_calls"]]
    assert [each["tool_call_id"] for each in results] == sent
    assert len(set(sent)) == len(ids)
    for id_ in sent:
        assert len(id_) == 9
        assert id_.isascii()
        assert id_.isalnum()
        assert portable_id(id_) == id_


@given(st.dictionaries(st.integers(0, 99), st.text(max_size=9), max_size=5))
def test_who_said_what_travels_in_a_header(speakers: dict[int, str]):
    text = said_by_text(speakers)
    assert text.isascii()
    assert text.isprintable()
    assert said_by_in(text) == speakers


@pytest.mark.parametrize("text", ["", "[]", "{", '{"a":"b"}', '{"1":2}', "[" * 9000])
def test_another_header_is_refused(text: str):
    with pytest.raises(ValueError, match="said-by"):
        said_by_in(text)


def test_a_header_that_is_json_is_read():
    assert said_by_in(msgspec.json.encode({"3": OTHER}).decode()) == {3: OTHER}
