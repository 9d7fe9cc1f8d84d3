"""A model provider for tests: a real HTTP server on loopback that plays a script.

Each request takes the next entry of the script; when it is used up, `DEFAULT` is played. Entries:
    {"content": "…", "calls": [{"name", "args", "id"?}], "finish"?, "usage"?: [prompt, completion]}
    {"status": 429, "kind"?: "rate_limit", "message"?, "retry_after"?: "7", "text"?: "not JSON"}
    {"hang": "headers"}  {"hang": "body"}  never finishes, until the client leaves
    {"close": "headers"} {"close": "body"} drops the connection before that part is complete
    {"half": True}       half of the JSON, complete as HTTP
    {"garbage": b"…"}    any body at all
    {"stream": [{…}, b"…"]}  server-sent events: objects as data, bytes as they are, then [DONE];
                         with "close"/"hang": "body" the rest never comes, "undone": True no [DONE]
    {"answer": {…}}      this JSON as it is, such as a list of models
and with any of them "delay_s", "headers" (a dict) or "resolved" (X-Mana-LLM-Resolved).
Without "usage" none is reported. With `models` it lists those and knows no other, whatever plays.
It runs in a thread of its own, so that sync tests, async tests
and other processes can all use it.
"""

import asyncio
import json
import threading
from collections.abc import Iterable
from types import TracebackType
from typing import Any, Self

import msgspec

Entry = dict[str, Any]
DEFAULT: Entry = {"content": "fertig"}


class Recorded(msgspec.Struct, frozen=True):
    """One request as it arrived; header names are lower case, `body` is decoded JSON."""

    path: str
    headers: dict[str, str]
    body: Any
    raw: bytes


class FakeProvider:
    """Use as a context manager; `url` is the base address, `requests` what arrived so far."""

    def __init__(self, script: Iterable[Entry] = ()) -> None:
        self.script: list[Entry] = list(script)
        self.models: list[str] | None = None
        self.requests: list[Recorded] = []
        self.in_flight = 0
        self.most_in_flight = 0
        self._played = 0
        self._arrived = threading.Condition()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._ready = threading.Event()
        self._port = 0

    @property
    def url(self) -> str:
        """The address to give to a client."""
        return f"http://127.0.0.1:{self._port}"

    def wait_for_requests(self, count: int, timeout_s: float = 10.0) -> None:
        """Return once `count` requests have arrived; raises TimeoutError."""
        with self._arrived:
            if not self._arrived.wait_for(lambda: len(self.requests) >= count, timeout_s):
                raise TimeoutError(f"{len(self.requests)} of {count} requests arrived")

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._serve())
        self._loop.close()

    async def _serve(self) -> None:
        self._stop = asyncio.Event()
        server = await asyncio.start_server(self._connection, "127.0.0.1", 0)
        self._port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._stop.wait()
        server.close()
        await asyncio.sleep(0)  # who was let in just now gets a task of its own
        while others := asyncio.all_tasks() - {asyncio.current_task()}:
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)
            await asyncio.sleep(0)

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await self._exchange(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Serve one request; False when the connection is to be closed."""
        request = await _read_request(reader)
        if request.path.endswith("/aliases"):  # asked of routers for their prices; we are none
            return await FakeProvider._play(
                self, {"status": 404}, writer
            )  # at once, whatever plays
        if self.models is not None and (strict := _strict(request, self.models)) is not None:
            return await FakeProvider._play(self, strict, writer)
        entry = self._record(request)
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            await asyncio.sleep(entry.get("delay_s", 0))
            if "hang" in entry:
                return await self._hang(entry, reader, writer)
            return await self._play(entry, writer)
        finally:
            self.in_flight -= 1

    async def _hang(
        self, entry: Entry, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        """Hang until we are stopped, or the client goes away."""
        hanging = asyncio.create_task(self._play(entry, writer))
        left = asyncio.create_task(reader.read(1))
        try:
            await asyncio.wait({hanging, left}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            hanging.cancel()
            left.cancel()
        return False

    def _record(self, request: Recorded) -> Entry:
        with self._arrived:
            place = self._played
            self._played += 1
            self.requests.append(request)
            self._arrived.notify_all()
        return self.script[place] if place < len(self.script) else DEFAULT

    async def _play(self, entry: Entry, writer: asyncio.StreamWriter) -> bool:
        if entry.get("close") == "headers":
            return False
        if entry.get("hang") == "headers":
            await self._stop.wait()
            return False
        if "stream" in entry:
            return await self._play_stream(entry, writer)
        status, body = _rendered(entry)
        if entry.get("half"):
            body = body[: len(body) // 2]
        is_cut = "body" in (entry.get("hang"), entry.get("close"))
        writer.write(_head(status, len(body), entry) + body[: len(body) // 2 if is_cut else None])
        await writer.drain()
        if entry.get("hang") == "body":
            await self._stop.wait()
        return not is_cut

    async def _play_stream(self, entry: Entry, writer: asyncio.StreamWriter) -> bool:
        """Events in chunked encoding, one piece each."""
        head = "HTTP/1.1 200 Fake\r\ncontent-type: text/event-stream\r\n"
        writer.write(f"{head}transfer-encoding: chunked\r\n\r\n".encode())
        is_cut = "body" in (entry.get("hang"), entry.get("close"))
        end = [] if is_cut or entry.get("undone") else [b"data: [DONE]\n\n"]
        for piece in [*entry["stream"], *end]:
            raw = (
                piece if isinstance(piece, bytes) else b"data: %s\n\n" % json.dumps(piece).encode()
            )
            writer.write(b"%x\r\n%s\r\n" % (len(raw), raw))
            await writer.drain()
        if entry.get("hang") == "body":
            await self._stop.wait()
        writer.write(b"" if is_cut else b"0\r\n\r\n")
        return not is_cut


def _strict(request: Recorded, models: list[str]) -> Entry | None:
    """The answer of a service that has a list of models, and 404 for every other."""
    if request.path.endswith("/models"):
        return {"answer": {"object": "list", "data": [{"id": name} for name in models]}}
    if request.body is None or request.body.get("model") in models:
        return None
    message = f"model '{request.body.get('model')}' not found"
    error = {"message": message, "type": "not_found_error", "param": None, "code": None}
    return {"status": 404, "answer": {"error": error}}


async def _read_request(reader: asyncio.StreamReader) -> Recorded:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    pairs = (line.partition(":") for line in head[1:] if line)
    headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
    raw = await reader.readexactly(int(headers.get("content-length", "0")))
    body = json.loads(raw) if raw else None
    return Recorded(head[0].split(" ")[1], headers, body, raw)


def _head(status: int, length: int, entry: Entry) -> bytes:
    headers: dict[str, Any] = {"content-type": "application/json", "content-length": length}
    if "retry_after" in entry:
        headers["retry-after"] = entry["retry_after"]
    if "resolved" in entry:
        headers["x-mana-llm-resolved"] = entry["resolved"]
    headers |= entry.get("headers", {})
    lines = [f"HTTP/1.1 {status} Fake", *(f"{name}: {value}" for name, value in headers.items())]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def _rendered(entry: Entry) -> tuple[int, bytes]:
    if "garbage" in entry:
        return entry.get("status", 200), entry["garbage"]
    if "answer" in entry:
        return entry.get("status", 200), json.dumps(entry["answer"]).encode()
    if "status" in entry:
        return entry["status"], _failure(entry)
    return 200, json.dumps(_completion(entry)).encode()


def _failure(entry: Entry) -> bytes:
    if "text" in entry:
        return str(entry["text"]).encode()
    message = entry.get("message", "nein")
    detail = {"kind": entry["kind"], "message": message} if "kind" in entry else message
    return json.dumps({"detail": detail}).encode()


def _completion(entry: Entry) -> dict[str, Any]:
    calls = [_call(place, call) for place, call in enumerate(entry.get("calls", []))]
    message = {"role": "assistant", "content": entry.get("content"), "tool_calls": calls or None}
    finish = entry.get("finish") or ("tool_calls" if calls else "stop")
    answer: dict[str, Any] = {
        "id": "chatcmpl-fake",
        "object": "chat.completion",
        "model": "fake/model",
        "choices": [{"index": 0, "message": message, "finish_reason": finish}],
    }
    if entry.get("usage"):
        prompt, completion, *total = entry["usage"]
        answer["usage"] = {
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "total_tokens": total[0] if total else prompt + completion,
        }
    return answer


def _call(place: int, call: dict[str, Any]) -> dict[str, Any]:
    arguments = call.get("args", {})
    text = arguments if isinstance(arguments, str) else json.dumps(arguments)
    function = {"name": call["name"], "arguments": text}
    return {"id": call.get("id", f"call_{place}"), "type": "function", "function": function}
