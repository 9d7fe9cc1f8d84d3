import asyncio
from collections.abc import AsyncGenerator

import pytest
from starlette.types import Message

from mana_actors.json_values import JsonObject
from mana_actors.llm.router.stream import DONE, PING, EventStream
from mana_actors.llm.router.wire.events import shown_chunk


async def test_a_comment_keeps_the_connection_while_nothing_comes():
    sent: list[bytes] = []
    pinged = asyncio.Event()

    async def events() -> AsyncGenerator[JsonObject]:
        await pinged.wait()
        yield {"a": 1}

    async def send(message: Message) -> None:
        sent.append(message.get("body", b""))
        if message.get("body") == PING:
            pinged.set()

    async def receive() -> Message:
        await asyncio.Event().wait()
        return {"type": "http.disconnect"}

    await EventStream(events(), {}, keep_alive_s=0.001)({}, receive, send)
    assert PING in sent
    assert [body for body in sent if body and body != PING] == [b'data: {"a":1}\n\n', DONE]


async def test_an_answer_that_cannot_be_sent_lets_go_of_its_events():
    closed = asyncio.Event()

    async def events() -> AsyncGenerator[JsonObject]:
        try:
            yield {"a": 1}
            yield {"a": 2}
        finally:
            closed.set()

    async def send(message: Message) -> None:
        if message.get("body"):
            raise OSError("the line is cut")

    async def receive() -> Message:
        await asyncio.Event().wait()
        return {"type": "http.disconnect"}

    kept = events()
    with pytest.raises(OSError, match="cut"):
        await EventStream(kept, {})({}, receive, send)
    assert closed.is_set()


def test_a_chunk_that_only_counts_is_for_who_asked():
    chunk: JsonObject = {"choices": [], "usage": {"total_tokens": 5}}
    assert shown_chunk(chunk, model="a/b", with_usage=False) is None
    shown = shown_chunk(chunk, model="a/b", with_usage=True)
    assert shown
    assert (shown["model"], shown["usage"]) == ("a/b", {"total_tokens": 5})


def test_a_delta_of_a_tool_is_passed_on_whole():
    call = {"index": 1, "function": {"arguments": ': "x"}'}}
    delta = {"role": None, "content": None, "tool_calls": [call]}
    chunk: JsonObject = {"choices": [{"index": 0, "delta": delta, "finish_reason": None}]}
    shown = shown_chunk(chunk, model="a/b", with_usage=False)
    assert shown
    assert shown["choices"] == [{"index": 0, "delta": {"tool_calls": [call]}}]
