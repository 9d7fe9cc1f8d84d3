"""The internal API: lists for operators and the CLI, and the few things they may ask for.

Lists answer `{"items": [...], "before": cursor}`; the cursor, given back, continues the list.
"""

import asyncio
from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any, TypeVar
from uuid import UUID

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from mana_actors.http.bodies import BadRequest, answer, json_object
from state.log.records import AGENT_STATES, MISSION_STATES
from state.runs.reasons import codes_of, in_words
from state.store.gateway.fleet import Filter, KeyTaken
from state.store.gateway.triage import TROUBLES, TriageStore, TroubleFilter, TroubleGroup
from state.zones import is_time_zone
from supervisor.custody.service_keys import public_keys
from supervisor.gateway.answers import (
    checked_id,
    failure,
    path_part,
    query,
    whole_number,
    yes_or_no,
)
from supervisor.gateway.auth import Sessions
from supervisor.gateway.cursors import cursor, read_cursor
from supervisor.gateway.deps import Deps, facts
from supervisor.health.judgement import Facts, health
from supervisor.health.remedies import remedy
from supervisor.node.keeper.state import read_state
from supervisor.node.models import model_in_words
from supervisor.supervision.metrics import Metrics

T = TypeVar("T")
NameKey = tuple[str, str]
TimeKey = tuple[datetime, UUID]
MAX_LIMIT = 1000
MAX_KEY_CHARS = 255
PAGING = ("limit", "before")
RUN_STATES = ("open", "waiting", "committed", "failed", "withdrawn")


async def get_status(request: Request, deps: Deps) -> Response:
    """Health, totals, shards and what the supervisor says of itself."""
    query(request, ())
    return answer(await status_of(deps))


async def status_of(deps: Deps) -> dict[str, Any]:
    """What is known of the installation; None for what could not be asked. Raises StateError."""
    found = await facts(deps)
    told = await known_of(deps, found)
    if found.shards is not None:
        groups = await TriageStore(deps.fleet.database).groups(0)
        told["counts"] = await deps.fleet.counts()
        told["troubles"] = {one.kind: one.count for one in groups}
    return told


async def known_of(deps: Deps, found: Facts) -> dict[str, Any]:
    """The part of it that needs no database; what does is None."""
    hour = deps.watch.last_hour()
    node = await asyncio.to_thread(read_state, deps.settings.data_dir)
    return {
        **health(found, deps.settings, deps.version).content,
        "counts": None,
        "troubles": None,
        "shards": found.shards,
        "supervisor": found.supervisor,
        "last_hour": {"since": hour.since, "latest": hour.latest, "whole": hour.whole},
        "node": None if node is None else msgspec.to_builtins(node),
        "devices": devices_of(deps.metrics),
        "model": model_in_words(deps.settings),
    }


def devices_of(metrics: Metrics) -> dict[str, float]:
    """What this gateway knows of people's devices since it started, all doors together."""
    told = metrics.snapshot()
    return {
        name: sum(told[kind].get(f"sync_{metric}", {}).values())
        for name, kind, metric in (
            ("connected", "gauges", "connections"),
            ("people", "gauges", "users_connected"),
            ("changes_pushed", "counters", "changes_pushed_total"),
            ("changes_sent", "counters", "changes_sent_total"),
            ("conflicts", "counters", "conflicts_total"),
            ("oldest_unpublished_s", "gauges", "queue_age_seconds"),
        )
    }


async def get_missions(request: Request, deps: Deps) -> Response:
    """Missions with decision, reason and next look; `problems=true` lists those with problems."""
    wanted, before = _wanted(request, ("user", "agent", "mission", "state", "problems"), NameKey)
    _check_state(wanted, MISSION_STATES)
    rows = await deps.fleet.missions(wanted, before)
    return await _page(deps, rows, wanted, [row.key for row in rows[-1:]])


async def get_agents(request: Request, deps: Deps) -> Response:
    """Agents with state, caps and tokens of the last 24 h."""
    wanted, before = _wanted(request, ("user", "agent", "state", "problems"), NameKey)
    _check_state(wanted, AGENT_STATES)
    rows = await deps.fleet.agents(wanted, before)
    return await _page(deps, rows, wanted, [row.key for row in rows[-1:]])


async def get_runs(request: Request, deps: Deps) -> Response:
    """Runs, the newest first."""
    wanted, before = _wanted(request, ("user", "agent", "mission", "state", "model"), TimeKey)
    _check_state(wanted, RUN_STATES)
    rows = await deps.fleet.runs(wanted, before)
    return await _page(deps, rows, wanted, [row.key for row in rows[-1:]])


async def get_decisions(request: Request, deps: Deps) -> Response:
    """What the gate said, the newest first."""
    wanted, before = _wanted(request, ("user", "agent", "mission"), int)
    rows = await deps.fleet.decisions(wanted, before)
    return await _page(deps, rows, wanted, [row.id for row in rows[-1:]])


async def get_problems(request: Request, deps: Deps) -> Response:
    """Rows of the log that were set aside, the newest first."""
    wanted, before = _wanted(request, ("user",), TimeKey)
    rows = await deps.fleet.quarantined(wanted, before)
    return await _page(deps, rows, wanted, [(row.seen_at, row.change_id) for row in rows[-1:]])


async def get_triage(request: Request, deps: Deps) -> Response:
    """What needs somebody, worst first; `kind` goes on with one group, behind `before`."""
    given = query(request, ("kind", "user", "agent", *PAGING))
    limit = whole_number("limit", given.get("limit", "20"), 1, MAX_LIMIT)
    groups = await TriageStore(deps.fleet.database).groups(limit, trouble_filter(given))
    return answer({"groups": [_group(one) for one in groups]})


def trouble_filter(given: dict[str, str]) -> TroubleFilter:
    """Which troubles a query asks for; raises BadRequest."""
    kind = given.get("kind")
    if kind is not None and kind not in TROUBLES:
        raise BadRequest("kind", f"must be one of {', '.join(TROUBLES)}")
    return TroubleFilter(
        only=kind,
        after=read_cursor(given["before"], NameKey) if "before" in given else None,
        user=given.get("user"),
        agent=given.get("agent"),
    )


def _group(group: TroubleGroup) -> dict[str, Any]:
    rows = [
        _with_words(msgspec.to_builtins(row, builtin_types=(datetime, UUID)))
        | {"remedy": remedy(group.kind, row)}
        for row in group.rows
    ]
    before = None if group.more is None else cursor(group.more)
    return {"kind": group.kind, "count": group.count, "items": rows, "before": before}


async def post_run(request: Request, deps: Deps) -> Response:
    """Run a mission now, once per `Idempotency-Key`."""
    query(request, ())
    user, mission = path_part(request, "user"), path_part(request, "mission")
    key = request.headers.get("idempotency-key", "")
    if not key.isascii() or not key.isprintable() or not 1 <= len(key) <= MAX_KEY_CHARS:
        problem = f"must be 1 to {MAX_KEY_CHARS} printable ASCII characters"
        raise BadRequest("Idempotency-Key", problem)
    try:
        asked = await deps.fleet.request_run(user, mission, key)
    except KeyTaken:
        return failure(409, "was used for another mission of this user", "Idempotency-Key")
    return failure(404, "no such mission", "mission") if asked is None else answer(asked, 202)


async def put_user_settings(request: Request, deps: Deps) -> Response:
    """The zone in which a user's cadences are meant; null is the deployment's."""
    query(request, ())
    user = path_part(request, "user")
    given = await json_object(request)
    unknown = sorted(set(given) - {"time_zone"})
    if unknown or "time_zone" not in given:
        field = checked_id("body", unknown[0])[:64] if unknown and unknown[0] else "time_zone"
        raise BadRequest(field, "is not known here" if unknown else "is missing")
    zone = given["time_zone"]
    if zone is not None and not (isinstance(zone, str) and is_time_zone(zone)):
        raise BadRequest("time_zone", "must be the name of an IANA time zone, or null")
    if await deps.fleet.unknown(Filter(user=user)) is not None:
        return failure(404, "no such user", "user")
    await deps.fleet.save_time_zone(user, zone)
    return answer({"user": user, "time_zone": zone})


async def get_public_keys(request: Request, deps: Deps) -> Response:
    """For the auth service: the key to wrap for, and the one that checks our own grants."""
    query(request, ())
    return answer(public_keys(deps.settings))


async def post_login(request: Request, sessions: Sessions) -> Response:
    """A one-time token for the dashboard."""
    query(request, ())
    token = sessions.new_login()
    return answer({"token": token, "path": f"/login?token={token}"}, 201)


def _wanted(request: Request, names: tuple[str, ...], key: type[T]) -> tuple[Filter, T | None]:
    given = query(request, names + PAGING)
    limit = whole_number("limit", given.pop("limit", "100"), 1, MAX_LIMIT)
    before = read_cursor(given.pop("before"), key) if "before" in given else None
    problems = yes_or_no("problems", given.pop("problems", "false"))
    return Filter(**given, problems=problems, limit=limit), before


def _check_state(wanted: Filter, states: Collection[str]) -> None:
    if wanted.state is not None and wanted.state not in states:
        raise BadRequest("state", f"must be one of {', '.join(sorted(states))}")


async def _page(deps: Deps, rows: Sequence[Any], wanted: Filter, last: Sequence[Any]) -> Response:
    """A page, with a cursor when there may be more; 404 where it is of somebody unknown."""
    if not rows and (missing := await deps.fleet.unknown(wanted)) is not None:
        return failure(404, f"no such {missing}", missing)
    is_full = len(rows) == wanted.limit
    items = [_with_words(msgspec.to_builtins(row, builtin_types=(datetime, UUID))) for row in rows]
    return answer({"items": items, "before": cursor(last[0]) if is_full else None})


def _with_words(row: dict[str, Any]) -> dict[str, Any]:
    """A row whose reason is there for people, whole, and for programs, by code."""
    if "reason" not in row:
        return row
    return row | {
        "reason_text": in_words(row["reason"]) or None,
        "reason_codes": codes_of(row["reason"]),
    }
