"""The rehearsal model behind a chat-completions API, over real HTTP."""

import asyncio
import logging
import threading
import time
from types import TracebackType
from typing import Self

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, Router
from starlette.types import ASGIApp, Scope

from mana_actors.http.bodies import BadRequest, answer, json_object
from mana_actors.http.door import vouch_for
from mana_actors.http.edge import Edge, has_bearer
from mana_actors.http.server import server_of
from mana_actors.http.sockets import bound_socket
from mana_actors.json_values import JsonObject, as_object, objects_in
from mana_actors.llm.rehearsal.planner import MODEL, complete

log = logging.getLogger("mana.llm")

MAX_REQUEST_BYTES = 16 * 1024 * 1024
START_TIMEOUT_S = 30.0


def rehearsal_app(token: str, *, latency_s: float = 0.0) -> ASGIApp:
    """The rehearsal model for callers that bring `token`; it answers after `latency_s`."""

    async def completions(request: Request) -> Response:
        body = await json_object(request, MAX_REQUEST_BYTES)
        if not objects_in(body.get("messages")):
            raise BadRequest("messages", "needs at least one")
        await asyncio.sleep(latency_s)
        completion = complete(body) | {"created": int(time.time())}
        headers = {"X-Mana-LLM-Resolved": MODEL}
        if body.get("stream") is True:
            return Response(_events(completion), headers=headers, media_type="text/event-stream")
        return answer(completion, headers=headers)

    async def models(_: Request) -> Response:
        model = {"id": MODEL, "object": "model", "created": 0, "owned_by": "mana"}
        return answer({"object": "list", "data": [model]})

    async def health(_: Request) -> Response:
        return answer({"status": "healthy", "service": "mana-rehearsal"})

    def guard(scope: Scope) -> Response | None:
        if has_bearer(scope, token):
            vouch_for(scope)
            return None
        if scope["path"] == "/health":
            return None
        return _failure(401, "missing or wrong token")

    def known(exc: Exception) -> Response | None:
        return _failure(400, str(exc)) if isinstance(exc, BadRequest) else None

    routes = [
        Route("/v1/chat/completions", completions, methods=["POST"]),
        Route("/v1/models", models),
        Route("/health", health),
    ]
    return Edge(
        Router(routes=routes, redirect_slashes=False),
        guard=guard,
        known=known,
        refusal=_failure,
        log=log,
    )


class RehearsalServer:
    """The app on a port of its own, in a thread; use as a context manager, or start and stop.

    Port 0 takes a free one; `port` and `url` are known from the constructor on. Raises
    CannotListen if the address is taken.
    """

    def __init__(
        self, token: str, *, host: str = "127.0.0.1", port: int = 0, latency_s: float = 0.0
    ) -> None:
        self._socket = bound_socket(host, port)
        self.host, self.port = host, int(self._socket.getsockname()[1])
        self._server = server_of(rehearsal_app(token, latency_s=latency_s))
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


def _failure(status: int, message: str) -> Response:
    kind = "auth" if status == 401 else "unknown"
    return answer({"detail": {"kind": kind, "message": message}}, status)
