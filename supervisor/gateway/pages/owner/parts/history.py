"""What became of an agent's due times, filtered, page by page."""

from __future__ import annotations

from datetime import timedelta
from urllib.parse import urlencode

import msgspec

from mana_actors.http.bodies import BadRequest
from state.store.own.glance import Happened, HistoryFilter, HistoryPlace
from supervisor.gateway.cursors import cursor, read_cursor
from supervisor.gateway.pages.owner.gate import Visit
from supervisor.gateway.pages.reader import Reader
from supervisor.gateway.pages.translations import translations_of

LINES = 20
KEPT = timedelta(days=90)
OUTCOMES = ("ran", "not-run", "failed", "under-way")
ANY = "any"
FIELDS = ("mission", "outcome", "after")
"""What of a page's query is this part's."""


class History(msgspec.Struct, frozen=True):
    """Lines that fit a filter, and the queries of the pages behind and at the beginning."""

    lines: list[Happened]
    mission: str | None
    outcome: str | None
    older: str | None
    newest: str | None


async def history_of(visit: Visit, agent: str, given: dict[str, str]) -> History:
    """The page that a query asks for; raises BadRequest."""
    wish = {name: given[name] for name in ("mission", "outcome") if given.get(name, ANY) != ANY}
    outcome, mission, after = wish.get("outcome"), wish.get("mission"), given.get("after")
    if outcome not in (None, *OUTCOMES):
        raise BadRequest("outcome", f"must be one of {', '.join(OUTCOMES)}")
    found = await visit.owners.glance.history(
        visit.caller.user,
        visit.reader.now - KEPT,
        LINES + 1,
        HistoryFilter(agent=agent, mission=mission, outcome=outcome),
        None if after is None else read_cursor(after, HistoryPlace, "after"),
    )
    older = None
    if len(found) > LINES:
        last = found[LINES - 1]
        place = cursor(HistoryPlace(last.at, last.mission_id, last.due_at))
        older = urlencode({**wish, "after": place})
    newest = None if after is None else urlencode(wish)
    return History(found[:LINES], mission, outcome, older, newest)


def outcome_words(reader: Reader) -> dict[str, str]:
    """What each outcome is called."""
    _ = translations_of(reader.language).gettext
    return {
        "ran": _("ran"),
        "not-run": _("not run"),
        "failed": _("failed"),
        "under-way": _("under way"),
    }
