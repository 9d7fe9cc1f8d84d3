"""Triage, the operators' first page: what needs somebody, worst first, each with what helps."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from mana_actors.http.bodies import BadRequest
from state.errors import StateError
from state.store.gateway.triage import TROUBLES, TriageStore, TroubleGroup, TroubleKind, TroubleRow
from supervisor.gateway.answers import query
from supervisor.gateway.cursors import cursor, read_cursor
from supervisor.gateway.deps import Deps, facts
from supervisor.gateway.operators.limits import warnings_of
from supervisor.gateway.pages.page import page
from supervisor.gateway.pages.reader import Reader
from supervisor.gateway.pages.translations import translations_of
from supervisor.health.judgement import health
from supervisor.health.remedies import remedy

ROWS = 10
ROWS_OF_ONE = 50


class GroupShown(msgspec.Struct, frozen=True):
    """A group as the page draws it; `after` continues it."""

    kind: TroubleKind
    count: int
    rows: list[TroubleRow]
    after: str | None


async def triage_page(deps: Deps, request: Request, reader: Reader) -> Response:
    """`/`; `kind` shows one group, page by page."""
    given = query(request, ("kind", "after"))
    kind = given.get("kind")
    if kind is not None and kind not in TROUBLES:
        raise BadRequest("kind", f"must be one of {', '.join(TROUBLES)}")
    after = read_cursor(given["after"], tuple[str, str], "after") if "after" in given else None
    found = await facts(deps)
    groups: list[GroupShown] = []
    warnings: list[str] = []
    limit = ROWS if kind is None else ROWS_OF_ONE
    with suppress(StateError):  # what is wrong with the database is among the signs
        if found.shards is not None:
            read = await TriageStore(deps.fleet.database).groups(limit, only=kind, after=after)
            groups = [_shown(one, limit) for one in read]
            warnings = [*await warnings_of(deps, await deps.fleet.limits())]
    is_empty = False
    if deps.owners is not None and deps.owners.office is not None:
        with suppress(StateError):
            is_empty = not await deps.owners.office.people.has_people()
    judged = health(found, deps.settings, deps.version)
    names = trouble_names(reader)
    values: dict[str, Any] = {
        "health": judged,
        "signs": judged.signs,
        "warnings": warnings,
        "groups": groups,
        "names": names,
        "calm": [names[one.kind] for one in groups if not one.count],
        "remedy": remedy,
        "is_empty": is_empty,
    }
    return page(reader, "operator/triage.html", **values)


def trouble_names(reader: Reader) -> dict[TroubleKind, str]:
    """What each group is called."""
    _ = translations_of(reader.language).gettext
    return {
        "stuck": _("Stuck"),
        "failed": _("Failed for good"),
        "overdue": _("Overdue"),
        "budget": _("Blocked by budget"),
        "grant": _("Blocked by a grant"),
        "damaged": _("Cannot run as they are"),
        "quarantined": _("Rows set aside"),
    }


def _shown(group: TroubleGroup, limit: int) -> GroupShown:
    last = group.rows[-1] if len(group.rows) == limit else None
    after = None if last is None else cursor((last.user_id, last.id))
    return GroupShown(group.kind, group.count, group.rows, after)
