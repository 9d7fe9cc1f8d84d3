"""The fleet in lists: missions, agents and runs, filtered by the address, page by page."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any, TypeVar
from urllib.parse import urlencode

import msgspec
from starlette.requests import Request

from mana_actors.http.bodies import BadRequest
from state.errors import StateError
from state.store.gateway.fleet import (
    RECEIPTS_READ,
    AgentRow,
    Filter,
    MissionRow,
    PlaceKey,
    RunRow,
)
from supervisor.gateway.answers import query, whole_number
from supervisor.gateway.cursors import cursor, read_cursor
from supervisor.gateway.deps import Deps, facts
from supervisor.gateway.operators.api import NameKey, TimeKey
from supervisor.gateway.operators.limits import warnings_of
from supervisor.health.judgement import health
from supervisor.node.models import model_in_words

T = TypeVar("T")
MOST_COUNTED = 10_000_000
LISTS = ("missions", "agents", "runs")
FILTERS = ("user", "agent", "mission", "state", "model", "problems")
SORTS: dict[str, tuple[str, ...]] = {"missions": ("failed", "next"), "agents": ("spent",)}
"""What a list can be sorted by besides its owner."""
ROWS, ROWS_OF_ONE = 12, 50
"""Of each of three lists that share a page, and of one that has it to itself: 60 kB at most."""


class ListShown(msgspec.Struct, frozen=True):
    """Rows of one kind; `next` is the query that continues them, "" at their end."""

    rows: Sequence[Any] = ()
    next: str = ""


async def fleet_values(deps: Deps, request: Request) -> dict[str, Any]:
    """What the fleet's page says; raises BadRequest."""
    given = query(request, ("still", "list", "before", "from", "sort", *FILTERS))
    only = given.get("list")
    if only is not None and only not in LISTS:
        raise BadRequest("list", f"must be one of {', '.join(LISTS)}")
    sort = given.get("sort", "")
    if sort and sort not in SORTS.get(only or "", ()):
        raise BadRequest("sort", f"must be one of {_sorts_said(only)}")
    first = whole_number("from", given.get("from", "1"), 1, MOST_COUNTED)
    chosen = {name: given[name] for name in FILTERS if given.get(name)}
    if "model" in chosen and only != "runs":
        raise BadRequest("model", "is of runs alone: add list=runs")
    found = await facts(deps)
    values: dict[str, Any] = {"counts": None, "quarantined": (), "warnings": (), "glances": {}}
    kept = {**chosen, **({"list": only} if only else {}), **({"sort": sort} if sort else {})}
    lists = dict.fromkeys(LISTS, ListShown())
    with suppress(StateError):  # it may go away after it answered
        if found.shards is not None:
            values["counts"] = await deps.fleet.counts()
            values["warnings"] = await warnings_of(deps, await deps.fleet.limits())
            for name in LISTS if only is None else (only,):
                asked = _Asked(
                    name, chosen, given.get("before"), first, sort, is_one_of_all=only is None
                )
                lists[name] = await _list(deps, asked)
            values["glances"] = await _glances(deps, lists["agents"].rows, found.supervisor)
            if only is None:
                wanted = Filter(user=chosen.get("user"), limit=ROWS)
                values["quarantined"] = await deps.fleet.quarantined(wanted)
    awake = None if found.supervisor is None else found.supervisor.get("awake", ())
    return {
        "health": health(found, deps.settings, deps.version),
        "awake": None if awake is None else len(awake),
        "forks": sum(agent.get("fork", False) for agent in awake or ()),
        "idle": None if found.supervisor is None else found.supervisor.get("idle"),
        "model": model_in_words(deps.settings),
        "only": only,
        "first": first,
        "lists": lists,
        "sort": sort,
        "sorted_by": {
            name: {
                by: "/fleet?" + urlencode({**chosen, "list": name} | ({"sort": by} if by else {}))
                for by in ("", *SORTS.get(name, ()))
            }
            for name in LISTS
        },
        "chosen": chosen,
        "asked": dict.fromkeys(FILTERS, "") | chosen,
        "without": {
            left: "/fleet?" + urlencode({name: text for name, text in kept.items() if name != left})
            for left in chosen
        },
        "newest": RECEIPTS_READ,
        "hour": deps.watch.last_hour(),
        "is_still": "still" in given,
        **values,
    }


class _Asked(msgspec.Struct, frozen=True):
    """Which list, filtered how, behind which cursor and from which place on, sorted by what.

    By its owner where that is "".
    """

    name: str
    chosen: dict[str, str]
    before: str | None
    first: int
    sort: str
    is_one_of_all: bool


async def _list(deps: Deps, asked: _Asked) -> ListShown:
    chosen, before, fleet = asked.chosen, asked.before, deps.fleet
    limit = ROWS if asked.is_one_of_all else ROWS_OF_ONE
    wanted = Filter(
        user=chosen.get("user"),
        agent=chosen.get("agent"),
        mission=chosen.get("mission"),
        state=chosen.get("state") if not asked.is_one_of_all else None,
        model=chosen.get("model"),
        problems="problems" in chosen,
        limit=limit,
    )
    rows: Sequence[MissionRow | AgentRow | RunRow]
    keys: Sequence[Any] | None = None
    match asked.name, asked.sort:
        case "missions", ("failed" | "next") as sort:
            missions = await fleet.missions_by(sort, wanted, _key(before, PlaceKey))
            rows, keys = [one.row for one in missions], [one.key for one in missions]
        case "missions", _:
            rows = await fleet.missions(wanted, _key(before, NameKey))
        case "agents", "spent":
            agents = await fleet.agents_by_spent(wanted, _key(before, PlaceKey))
            rows, keys = [one.row for one in agents], [one.key for one in agents]
        case "agents", _:
            rows = await fleet.agents(wanted, _key(before, NameKey))
        case _:
            rows = await fleet.runs(wanted, _key(before, TimeKey))
    if len(rows) < limit:
        return ListShown(rows)
    last = rows[-1].key if keys is None else keys[-1]
    more = {**chosen, "list": asked.name, "before": cursor(last)}
    more["from"] = str(asked.first + len(rows))
    return ListShown(rows, urlencode(more | ({"sort": asked.sort} if asked.sort else {})))


class GlanceShown(msgspec.Struct, frozen=True):
    """What an agent's missions came to and come to next, and its process where it is awake."""

    next_run_at: datetime | None = None
    decision: str | None = None
    runs_24h: int = 0
    process: dict[str, Any] | None = None


async def _glances(
    deps: Deps, agents: Sequence[AgentRow], supervisor: dict[str, Any] | None
) -> dict[tuple[str, str], GlanceShown]:
    """By agent, what its row leaves out."""
    awake = {
        (one["user"], one["agent"]): {"memory_bytes": 0, "fork": False} | one
        for one in (supervisor or {}).get("awake", ())
    }
    found = {one.key: one for one in await deps.fleet.glances([each.key for each in agents])}
    return {
        each.key: GlanceShown(
            found[each.key].next_run_at,
            found[each.key].decision,
            found[each.key].runs_24h,
            awake.get(each.key),
        )
        for each in agents
    }


def _sorts_said(only: str | None) -> str:
    sorts = SORTS.get(only or "", ())
    return ", ".join(sorts) if sorts else "those of one list, missions or agents"


def _key(before: str | None, kind: type[T]) -> T | None:
    return None if before is None else read_cursor(before, kind)
