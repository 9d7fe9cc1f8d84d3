"""The installation as `mana status` and `/health` know it, part by part."""

from __future__ import annotations

from typing import Any

import msgspec
from starlette.requests import Request

from state.errors import StateError
from supervisor.gateway.answers import query
from supervisor.gateway.deps import Deps, facts
from supervisor.gateway.operators.api import known_of, status_of


class AwakeAgent(msgspec.Struct, frozen=True):
    """An agent's process, as its supervisor sees it."""

    user: str
    agent: str
    pid: int = 0
    fork: bool = False
    memory_bytes: int = 0
    tokens_24h: int | None = None
    running: tuple[str, ...] = ()
    idle_s: float | None = None


class SupervisorShown(msgspec.Struct, frozen=True):
    """What a supervisor, perhaps of another release, says of itself."""

    release: str = ""
    awake: tuple[AwakeAgent, ...] = ()
    awake_most: int | None = None
    idle: dict[str, Any] | None = None
    warm: int | None = None
    making: int = 0
    feed_waiting: int | None = None
    held: int = 0
    held_by: tuple[dict[str, Any], ...] = ()
    barred: tuple[str, ...] = ()
    waits_for_room: tuple[str, ...] = ()
    draining: bool = False
    reconcile: dict[str, Any] = {}


async def system_values(deps: Deps, request: Request) -> dict[str, Any]:
    """`/system`, which answers while the database is away, too."""
    query(request, ())
    try:
        told = await status_of(deps)
    except StateError:  # it went away after it answered
        told = await known_of(deps, await facts(deps))
    limits = {
        "runs": deps.settings.runs_max,
        "runs_per_user": deps.settings.runs_per_user,
    }
    own = told["supervisor"] and msgspec.convert(told["supervisor"], SupervisorShown)
    return {"told": told, "own": own, "limits": limits, "hour": deps.watch.last_hour()}
