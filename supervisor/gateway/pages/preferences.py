"""Language and theme: kept in a cookie of the browser that chose them."""

from __future__ import annotations

import re

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mana_actors.http.names import Names
from state.runs.reasons import Language
from supervisor.gateway.answers import query
from supervisor.gateway.pages.forms import NotOurForm, form_of
from supervisor.gateway.pages.page import seen
from supervisor.gateway.pages.problems import problem_told
from supervisor.gateway.pages.reader import LANGUAGE, LANGUAGES, THEME, THEMES, reader_of

A_YEAR_S = 31_536_000
_OWN_PATH = re.compile(r"/(?:[A-Za-z0-9._~%:-][A-Za-z0-9._~%:/-]*)?(?:\?[A-Za-z0-9._~%:/?&=+-]*)?")
CHOICES = {"language": (LANGUAGE, set(LANGUAGES)), "theme": (THEME, set(THEMES))}


def own_path(text: str, otherwise: str) -> str:
    """A path of this server that a form names to come back to; never another server's."""
    return text if _OWN_PATH.fullmatch(text) else otherwise


def preference_routes(names: Names, language: Language, zone: str) -> list[Route]:
    """`POST /preferences`."""

    async def choose(request: Request) -> Response:
        query(request, ())
        if not names.is_own_page(request.scope):
            return problem_told(reader_of(request, language, zone), NotOurForm())
        given = await form_of(request)
        response = seen(own_path(given.get("back", "/"), "/"))
        for field, (cookie, known) in CHOICES.items():
            if given.get(field) in known:
                response.set_cookie(
                    cookie,
                    given[field],
                    max_age=A_YEAR_S,
                    httponly=True,
                    samesite="lax",
                    secure=request.headers["origin"].startswith("https:"),
                )
        return response

    return [Route("/preferences", choose, methods=["POST"])]
