"""What goes in and out: bounded, strictly decoded requests; JSON answers with one clear error."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from urllib.parse import parse_qsl, unquote_to_bytes

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from state.log.stamps import format_instant, instant_of

MAX_BODY_BYTES = 64 * 1024
MAX_ID_BYTES = 512
NO_STORE = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}


class BadRequest(Exception):
    """What a caller sent cannot be; names the field."""

    def __init__(self, field: str, problem: str, status: int = 400) -> None:
        super().__init__(field, problem, status)
        self.field, self.problem, self.status = field, problem, status


def answer(content: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """JSON that nobody caches."""
    return Response(
        msgspec.json.encode(content),
        status,
        headers=NO_STORE | dict(headers or {}),
        media_type="application/json",
    )


def failure(status: int, error: str, field: str | None = None) -> Response:
    """One error, and the field it is about."""
    return answer({"error": error} | ({"field": field} if field else {}), status)


def path_part(request: Request, name: str) -> str:
    """An id from the path, which routing leaves percent-encoded, so that it may hold a slash."""
    return checked_id(name, _text(name, unquote_to_bytes(request.path_params[name])))


def checked_id(field: str, text: str) -> str:
    """An id the database can hold; raises BadRequest."""
    if not text:
        raise BadRequest(field, "is empty")
    if "\0" in text:
        raise BadRequest(field, "holds a NUL character")
    if len(text.encode("utf-8", "surrogatepass")) > MAX_ID_BYTES:
        raise BadRequest(field, f"is longer than {MAX_ID_BYTES} bytes")
    return text


def query(request: Request, allowed: tuple[str, ...]) -> dict[str, str]:
    """The query's parameters, each at most once and each known; raises BadRequest."""
    raw: bytes = request.scope.get("query_string", b"")
    try:
        pairs = parse_qsl(
            raw.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=32
        )
    except ValueError as exc:  # not ASCII, not UTF-8, or too many
        raise BadRequest("query", "is not percent-encoded UTF-8") from exc
    found: dict[str, str] = {}
    for name, value in pairs:
        if name not in allowed:
            raise BadRequest(name[:64], f"is not known here; known are {', '.join(allowed)}")
        if name in found:
            raise BadRequest(name, "is given twice")
        found[name] = checked_id(name, value)
    return found


def whole_number(field: str, text: str, lowest: int, highest: int) -> int:
    """A whole number in a range; raises BadRequest."""
    digits = text.isascii() and text.isdigit() and len(text) <= 12
    if not digits or not lowest <= int(text) <= highest:
        raise BadRequest(field, f"must be a whole number from {lowest} to {highest}")
    return int(text)


def yes_or_no(field: str, text: str) -> bool:
    """A flag; raises BadRequest."""
    if text not in ("true", "false"):
        raise BadRequest(field, "must be true or false")
    return text == "true"


async def body(request: Request, limit: int = MAX_BODY_BYTES) -> dict[str, Any]:
    """The JSON object a caller sent; raises BadRequest, also when it is too large."""
    raw = bytearray()
    async for chunk in request.stream():
        raw += chunk
        if len(raw) > limit:
            raise BadRequest("body", f"is larger than {limit} bytes", 413)
    try:
        return msgspec.json.decode(bytes(raw), type=dict[str, Any])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
        raise BadRequest("body", "is not a JSON object") from exc


def _text(field: str, raw: bytes) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as exc:
        raise BadRequest(field, "is not UTF-8") from exc


def instant_text(at: datetime | None) -> str | None:
    """An instant as every component writes it, None for none."""
    return None if at is None else format_instant(instant_of(at))
