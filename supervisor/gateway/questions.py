"""Questions to the supervisor and the database that a request waits for, each with a time limit."""

import asyncio
import logging
from collections.abc import Awaitable
from typing import Any, TypeVar

from state.errors import StateError
from supervisor.gateway.contract import Deps
from supervisor.gateway.health import START_S, Facts

ASK_S = 3.0
T = TypeVar("T")
log = logging.getLogger("mana.gateway")


class SupervisorSilent(Exception):
    """The supervisor did not answer in time, or is not there."""


async def asked(call: Awaitable[T], seconds: float = ASK_S) -> T:
    """The supervisor's answer; raises SupervisorSilent whatever went wrong in between."""
    try:
        return await asyncio.wait_for(call, seconds)
    except Exception as exc:  # an actor's death takes many shapes
        log.warning("supervisor_silent error=%s", type(exc).__name__)
        raise SupervisorSilent from exc


async def facts(deps: Deps) -> Facts:
    """What health is judged from; never raises."""
    supervisor, found = await asyncio.gather(_status(deps), _shards(deps))
    return Facts(supervisor=supervisor, shards=found[0], overdue=found[1])


async def _status(deps: Deps) -> dict[str, Any] | None:
    try:
        return await asked(deps.supervisor.status())
    except SupervisorSilent:
        return None


async def _shards(deps: Deps) -> tuple[list[Any] | None, int]:
    try:
        async with asyncio.timeout(ASK_S):
            return await deps.fleet.shards(), await deps.fleet.overdue(START_S)
    except (StateError, TimeoutError) as exc:
        log.warning("database_silent error=%s", type(exc).__name__)
        return None, 0
