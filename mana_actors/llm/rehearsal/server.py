"""The rehearsal model behind a chat-completions API, over real HTTP."""

import asyncio
import secrets
import socket
import threading
import time
from types import TracebackType
from typing import Any, Self

import msgspec
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mana_actors.json_values import JsonObject, as_object, objects_in
from mana_actors.llm.rehearsal.planner import MODEL, complete

MAX_REQUEST_BYTES = 16 * 1024 * 1024
START_TIMEOUT_S = 30.0


def rehearsal_app(token: str, *, latency_s: float = 0.0) -> Starlette:
    """An app that serves the rehearsal model to who brings `token`; answers after `latency_s`."""

    async def completions(request: Request) -> Response:
        if not _is_allowed(request, token):
            return _failure(401, "auth", "missing or wrong token")
        body, problem = await _request_body(request)
        if body is None:
            return _failure(400, "unknown", problem)
        await asyncio.sleep(latency_s)
        answer = complete(body) | {"created": int(time.time())}
        headers = {"X-Mana-LLM-Resolved": MODEL}
        if body.get("stream") is True:
            return Response(_events(answer), headers=headers, media_type="text/event-stream")
        return _json(answer, headers=headers)

    async def models(request: Request) -> Response:
        if not _is_allowed(request, token):
            return _failure(401, "auth", "missing or wrong token")
        model = {"id": MODEL, "object": "model", "created": 0, "owned_by": "mana"}
        return _json({"object": "list", "data": [model]})

    async def health(_request: Request) -> Response:
        return _json({"status": "healthy", "service": "mana-rehearsal"})

    return Starlette(
        routes=[
            Route("/v1/chat/completions", completions, methods=["POST"]),
            Route("/v1/models", models),
            Route("/health", health),
        ]
    )


class RehearsalServer:
    """The app on a port of its own, in a thread; use as a context manager, or start and stop.

    Port 0 takes a free one; `port` and `url` are known from the constructor on. Raises OSError if
    the address is taken.
    """

    def __init__(
        self, token: str, *, host: str = "127.0.0.1", port: int = 0, latency_s: float = 0.0
    ) -> None:
        self._socket = bound_socket(host, port)
        self.host, self.port = host, int(self._socket.getsockname()[1])
        self._server = _server(rehearsal_app(token, latency_s=latency_s))
        self._thread = threading.Thread(
            target=self._server.run, args=([self._socket],), daemon=True, name="rehearsal"
        )

    @property
    def url(self) -> str:
        """The base address for a client."""
        return f"http://{self.host}:{self.port}"

    def start(self) -> None:
        """Return once it answers; raises TimeoutError."""
        self._thread.start()
        give_up = time.monotonic() + START_TIMEOUT_S
        while not self._server.started:
            if time.monotonic() > give_up or not self._thread.is_alive():
                raise TimeoutError("the rehearsal model did not start")
            time.sleep(0.005)

    def stop(self) -> None:
        """Stop answering and free the port."""
        self._server.should_exit = True
        self._thread.join(START_TIMEOUT_S)
        self._socket.close()

    def __enter__(self) -> Self:
        """Start."""
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop."""
        self.stop()


async def serve(listening: socket.socket, token: str, *, latency_s: float = 0.0) -> None:
    """Serve the rehearsal model on a bound socket until cancelled."""
    await _server(rehearsal_app(token, latency_s=latency_s)).serve([listening])


def bound_socket(host: str, port: int) -> socket.socket:
    """A TCP socket bound to `host` and `port` (0 = any free one), not inherited by children."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Named as TCP, or asyncio leaves Nagle's algorithm on, and each answer waits for 40 ms.
    bound = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((host, port))
    except OSError:
        bound.close()
        raise
    return bound


def _server(app: Starlette) -> uvicorn.Server:
    config = uvicorn.Config(
        app, log_config=None, access_log=False, lifespan="off", timeout_graceful_shutdown=2
    )
    return uvicorn.Server(config)


def _is_allowed(request: Request, token: str) -> bool:
    given = request.headers.get("authorization", "").encode()
    return secrets.compare_digest(given, f"Bearer {token}".encode())


async def _request_body(request: Request) -> tuple[JsonObject | None, str]:
    """The JSON object a caller sent and "", or None and what is wrong with it."""
    raw = bytearray()
    async for chunk in request.stream():
        raw += chunk
        if len(raw) > MAX_REQUEST_BYTES:
            return None, f"body is larger than {MAX_REQUEST_BYTES} bytes"
    try:
        body = as_object(msgspec.json.decode(bytes(raw)))
    except (msgspec.DecodeError, RecursionError):
        return None, "body is not JSON"
    if body is None or not objects_in(body.get("messages")):
        return None, "messages: needs at least one"
    return body, ""


def _events(answer: JsonObject) -> bytes:
    """A whole answer as the event stream of it: what it says, its end, its usage."""
    (choice,) = objects_in(answer.get("choices"))
    message = as_object(choice.get("message")) or {}
    calls = enumerate(objects_in(message.get("tool_calls")))
    said = {"role": "assistant", "content": message.get("content")}
    delta = said | {"tool_calls": [call | {"index": place} for place, call in calls] or None}
    finish = choice.get("finish_reason")
    shared = answer | {"object": "chat.completion.chunk", "usage": None}
    chunks: list[JsonObject] = [
        shared | {"choices": [{"index": 0, "delta": delta, "finish_reason": None}]},
        shared | {"choices": [{"index": 0, "delta": {}, "finish_reason": finish}]},
        shared | {"choices": [], "usage": answer.get("usage")},
    ]
    lines = [b"data: " + msgspec.json.encode(chunk) for chunk in chunks]
    return b"\n\n".join([*lines, b"data: [DONE]", b""])


def _json(
    content: dict[str, Any], status: int = 200, headers: dict[str, str] | None = None
) -> Response:
    return Response(
        msgspec.json.encode(content), status, headers=headers, media_type="application/json"
    )


def _failure(status: int, kind: str, message: str) -> Response:
    return _json({"detail": {"kind": kind, "message": message}}, status)
