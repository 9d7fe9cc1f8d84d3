"""A page: a template, its reader, and the headers that keep it to itself."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib import resources
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mana_actors.http.bodies import BadRequest
from state.runs.reasons import Language
from supervisor.gateway.pages import words
from supervisor.gateway.pages.filters import FILTERS
from supervisor.gateway.pages.reader import Reader
from supervisor.gateway.pages.translations import translations_of

HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self';"
        " img-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    # Not "no-referrer": with that a browser says "Origin: null" of our own forms.
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
ASSETS = {"style.css": "text/css", "page.js": "text/javascript", "icon.svg": "image/svg+xml"}
A_YEAR_S = 31_536_000


def page(reader: Reader, name: str, status: int = 200, **values: Any) -> Response:
    """A page from its template."""
    html = templates(reader.language).get_template(name).render(reader=reader, **values)
    return Response(html, status, headers=HEADERS, media_type="text/html")


def problem_page(reader: Reader, status: int, what: str, then: str = "") -> Response:
    """An error as a page: what happened and what to do."""
    return page(reader, "problem.html", status, code=status, what=what, then=then)


def seen(path: str) -> Response:
    """Where a browser goes after a form; a path of ours."""
    return Response(status_code=303, headers=HEADERS | {"Location": path})


def asset_routes() -> list[Route]:
    """What pages load: files of ours by name, which change their address with their content."""

    async def asset(request: Request) -> Response:
        name = request.path_params["name"]
        if name not in ASSETS:
            raise HTTPException(404)
        if request.url.query not in ("", f"v={_digest(name)}"):
            raise BadRequest("v", "is no version of this file")
        keep = f"public, max-age={A_YEAR_S}, immutable" if request.url.query else "no-cache"
        headers = HEADERS | {"Cache-Control": keep}
        return Response(_content(name), headers=headers, media_type=ASSETS[name])

    return [Route("/assets/{name}", asset)]


def asset(name: str) -> str:
    """The address of what is in a file now."""
    return f"/assets/{name}?v={_digest(name)}"


@cache
def templates(language: Language) -> Environment:
    """The templates, as they read in a language."""
    environment = Environment(
        loader=PackageLoader("supervisor.gateway.pages"),
        autoescape=select_autoescape(default=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=["jinja2.ext.i18n"],
    )
    environment.install_gettext_translations(  # pyright: ignore[reportAttributeAccessIssue]
        translations_of(language), newstyle=True
    )
    environment.filters.update(FILTERS)
    more: dict[str, Any] = {
        "asset": asset,
        "clock": words.clock,
        "date_line": words.date_line,
        "day": words.day,
        "greeting": words.greeting,
        "languages": words.language_names(),
        "zone_name": words.zone_name,
    }
    environment.globals.update(more)
    return environment


@cache
def _content(name: str) -> bytes:
    return resources.files("supervisor.gateway.pages").joinpath("assets", name).read_bytes()


@cache
def _digest(name: str) -> str:
    return hashlib.sha256(_content(name)).hexdigest()[:12]
