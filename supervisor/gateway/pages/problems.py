"""Errors as pages in the same clothes; for programs they stay JSON."""

from __future__ import annotations

import logging

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from mana_actors.logs import without_text
from state.proposals.answers import AnswerRefused
from state.runs.reasons import Language
from state.store.gateway.control import NotPossible
from supervisor.gateway.api.problems import ApiProblem, known_problem
from supervisor.gateway.operators.control import Missing
from supervisor.gateway.pages.forms import NotOurForm
from supervisor.gateway.pages.owner.parts.field_words import field_said
from supervisor.gateway.pages.owner.parts.refusal_words import refusal_said
from supervisor.gateway.pages.page import problem_page
from supervisor.gateway.pages.reader import Reader, reader_of
from supervisor.gateway.pages.translations import translations_of
from supervisor.gateway.people.rate import TooOften
from supervisor.gateway.sign_in.office import NotOurs
from supervisor.gateway.supervisor import SupervisorSilent

log = logging.getLogger("mana.gateway")
FOR_PROGRAMS = ("/api/", "/internal", "/metrics", "/health")


def said_of(exc: Exception, language: Language) -> tuple[int, str, str]:
    """An error's status, what happened, and what to do, in words."""
    _ = translations_of(language).gettext
    match exc:
        case NotOurForm():
            told = 403, _("That form was not sent from this page"), _("Go back, reload, try again.")
        case Missing():
            told = 404, _("There is nothing here"), exc.problem
        case NotPossible() | AnswerRefused():
            told = 409, _("That is not possible just now"), refusal_said(exc.why, language)
        case TooOften():
            wait = _("Try again in %(seconds)s seconds.") % {"seconds": exc.wait_s}
            told = 429, _("Too often just now"), wait
        case NotOurs():
            told = said_of_status(404, "", language)
        case SupervisorSilent():
            told = said_of_status(503, "", language)
        case HTTPException():
            told = said_of_status(exc.status_code, "", language)
        case _ if (known := known_problem(exc)) is not None:
            told = said_of_status(known[0].status, details_of(known[0], language), language)
        case _:
            log.error("page_failed error=%s", type(exc).__name__, exc_info=without_text(exc))
            told = said_of_status(500, "", language)
    return told


def details_of(problem: ApiProblem, language: Language) -> str:
    """What is wrong, field by field where it is about fields."""
    told = "; ".join(field_said(one, language) for one in problem.errors)
    return told or refusal_said(problem.detail, language)


def said_of_status(status: int, detail: str, language: Language) -> tuple[int, str, str]:
    """A status in words, with what is known beside it."""
    _ = translations_of(language).gettext
    known = {
        400: (_("That address or form cannot be read"), detail or _("Go back and try again.")),
        401: (_("Not signed in"), _("Sign in by a link, then come back.")),
        403: (_("That is not yours to do"), detail),
        404: (_("There is nothing here"), _("It may be deleted, or the address is not whole.")),
        405: (_("That cannot be done here"), _("Go back and use the button on the page.")),
        409: (_("That is not possible just now"), detail),
        412: (_("It was changed meanwhile"), _("Look at it again, then decide.")),
        422: (_("Something is not right yet"), detail),
        429: (_("Too often just now"), detail or _("Try again in a moment.")),
        503: (_("That did not work just now"), _("Try again in a moment.")),
    }
    what, then = known.get(
        status, (_("Something went wrong here"), _("It is noted in the log. Try again later."))
    )
    return status, what, then


def problem_told(reader: Reader, exc: Exception) -> Response:
    """The page for an error."""
    return problem_page(reader, *said_of(exc, reader.language))


class ToldAsRead:
    """An error as whoever asked reads it: a page for a browser, else the answer for programs."""

    def __init__(self, plain: ASGIApp, status: int, language: Language, zone: str) -> None:
        self._plain, self._status = plain, status
        self._language: Language = language
        self._zone = zone

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer with one or the other."""
        request = Request(scope)
        is_page = "text/html" in request.headers.get("accept", "")
        if not is_page or scope["path"].startswith(FOR_PROGRAMS):
            await self._plain(scope, receive, send)
            return
        reader = reader_of(request, self._language, self._zone)
        told = said_of_status(self._status, "", reader.language)
        await problem_page(reader, *told)(scope, receive, send)
