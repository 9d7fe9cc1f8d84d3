"""Data access: who looked at which record, when, for which run; which operators opened texts."""

from __future__ import annotations

import asyncio
from datetime import date, datetime, time, timedelta
from urllib.parse import urlencode
from uuid import UUID

import msgspec
from starlette.responses import Response

from mana_actors.http.bodies import BadRequest
from state.store.gateway.own_log import NoSuchRecord
from state.store.owner import AuditFilter, AuditRow
from supervisor.gateway.answers import query
from supervisor.gateway.cursors import cursor, read_cursor
from supervisor.gateway.pages.owner.consent.outcomes import (
    OUTCOMES,
    VIOLATIONS,
    is_violation,
    outcome_of,
    reason_said,
)
from supervisor.gateway.pages.owner.consent.records import kind_of, record_names
from supervisor.gateway.pages.owner.gate import Visit
from supervisor.gateway.pages.owner.overview import Overview, overview_of
from supervisor.gateway.pages.page import page, seen
from supervisor.gateway.pages.translations import translations_of
from supervisor.gateway.people.audit import AuditPlace

ROWS = 50
MOST_OPENINGS, MOST_VIOLATIONS = 20, 5
RECENT = timedelta(days=30)
FILTERS = ("agent", "mission", "record", "outcome", "from", "to")


class LookShown(msgspec.Struct, frozen=True, kw_only=True):
    """One row as the page draws it; `record` is `table:id`, empty where a key was asked for.

    `granted` counts the records that a key without a word opens.
    """

    key: str
    at: datetime
    agent: str
    mission_id: str
    mission: str
    record: str
    name: str
    state: str
    why: str
    run_id: str | None
    grant_ends_at: datetime | None
    release: str
    exposures: list[str]
    granted: int


async def get_access(visit: Visit) -> Response:
    """`/me/access`."""
    given = query(visit.request, (*FILTERS, "before"), blanks=True)
    wanted = audit_filter(given, visit)
    before = read_cursor(given["before"], AuditPlace) if "before" in given else None
    owners, user, reader = visit.owners, visit.caller.user, visit.reader
    overview, rows, noticed, openings = await asyncio.gather(
        overview_of(visit),
        owners.view.trail(user, wanted, ROWS + 1, before),
        owners.view.trail(
            user, AuditFilter(statuses=VIOLATIONS, since=reader.now - RECENT), MOST_VIOLATIONS * 4
        ),
        owners.openings.list(user, MOST_OPENINGS),
    )
    shown = rows[:ROWS]
    violations = [row for row in noticed if is_violation(row, reader.now)]
    filtered = {name: given[name] for name in FILTERS if name in given}
    table, _, id_ = given.get("record", "").partition(":")
    places = [(row.table_name, row.record_id) for row in (*violations, *shown) if row.table_name]
    names = await record_names(visit, [*([(table, id_)] if table else []), *places])
    more = cursor((shown[-1].ts, shown[-1].key)) if len(rows) > ROWS else None
    return page(
        reader,
        "owner/access.html",
        looks=[_look(row, names, overview, visit) for row in shown],
        violations=[_look(row, names, overview, visit) for row in violations[:MOST_VIOLATIONS]],
        many=len(violations) > MOST_VIOLATIONS,
        openings=openings,
        new=[one for one in openings if one.is_new],
        given={name: filtered.get(name) for name in FILTERS},
        is_filtered=bool(filtered),
        record_name=names.get((table, id_)),
        agents={one.id: one.name for one in overview.agents.values()},
        missions={one: overview.title(one, reader) for one in overview.missions},
        outcomes=list(OUTCOMES),
        overview=overview,
        filters=urlencode(filtered),
        older=None if more is None else urlencode({**filtered, "before": more}),
        is_first=before is None,
    )


async def post_seen(visit: Visit) -> Response:
    """This person has seen an opening and those before it; a later one is still told."""
    query(visit.request, ())
    try:
        up_to = UUID(visit.form.get("opening", ""))
    except ValueError:
        raise BadRequest("opening", "is no id") from None
    if not await visit.owners.openings.seen(visit.caller.user, up_to):
        raise NoSuchRecord
    return seen("/me/access")


def audit_filter(given: dict[str, str], visit: Visit) -> AuditFilter:
    """What the query of the page and of exports asks for; raises BadRequest."""
    record = None
    if "record" in given:
        table, colon, id_ = given["record"].partition(":")
        if not (table and colon and id_):
            raise BadRequest("record", "must be table:id")
        record = table, id_
    outcome = given.get("outcome")
    if outcome is not None and outcome not in OUTCOMES:
        raise BadRequest("outcome", f"must be one of {', '.join(OUTCOMES)}")
    since, last = _day(given, "from", visit), _day(given, "to", visit)
    return AuditFilter(
        mission=given.get("mission"),
        agent=given.get("agent"),
        record=record,
        statuses=None if outcome is None else OUTCOMES[outcome],
        since=since,
        until=None if last is None else last + timedelta(days=1),
    )


def _day(given: dict[str, str], field: str, visit: Visit) -> datetime | None:
    """The begin of a day in the reader's zone."""
    if field not in given:
        return None
    try:
        day = date.fromisoformat(given[field])
    except ValueError:
        raise BadRequest(field, "must be a day like 2026-11-27") from None
    if not 1970 <= day.year <= 9000:
        raise BadRequest(field, "must be a day like 2026-11-27")
    return datetime.combine(day, time.min, visit.reader.zone)


def _look(
    row: AuditRow, names: dict[tuple[str, str], str], overview: Overview, visit: Visit
) -> LookShown:
    _ = translations_of(visit.reader.language).gettext
    name = names.get((row.table_name, row.record_id), "")
    return LookShown(
        key=row.key,
        at=row.ts,
        agent=overview.agent_name(row.agent_id) if row.agent_id else "",
        mission_id=row.mission_id,
        mission=overview.title(row.mission_id, visit.reader),
        record=f"{row.table_name}:{row.record_id}" if row.table_name else "",
        name=name or kind_of(row.table_name, visit.reader),
        state=f"access-{outcome_of(row)}",
        why=reason_said(row.reason, visit.reader),
        run_id=None if row.run_id is None else str(row.run_id),
        grant_ends_at=row.grant_ends_at,
        release=str(row.release_id or ""),
        exposures=sorted(row.exposures),
        granted=len(row.granted),
    )
