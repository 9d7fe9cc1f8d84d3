"""JSON in and out: request bodies are bounded and strictly decoded, answers are not cached."""

from collections.abc import Mapping
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from mana_actors.json_values import JsonObject

MAX_BODY_BYTES = 64 * 1024
NO_STORE = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}


class BadRequest(Exception):
    """A request is wrong; names the field and never shows its value."""

    def __init__(self, field: str, problem: str, status: int = 400) -> None:
        super().__init__(field, problem, status)
        self.field, self.problem, self.status = field, problem, status

    def __str__(self) -> str:
        return f"{self.field}: {self.problem}"


async def read_body(request: Request, limit: int) -> bytes | None:
    """The bytes a caller sent; None where there are more than `limit`, of which no more is read."""
    raw = bytearray()
    async for chunk in request.stream():
        raw += chunk
        if len(raw) > limit:
            return None
    return bytes(raw)


async def json_object(request: Request, limit: int = MAX_BODY_BYTES) -> JsonObject:
    """The JSON object a caller sent, of `limit` bytes at most; raises BadRequest (400, 413)."""
    raw = await read_body(request, limit)
    if raw is None:
        raise BadRequest("body", f"is larger than {limit} bytes", 413)
    try:
        return msgspec.json.decode(raw, type=dict[str, Any])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
        raise BadRequest("body", "is not a JSON object") from exc


def answer(content: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A JSON answer that must not be cached."""
    return Response(
        msgspec.json.encode(content),
        status,
        headers=NO_STORE | dict(headers or {}),
        media_type="application/json",
    )
