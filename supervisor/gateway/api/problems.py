"""Errors as RFC 9457 tells them: `application/problem+json`, with the fields that are wrong."""

from collections.abc import Iterable, Mapping
from http import HTTPStatus

import msgspec
from starlette.responses import Response

from mana_actors.http.bodies import NO_STORE, BadRequest
from state.log.own_changes import ChangeRefused
from state.store.connect import Refused, Unavailable
from state.store.gateway.own_log import KeyReused, NoSuchRecord, VersionConflict
from supervisor.gateway.people.rate import TooOften
from supervisor.gateway.people.tokens import TokenRefused
from supervisor.gateway.sign_in.door import ScopeLacking

MEDIA_TYPE = "application/problem+json"
MAX_NAME_CHARS = 64


class FieldProblem(msgspec.Struct, frozen=True):
    """A field of the request, and what is wrong with it."""

    field: str
    message: str


class ProblemDetails(msgspec.Struct, frozen=True, omit_defaults=True):
    """An error: its status, its kind in words, and the fields it is about."""

    title: str
    status: int
    detail: str | None = None
    errors: tuple[FieldProblem, ...] = ()


class ApiProblem(Exception):
    """A request that is refused, as its caller is told."""

    def __init__(self, status: int, detail: str, errors: Iterable[FieldProblem] = ()) -> None:
        self.status, self.detail, self.errors = status, detail, tuple(errors)
        super().__init__(status, detail, self.errors)


def invalid(*wrong: tuple[str, str]) -> ApiProblem:
    """Fields that are wrong, each with what it must be."""
    errors = [FieldProblem(field[:MAX_NAME_CHARS], message) for field, message in wrong]
    return ApiProblem(422, "some fields are wrong", errors)


def problem_response(
    status: int,
    detail: str | None = None,
    errors: Iterable[FieldProblem] = (),
    headers: Mapping[str, str] | None = None,
) -> Response:
    """The answer for an error."""
    told = ProblemDetails(HTTPStatus(status).phrase, status, detail, tuple(errors))
    given = NO_STORE | dict(headers or {})
    return Response(msgspec.json.encode(told), status, headers=given, media_type=MEDIA_TYPE)


def told_as_problem(status: int, message: str) -> Response:
    """A status and a few words."""
    return problem_response(status, message)


def problem_of(exc: Exception) -> Response | None:
    """The answer for an error that this API knows; None for others."""
    known = known_problem(exc)
    if known is None:
        return None
    told, headers = known
    return problem_response(told.status, told.detail, told.errors, headers)


def known_problem(exc: Exception) -> tuple[ApiProblem, dict[str, str]] | None:
    """What is told of an error that this API knows, and the headers beside it; None for others."""
    headers: dict[str, str] = {}
    match exc:
        case ApiProblem():
            told = exc
        case ChangeRefused():
            told = invalid((exc.field, exc.problem))
        case NoSuchRecord():
            told = ApiProblem(404, "you have nothing of this id")
        case VersionConflict():
            told = ApiProblem(412, "it was changed since you read it")
            headers["ETag"] = f'"{exc.now}"'
        case KeyReused():
            told = ApiProblem(422, "the Idempotency-Key was used for another request")
        case BadRequest():
            wrong = FieldProblem(exc.field[:MAX_NAME_CHARS], exc.problem)
            told = ApiProblem(exc.status, "the request cannot be read", [wrong])
        case TokenRefused():
            told = ApiProblem(401, exc.reason)
            headers["WWW-Authenticate"] = "Bearer"
        case ScopeLacking():
            told = ApiProblem(403, str(exc))
        case TooOften():
            told = ApiProblem(429, "too many requests just now")
            headers["Retry-After"] = str(exc.wait_s)
        case Refused(blames_a_value=True):
            told = ApiProblem(422, "the record is too large, or holds what cannot be kept")
        case Unavailable():
            told = ApiProblem(503, "the database does not answer")
        case _:
            return None
    return told, headers
