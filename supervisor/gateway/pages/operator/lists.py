"""The fleet in lists: missions, agents and runs, filtered by the address, page by page."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any, TypeVar
from urllib.parse import urlencode

import msgspec
from starlette.requests import Request

from mana_actors.http.bodies import BadRequest
from state.errors import StateError
from state.store.gateway.fleet import AgentRow, Filter, MissionRow, RunRow
from supervisor.gateway.answers import query
from supervisor.gateway.cursors import cursor, read_cursor
from supervisor.gateway.deps import Deps, facts
from supervisor.gateway.operators.api import NameKey, TimeKey
from supervisor.gateway.operators.limits import warnings_of
from supervisor.health.judgement import health
from supervisor.node.models import model_in_words

T = TypeVar("T")
LISTS = ("missions", "agents", "runs")
FILTERS = ("user", "agent", "mission", "state", "problems")
ROWS, ROWS_OF_ONE = 50, 100


class ListShown(msgspec.Struct, frozen=True):
    """Rows of one kind; `next` is the query that continues them, "" at their end."""

    rows: Sequence[Any] = ()
    next: str = ""


async def fleet_values(deps: Deps, request: Request) -> dict[str, Any]:
    """What the fleet's page says; raises BadRequest."""
    given = query(request, ("still", "list", "before", *FILTERS))
    only = given.get("list")
    if only is not None and only not in LISTS:
        raise BadRequest("list", f"must be one of {', '.join(LISTS)}")
    chosen = {name: given[name] for name in FILTERS if given.get(name)}
    found = await facts(deps)
    values: dict[str, Any] = {"counts": None, "quarantined": (), "warnings": ()}
    kept = chosen if only is None else {**chosen, "list": only}
    lists = dict.fromkeys(LISTS, ListShown())
    with suppress(StateError):  # it may go away after it answered
        if found.shards is not None:
            values["counts"] = await deps.fleet.counts()
            values["warnings"] = await warnings_of(deps, await deps.fleet.limits())
            for name in LISTS if only is None else (only,):
                lists[name] = await _list(deps, name, chosen, given.get("before"), only is None)
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
        "lists": lists,
        "chosen": chosen,
        "asked": dict.fromkeys(FILTERS, "") | chosen,
        "without": {
            left: "/fleet?" + urlencode({name: text for name, text in kept.items() if name != left})
            for left in chosen
        },
        "hour": deps.watch.last_hour(),
        "is_still": "still" in given,
        **values,
    }


async def _list(
    deps: Deps, name: str, chosen: dict[str, str], before: str | None, is_one_of_all: bool
) -> ListShown:
    limit = ROWS if is_one_of_all else ROWS_OF_ONE
    wanted = Filter(
        user=chosen.get("user"),
        agent=chosen.get("agent"),
        mission=chosen.get("mission"),
        state=chosen.get("state") if not is_one_of_all else None,
        problems="problems" in chosen,
        limit=limit,
    )
    rows: Sequence[MissionRow | AgentRow | RunRow]
    match name:
        case "missions":
            rows = await deps.fleet.missions(wanted, _key(before, NameKey))
        case "agents":
            rows = await deps.fleet.agents(wanted, _key(before, NameKey))
        case _:
            rows = await deps.fleet.runs(wanted, _key(before, TimeKey))
    more = {} if len(rows) < limit else {**chosen, "list": name, "before": cursor(rows[-1].key)}
    return ListShown(rows, urlencode(more))


def _key(before: str | None, kind: type[T]) -> T | None:
    return None if before is None else read_cursor(before, kind)
