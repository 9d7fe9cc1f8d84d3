"""How this API's requests are read, and how one that changes something is carried out once."""

import hashlib
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from mana_actors.http.bodies import NO_STORE, read_body
from state.store.gateway.own_log import KeptAnswer, OwnLog, OwnWrites
from supervisor.custody.vaults import Caller
from supervisor.gateway.answers import checked_id, query, whole_number
from supervisor.gateway.api.problems import MAX_NAME_CHARS, ApiProblem, invalid
from supervisor.gateway.cursors import cursor, read_cursor

T = TypeVar("T")
MAX_BODY_BYTES = 512 * 1024
MAX_KEY_CHARS = 255
DEFAULT_LIMIT, MAX_LIMIT = 50, 200
_NAMED = re.compile(r"Object (missing required|contains unknown) field `(.*)`", re.DOTALL)
_WORDS = {"missing required": "is missing", "contains unknown": "is not known here"}
_BOUND = re.compile(r"Expected `(str|array|int)` (?:of length )?([<>]=) (-?[0-9]+)")
_BOUNDS = {
    ("str", ">="): "must not be empty",
    ("str", "<="): "must have at most {} characters",
    ("array", "<="): "must have at most {} entries",
    ("int", ">="): "must be at least {}",
    ("int", "<="): "must be at most {}",
}
"""What the decoder says of bounds, as people say it."""


class Done(msgspec.Struct, frozen=True):
    """What a request is answered: a status and JSON; its `version`, if it has one, is the ETag."""

    status: int
    content: dict[str, Any]


async def body_of(request: Request, kind: type[T]) -> T:
    """The request's JSON object as this struct; raises ApiProblem, naming the field."""
    raw = await read_body(request, MAX_BODY_BYTES)
    if raw is None:
        raise ApiProblem(413, f"the body is larger than {MAX_BODY_BYTES} bytes")
    try:
        return msgspec.json.decode(raw or b"{}", type=kind)
    except msgspec.ValidationError as exc:
        raise invalid(_said(str(exc))) from exc
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise ApiProblem(400, "the body is not JSON") from exc


def form_as(fields: Mapping[str, Any], kind: type[T]) -> T:
    """A form's fields as this struct; raises ApiProblem, naming the field."""
    try:
        return msgspec.convert(dict(fields), type=kind)
    except msgspec.ValidationError as exc:
        raise invalid(_said(str(exc))) from exc


def page_of(request: Request, *more: str) -> tuple[int, str | None, dict[str, str]]:
    """How many are wanted, after which id, and the other parameters; raises BadRequest."""
    given = query(request, ("limit", "after", *more))
    limit = whole_number("limit", given.pop("limit", str(DEFAULT_LIMIT)), 1, MAX_LIMIT)
    after = given.pop("after", None)
    key = None if after is None else checked_id("after", read_cursor(after, str, "after"))
    return limit, key, given


def next_page(last: str | None) -> str | None:
    """The cursor behind which a list goes on; None at its end."""
    return None if last is None else cursor(last)


def expected_version(request: Request) -> str | None:
    """The version that `If-Match` names, None where any will do."""
    given = request.headers.get("if-match", "*").strip()
    return None if given == "*" else given.removeprefix("W/").strip('"')


async def carried_out(
    request: Request,
    caller: Caller,
    log: OwnLog,
    asked: Any,
    act: Callable[[OwnWrites], Awaitable[Done]],
) -> Response:
    """What `act` answers, in one transaction; under an `Idempotency-Key` once, then from memory."""
    key = request.headers.get("idempotency-key")
    if key is not None and not (0 < len(key) <= MAX_KEY_CHARS and key.isprintable()):
        raise ApiProblem(
            400, f"the Idempotency-Key must have 1 to {MAX_KEY_CHARS} printable letters"
        )
    what = [request.method, request.scope["path"], asked, request.headers.get("if-match")]
    digest = hashlib.sha256(msgspec.json.encode(what, order="sorted")).hexdigest()
    async with log.acting(caller.user, caller.spaces) as own:
        kept = None if key is None else await own.answered(key, digest)
        if kept is not None:
            return _answer(kept, {"Idempotency-Replayed": "true"})
        done = await act(own)
        told = KeptAnswer(done.status, msgspec.json.encode(done.content).decode())
        if key is not None:
            await own.keep(key, told)
    return _answer(told, {})


async def changed(
    request: Request,
    caller: Caller,
    log: OwnLog,
    asked: Any,
    change: Callable[[OwnWrites], Awaitable[msgspec.Struct]],
) -> Response:
    """What `change` leaves of a record, carried out as above."""

    async def act(own: OwnWrites) -> Done:
        return Done(200, msgspec.to_builtins(await change(own)))

    return await carried_out(request, caller, log, asked, act)


def shown(content: dict[str, Any]) -> Response:
    """A record as JSON, with its version as the ETag."""
    return _answer(KeptAnswer(200, msgspec.json.encode(content).decode()), {})


def _answer(told: KeptAnswer, headers: dict[str, str]) -> Response:
    content: dict[str, Any] = msgspec.json.decode(told.body)
    if "version" in content:
        headers = headers | {"ETag": f'"{content["version"]}"'}
    return Response(
        told.body, told.status, headers=NO_STORE | headers, media_type="application/json"
    )


def _said(text: str) -> tuple[str, str]:
    """The field and the problem in a decoder's words, which hold types and names but no values."""
    said, _, place = text.partition(" - at `")
    place = place.removesuffix("`").removeprefix("$").removeprefix(".")
    named = _NAMED.fullmatch(said)
    if named:
        field = f"{place}.{named[2]}" if place else named[2]
        return field[:MAX_NAME_CHARS], _WORDS[named[1]]
    told = said.replace("`", "").replace("Expected", "must be")
    if bound := _BOUND.fullmatch(said):
        told = _BOUNDS.get((bound[1], bound[2]), told).format(bound[3])
    elif said.startswith("Invalid enum value"):  # and the value
        told = "must be one of the values that are known here"
    return place[:MAX_NAME_CHARS] or "body", told
