"""Who reads a page, and how: by which way, in which language and zone, in light or dark."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Literal, get_args
from zoneinfo import ZoneInfo

import msgspec
from starlette.requests import Request

from state.runs.reasons import Language, language_of

LANGUAGE, THEME = "mana_language", "mana_theme"
"""Cookies with what a browser's person prefers; they let nobody in."""

Theme = Literal["auto", "light", "dark"]
LANGUAGES: dict[str, Language] = {one: one for one in get_args(Language)}
THEMES: dict[str, Theme] = {one: one for one in get_args(Theme)}

Way = Literal["owner", "operator", "nobody"]


class Reader(msgspec.Struct, frozen=True, kw_only=True):
    """One look at a page: `path` and `query` say where; `seal` is what its forms bring back."""

    way: Way = "nobody"
    name: str = ""
    language: Language
    theme: Theme
    zone: ZoneInfo
    now: datetime
    path: str
    query: str = ""
    seal: str = ""
    waiting: int = 0  # proposals that wait for an answer
    opened: int = 0  # times that an operator opened their texts, which they have not seen yet


def reader_of(request: Request, language: Language, zone: str) -> Reader:
    """Whoever sends a request, as far as cookies and headers say; else in the deployment's way."""
    accepted = language_of(request.headers.get("accept-language"), language)
    return Reader(
        language=LANGUAGES.get(request.cookies.get(LANGUAGE, ""), accepted),
        theme=THEMES.get(request.cookies.get(THEME, ""), "auto"),
        zone=ZoneInfo(zone),
        now=datetime.now(UTC),
        path=request.scope["path"],
        query=request.url.query,
    )
