"""Triage, the operators' first page: what needs somebody, worst first, each with what helps."""

from __future__ import annotations

from contextlib import suppress
from typing import Any
from urllib.parse import urlencode

from starlette.requests import Request

from state.errors import StateError
from state.runs.reasons import told
from state.store.gateway.triage import TriageStore, TroubleGroup, TroubleKind, TroubleRow
from supervisor.gateway.answers import query
from supervisor.gateway.cursors import cursor
from supervisor.gateway.deps import Deps, facts
from supervisor.gateway.operators.api import trouble_filter
from supervisor.gateway.operators.limits import warnings_of
from supervisor.gateway.pages.reader import Reader
from supervisor.gateway.pages.translations import translations_of
from supervisor.health.judgement import health
from supervisor.health.remedies import remedy
from supervisor.node.models import is_rehearsing

ROWS = 10
ROWS_OF_ONE = 50


async def triage_values(deps: Deps, request: Request) -> dict[str, Any]:
    """`/`; `kind` shows one group, page by page. Raises BadRequest."""
    wanted = trouble_filter(query(request, ("kind", "before")))
    limit = ROWS if wanted.only is None else ROWS_OF_ONE
    found = await facts(deps)
    groups: list[TroubleGroup] = []
    warnings: list[str] = []
    with suppress(StateError):  # what is wrong with the database is among the signs
        if found.shards is not None:
            groups = await TriageStore(deps.fleet.database).groups(limit, wanted)
            warnings = [*await warnings_of(deps, await deps.fleet.limits())]
    is_empty = False
    if deps.owners is not None and deps.owners.office is not None:
        with suppress(StateError):
            is_empty = not await deps.owners.office.people.has_people()
    judged = health(found, deps.settings, deps.version)
    return {
        "health": judged,
        "signs": judged.signs,
        "warnings": warnings,
        "groups": groups,
        "calm": [one.kind for one in groups if not one.count],
        "remedy": remedy,
        "limit_link": limit_link,
        "cursor": cursor,
        "is_empty": is_empty,
        "rehearses": is_rehearsing(deps.settings),
    }


def limit_link(row: TroubleRow) -> str:
    """The form of the limit that a mission waits for: its agent's, its person's, everybody's."""
    user, agent = {"user": row.user_id}, {"agent": row.agent_id or ""}
    for kind, whose in (("installation", {}), ("user", user)):
        if told("limit-used", scope=kind, unit="").rpartition(" in ")[0] in (row.reason or ""):
            return f"/limits?{urlencode({'kind': kind, **whose})}#set"
    return f"/limits?{urlencode({'kind': 'agent', **user, **agent})}#set"


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
