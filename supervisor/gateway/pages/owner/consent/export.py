"""Data access as a file: every row that the filters leave, streamed, as CSV or JSON."""

from __future__ import annotations

import csv
import io
from collections.abc import AsyncGenerator
from datetime import datetime
from typing import Any

import msgspec
from starlette.responses import Response, StreamingResponse

from mana_actors.http.bodies import NO_STORE
from state.store.owner import AuditFilter, AuditRow
from supervisor.gateway.answers import instant_text, query
from supervisor.gateway.pages.owner.consent.access import FILTERS, audit_filter
from supervisor.gateway.pages.owner.consent.outcomes import outcome_of
from supervisor.gateway.pages.owner.gate import Visit
from supervisor.gateway.pages.owner.overview import Overview, overview_of
from supervisor.gateway.people.rate import paced

BATCH, MOST = 500, 50_000
"""Rows that are read at once, and rows of a file at most."""
COLUMNS = (
    "at", "outcome", "status", "reason", "agentId", "agent", "missionId", "mission", "table",
    "recordId", "runId", "attempt", "releaseId", "grantVersion", "grantEndsAt", "exposures",
    "granted",
)  # fmt: skip
TYPES = {"csv": "text/csv; charset=utf-8", "json": "application/json"}
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")


async def get_export(visit: Visit) -> Response:
    """`/me/access/export.csv` and `.json`, with the filters of the page."""
    kind = visit.request.scope["path"].rpartition(".")[2]
    wanted = audit_filter(query(visit.request, FILTERS, blanks=True), visit)
    paced(visit.owners.pacing, visit.caller.user)
    overview = await overview_of(visit)
    rows = _rows(visit, wanted, overview)
    name = f"data-access-{visit.reader.now.astimezone(visit.reader.zone):%Y-%m-%d}.{kind}"
    headers = NO_STORE | {
        "Content-Disposition": f'attachment; filename="{name}"',
        "X-Content-Type-Options": "nosniff",
    }
    body = _csv(rows) if kind == "csv" else _json(rows)
    return StreamingResponse(body, media_type=TYPES[kind], headers=headers)


def cell(value: object) -> str:
    """A value as a cell that no spreadsheet takes for a formula."""
    text = " ".join(value) if isinstance(value, list) else "" if value is None else str(value)  # pyright: ignore[reportUnknownArgumentType]
    return f"'{text}" if text.startswith(FORMULA) else text


async def _rows(
    visit: Visit, wanted: AuditFilter, overview: Overview
) -> AsyncGenerator[dict[str, Any] | None]:
    """Rows as they are told, the newest first; None in the end where there are more."""
    before: tuple[datetime, str] | None = None
    told = 0
    while True:
        page = await visit.owners.view.trail(visit.caller.user, wanted, BATCH, before)
        for row in page:
            if told == MOST:
                yield None
                return
            yield _told(row, overview, visit)
            told += 1
        if len(page) < BATCH:
            return
        before = page[-1].ts, page[-1].key


async def _csv(rows: AsyncGenerator[dict[str, Any] | None]) -> AsyncGenerator[str]:
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    writer.writerow(COLUMNS)
    async for row in rows:
        if row is None:
            writer.writerow([f"more than {MOST} rows: narrow the time"])
        else:
            writer.writerow([cell(row[name]) for name in COLUMNS])
        if buffer.tell() > 65_536 or row is None:
            yield buffer.getvalue()
            buffer.seek(0)
            buffer.truncate()
    yield buffer.getvalue()


async def _json(rows: AsyncGenerator[dict[str, Any] | None]) -> AsyncGenerator[bytes]:
    yield b'{"rows":['
    told, is_whole = 0, True
    async for row in rows:
        if row is None:
            is_whole = False
            break
        yield (b"," if told else b"") + msgspec.json.encode(row)
        told += 1
    yield b'],"isWhole":' + msgspec.json.encode(is_whole) + b"}"


def _told(row: AuditRow, overview: Overview, visit: Visit) -> dict[str, Any]:
    return {
        "at": instant_text(row.ts),
        "outcome": outcome_of(row),
        "status": row.status,
        "reason": row.reason,
        "agentId": row.agent_id,
        "agent": overview.agent_name(row.agent_id) if row.agent_id else None,
        "missionId": row.mission_id,
        "mission": overview.title(row.mission_id, visit.reader),
        "table": row.table_name,
        "recordId": row.record_id,
        "runId": None if row.run_id is None else str(row.run_id),
        "attempt": row.attempt,
        "releaseId": None if row.release_id is None else str(row.release_id),
        "grantVersion": row.grant_version,
        "grantEndsAt": instant_text(row.grant_ends_at),
        "exposures": row.exposures,
        "granted": row.granted,
    }
