"""The API's description of itself: OpenAPI 3.1, made from the operations and their types."""

import re
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import msgspec
from starlette.responses import Response

from state.rules.scopes import Scope
from supervisor.gateway.api.problems import MEDIA_TYPE, ProblemDetails
from supervisor.gateway.api.requests import MAX_KEY_CHARS, MAX_LIMIT

_REF = "#/components/schemas/{name}"
_IN_PATH = re.compile(r"{(\w+)}")
_PROBLEMS = (400, 401, 403, 404, 409, 412, 413, 422, 429, 500, 503)
_ID = {"type": "string", "minLength": 1, "maxLength": 512}
_PAGE = (
    ("limit", {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT}, "How many at most."),
    ("after", {"type": "string"}, "Where an earlier page says that the list goes on."),
)
Json = dict[str, Any]
Asked = tuple[str, Json, str]
"""A parameter of a query: its name, its schema, and a sentence."""
Handler = Callable[..., Awaitable[Response]]


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that people ask for: its route, the scope it takes, and the types of both ways.

    `body` None: there is none. `gives` is the answer's type. What changes something takes an
    `Idempotency-Key`, and `If-Match` where it is `versioned`. `asks` are parameters of the query.
    Without `has_problems` it tells errors in an older way, as text or some JSON.
    """

    verb: str
    path: str
    scope: Scope
    handler: Handler
    summary: str
    gives: Any
    status: int = 200
    body: Any = None
    paged: bool = False
    asks: tuple[Asked, ...] = ()
    versioned: bool = False
    has_problems: bool = True


def reading(
    path: str,
    handler: Handler,
    summary: str,
    gives: Any,
    *,
    paged: bool = False,
    asks: tuple[Asked, ...] = (),
) -> Operation:
    """What only reads, and so takes that scope."""
    return Operation(
        verb="GET",
        path=path,
        scope="read",
        handler=handler,
        summary=summary,
        gives=gives,
        paged=paged,
        asks=asks,
    )


def description(operations: Sequence[Operation], version: str) -> Json:
    """The OpenAPI document."""
    types = [ProblemDetails, *(one.gives for one in operations)]
    types += [one.body for one in operations if one.body is not None]
    schemas, components = msgspec.json.schema_components(types, ref_template=_REF)
    by_type = dict(zip(map(id, types), schemas, strict=True))
    paths: dict[str, Json] = {}
    for one in operations:
        place = paths.setdefault(one.path, {})
        place[one.verb.lower()] = _operation(one, by_type)
    return {
        "openapi": "3.1.0",
        "info": {"title": "mana", "version": version},
        "security": [{"token": []}],
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _operation(of: Operation, by_type: dict[int, Json]) -> Json:
    parameters = [
        _parameter("path", name, _ID, required=True) for name in _IN_PATH.findall(of.path)
    ]
    if of.paged:
        parameters += [_parameter("query", name, kind, text) for name, kind, text in _PAGE]
    parameters += [_parameter("query", *one) for one in of.asks]
    if of.verb != "GET":
        key = {"type": "string", "minLength": 1, "maxLength": MAX_KEY_CHARS}
        parameters.append(_parameter("header", "Idempotency-Key", key, "Asking again is harmless."))
    if of.versioned:
        told = "The ETag that the change is meant for."
        parameters.append(_parameter("header", "If-Match", {"type": "string"}, told))
    problem: Json = {"content": {MEDIA_TYPE: {"schema": by_type[id(ProblemDetails)]}}}
    if not of.has_problems:
        problem = {
            "content": {"application/json": {"schema": {"type": "object"}}, "text/plain": {}}
        }
    told = {str(status): {"description": "a problem", **problem} for status in _PROBLEMS}
    good = {"application/json": {"schema": by_type[id(of.gives)]}}
    told[str(of.status)] = {"description": "what was asked for", "content": good}
    described: Json = {
        "summary": of.summary,
        "description": f"Takes the scope `{of.scope}`.",
        "parameters": parameters,
        "responses": told,
    }
    if of.body is not None:
        content = {"application/json": {"schema": by_type[id(of.body)]}}
        described["requestBody"] = {"required": True, "content": content}
    return described


def _parameter(
    where: str, name: str, kind: Json, text: str = "", *, required: bool = False
) -> Json:
    told = {"name": name, "in": where, "required": required, "schema": kind}
    return told | ({"description": text} if text else {})
