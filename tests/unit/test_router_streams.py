"""A provider's event stream by the rules of the HTML standard, however its bytes are cut."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mana_actors.errors import ProviderError
from mana_actors.json_values import JsonObject
from mana_actors.llm.router.wire.events import (
    MAX_EVENT_BYTES,
    ChunkReader,
    is_prelude,
    shown_chunk,
)

STOP: JsonObject = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
USAGE: JsonObject = {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2}}


def text(content: str, index: int = 0) -> JsonObject:
    return {"choices": [{"index": index, "delta": {"content": content}}]}


def event(value: Any) -> bytes:
    return b"data: " + json.dumps(value).encode() + b"\n\n"


def read(raw: bytes, cuts: list[int] | None = None) -> tuple[list[JsonObject], Any]:
    """The chunks of a stream that is cut at these places, and the error it ended in or None."""
    reader, chunks = ChunkReader("p"), list[JsonObject]()
    places = [0, *sorted(cut % (len(raw) + 1) for cut in cuts or []), len(raw)]
    try:
        for start, end in pairwise(places):
            for chunk in reader.feed(raw[start:end]):
                chunks.append(chunk)
        chunks.extend(reader.end())
    except ProviderError as error:
        return chunks, (error.kind, error.cause, error.code, error.usage)
    return chunks, None


def whole(raw: bytes) -> list[JsonObject]:
    chunks, error = read(raw)
    assert error is None, error
    return chunks


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_a_line_ends_in_any_of_three_ways(end: bytes):
    raw = (event(text("ä")) + event(STOP) + b"data: [DONE]\n\n").replace(b"\n", end)
    assert whole(raw) == [text("ä"), STOP]
    for cut in range(len(raw)):
        assert read(raw, [cut]) == ([text("ä"), STOP], None)
    lines = json.dumps(STOP, indent=1).encode().replace(b"\n", end + b"data: ")
    split = b"event: message" + end + b"data: " + lines + end + end
    failed = split.replace(b"message", b"error", 1)
    for cut in range(len(split)):  # a line end in two pieces is one, and ends no event
        assert read(split, [cut]) == ([STOP], None)
        assert read(failed, [cut]) == read(failed)
    assert read(failed)[1] is not None


@pytest.mark.parametrize(
    "raw",
    [
        b"\xef\xbb\xbf" + event(STOP),
        b": ping\n\n" + event(STOP),
        b"retry: 10\nid: 7\nunheard: of\nevent: message\n" + event(STOP),
        b"data:" + json.dumps(STOP).encode() + b"\n\n",
        b"data: " + json.dumps(STOP, indent=1).replace("\n", "\ndata: ").encode() + b"\n\n",
        b"data\n\n" + event(STOP),
        event(STOP).rstrip(),
        b'event: ping\ndata: {"type": "ping"}\n\n' + event(STOP),
    ],
)
def test_what_the_standard_allows_is_read(raw: bytes):
    assert whole(raw) == [STOP]


def test_who_leaves_out_the_blank_lines_is_read_too():
    lines = [b"data: " + json.dumps(each).encode() for each in (text("a"), STOP)]
    assert whole(b"\n".join([*lines, b"data: [DONE]", b""])) == [text("a"), STOP]


@pytest.mark.parametrize(
    "last",
    [
        {"choices": None, "usage": {"prompt_tokens": 3, "completion_tokens": 2}},
        {"usage": {"prompt_tokens": 3, "completion_tokens": 2}},
        USAGE,
    ],
)
def test_the_count_after_a_whole_answer_may_stand_alone(last: JsonObject):
    assert whole(event(text("a")) + event(STOP) + event(last) + b"data: [DONE]\n\n")[-1] == last
    shown = shown_chunk(last, model="a/b", with_usage=True)
    assert shown is not None
    assert shown["usage"] == {"prompt_tokens": 3, "completion_tokens": 2}


@pytest.mark.parametrize(
    "after",
    [
        event({"error": {"code": 502, "message": "late"}}),
        b"event: error\ndata: late\n\n",
        b"data: {half\n\n",
        b"data: {half",
        event({"no": "choices"}),
        event({"choices": [{"index": 0, "error": {"code": 500}}]}),
    ],
)
def test_nothing_spoils_an_answer_that_is_whole(after: bytes):
    assert whole(event(text("a")) + event(STOP) + after) == [text("a"), STOP]


def test_an_answer_is_whole_when_each_choice_is():
    second: JsonObject = {"choices": [{"index": 1, "delta": {}, "finish_reason": "length"}]}
    begun = event(text("a")) + event(text("b", 1)) + event(STOP)
    assert read(begun)[1][:3] == ("invalid_answer", "invalid_answer", "cut_stream")
    assert read(begun + event(second))[1] is None


@pytest.mark.parametrize(
    ("raw", "kind", "cause"),
    [
        (event({"error": {"code": 429, "message": "nein"}}), "rate_limit", "rate_limit"),
        (event({"error": {"message": "nein"}}), "unknown", "failed_answer"),
        (event({"error": "nein"}), "unknown", "failed_answer"),
        (b"event: error\n" + event({"message": "nein", "code": 503}), "unknown", "overloaded"),
        (b"event: error\ndata: nein\n\n", "unknown", "failed_answer"),
        (event({"object": "error", "message": "nein", "code": 400}), "unknown", "failed_answer"),
        (event([{"error": {"code": 503, "message": "nein"}}]), "unknown", "overloaded"),
        (event({"choices": [{"index": 0, "finish_reason": "error"}]}), "unknown", "failed_answer"),
        (
            event({"choices": [{"index": 0, "error": {"code": 502, "message": "nein"}}]}),
            "unknown",
            "failed_answer",
        ),
        (json.dumps({"error": {"code": 503, "message": "nein"}}).encode(), "unknown", "overloaded"),
        (json.dumps({"choices": [{"message": {"content": "x"}}]}).encode(), "invalid_answer", ""),
        (event({"no": "choices"}), "invalid_answer", ""),
        (event({"choices": 5}), "invalid_answer", ""),
        (b"data: {half\n\n", "invalid_answer", ""),
        (b"<html>\n", "invalid_answer", ""),
        (b"<html>\ndata: [DONE]\n\n", "invalid_answer", ""),
        (b"", "invalid_answer", ""),
    ],
)
def test_each_bad_stream_has_its_cause(raw: bytes, kind: str, cause: str):
    error = read(raw)[1]
    assert error is not None
    assert error[:2] == (kind, cause or kind)


def test_what_a_stream_counted_before_it_broke_is_owed():
    counted = text("a") | {"usage": {"prompt_tokens": 3, "completion_tokens": 2}}
    for raw in (
        event(counted),
        event(counted) + event({"error": "x"}),
        event(counted) + b"data: {\n\n",
    ):
        usage = read(raw)[1][3]
        assert (usage.prompt_tokens, usage.completion_tokens) == (3, 2)


@pytest.mark.parametrize("raw", [b"data: " + b"x" * MAX_EVENT_BYTES, b"data: x\n" * 200_000])
def test_an_event_without_end_is_given_up(raw: bytes):
    assert read(raw * 2, list(range(0, len(raw) * 2, 1000)))[1][2] == "too_large"


SILENT: list[JsonObject] = [
    {"choices": [], "prompt_filter_results": []},
    {"choices": [{"delta": {"role": "assistant"}}]},
    {"choices": [{"delta": None}]},
    {"choices": [{}]},
]


@pytest.mark.parametrize("chunk", SILENT)
def test_what_says_nothing_commits_nobody(chunk: JsonObject):
    assert is_prelude(chunk)
    assert not is_prelude(USAGE)
    assert not is_prelude(STOP)


def test_another_word_for_the_end_is_shown_as_the_usual_one():
    chunk: JsonObject = {"choices": [{"index": 0, "delta": {}, "finish_reason": "MAX_TOKENS"}]}
    shown = shown_chunk(chunk, model="a/b", with_usage=False)
    assert shown is not None
    (choice,) = shown["choices"]
    assert (choice["finish_reason"], choice["native_finish_reason"]) == ("length", "MAX_TOKENS")


def call(index: int | None, **function: Any) -> JsonObject:
    placed = {} if index is None else {"index": index}
    return {"choices": [{"delta": {"tool_calls": [placed | {"function": function}]}}]}


@pytest.mark.parametrize(
    "deltas",
    [
        [call(0, name="a", arguments=""), call(0, arguments="{}")],
        [call(None, name="a", arguments="{}")],
        [call(0, name="cre"), call(0, name="ate")],
        [call(0, name="a", arguments={"title": "x"})],
        [{"choices": [{"delta": {"tool_calls": [{"id": "1"}, {"id": "2"}]}}]}],
    ],
)
def test_pieces_of_calls_are_passed_on_as_they_come(deltas: list[JsonObject]):
    raw = b"".join(event(delta) for delta in (*deltas, STOP))
    assert whole(raw) == [*deltas, STOP]
    shown = [shown_chunk(delta, model="a/b", with_usage=False) for delta in deltas]
    kept = [each["choices"][0]["delta"] for each in shown if each is not None]
    assert kept == [delta["choices"][0]["delta"] for delta in deltas]


PIECES = st.sampled_from(
    [
        *(
            b"\r",
            b"\n",
            b"\r\n",
            b"\n\n",
            b"\xef\xbb\xbf",
            b": ping",
            b"event: error\n",
            b"event: x\r",
        ),
        *(b"data: [DONE]", b"data: ", b"data", b"{", b'{"error":', b'{"choices":null}', b"<html>"),
        *(event(text("\U0001f600 ä")), event(STOP), event(USAGE), event({"choices": [None, {}]})),
        *(event({"choices": [{"delta": {"content": "\ud83d"}}]}), event({"error": {"code": 429}})),
    ]
)


@given(st.lists(PIECES | st.binary(max_size=8), max_size=12), st.lists(st.integers(0), max_size=20))
def test_where_the_bytes_are_cut_makes_no_difference(pieces: list[bytes], cuts: list[int]):
    raw = b"".join(pieces)
    chunks, error = read(raw)
    again, error_again = read(raw, cuts)
    assert (again, error_again) == (chunks, error)
    for chunk in chunks:
        is_prelude(chunk)
        json.dumps(shown_chunk(chunk, model="a/b", with_usage=True))


def test_a_word_that_says_not_yet_ends_nothing():
    """Alibaba's own interface names "null" until the end, so that a cut would look whole."""
    unended: JsonObject = {
        "choices": [{"index": 0, "delta": {"content": "Ich"}, "finish_reason": "null"}]
    }
    chunks, error = read(event(unended))
    assert chunks == [unended]
    assert error is not None
    shown = shown_chunk(unended, model="m", with_usage=False)
    assert shown is not None
    assert shown["choices"] == [{"index": 0, "delta": {"content": "Ich"}}]
    assert whole(event(unended) + event(STOP)) == [unended, STOP]
    role = {"choices": [{"index": 0, "delta": {"role": "assistant"}, "finish_reason": "null"}]}
    assert is_prelude(role)
