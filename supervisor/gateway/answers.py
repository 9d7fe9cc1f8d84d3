"""How a request is read, part by part, and how an error is told."""

from datetime import datetime
from typing import Any
from urllib.parse import parse_qsl

from starlette.requests import Request
from starlette.responses import Response

from mana_actors.http.bodies import BadRequest, answer
from mana_actors.http.paths import PathUnclear, text_of
from state.log.stamps import format_instant, instant_of
from state.runs.reasons import Language, codes_of, in_short, in_words

MAX_ID_BYTES = 512


def failure(status: int, error: str, field: str | None = None) -> Response:
    """One error, and the field it is about."""
    return answer({"error": error} | ({"field": field} if field else {}), status)


def path_part(request: Request, name: str) -> str:
    """An id from the path, which routing leaves percent-encoded, so that it may hold a slash."""
    try:
        return checked_id(name, text_of(request.path_params[name]))
    except PathUnclear as exc:
        raise BadRequest(name, str(exc)) from exc


def checked_id(field: str, text: str) -> str:
    """An id the database can hold; raises BadRequest."""
    if not text:
        raise BadRequest(field, "is empty")
    if "\0" in text:
        raise BadRequest(field, "holds a NUL character")
    if len(text.encode("utf-8", "surrogatepass")) > MAX_ID_BYTES:
        raise BadRequest(field, f"is longer than {MAX_ID_BYTES} bytes")
    return text


def query(request: Request, allowed: tuple[str, ...], *, blanks: bool = False) -> dict[str, str]:
    """The query's parameters, each at most once and each known; raises BadRequest.

    With `blanks` those without a value are left out, as forms send what nobody filled in.
    """
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
        if blanks and not value:
            continue
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


def instant_text(at: datetime | None) -> str | None:
    """An instant as every component writes it, None for none."""
    return None if at is None else format_instant(instant_of(at))


def why(reason: str | None, language: Language) -> dict[str, Any]:
    """What happened, with what happens next and what to do, and by code for programs."""
    return {
        "reason": in_short(reason, language) or None,
        "reasonText": in_words(reason, language) or None,
        "reasonCodes": codes_of(reason),
    }
