"""The supervisor as the gateway knows it: what it is asked, each time with a limit."""

import asyncio
import logging
from collections.abc import Awaitable
from typing import Any, Protocol, TypeVar

ASK_S = 3.0
T = TypeVar("T")
log = logging.getLogger("mana.gateway")


class SupervisorSilent(Exception):
    """The supervisor did not answer in time, or is not there."""


class Supervisor(Protocol):
    """What the gateway asks of the supervisor, in whatever process that is; any call may raise."""

    async def tick(self) -> str:
        """Begin a scan now, or join the one under way; its id."""
        ...

    async def tick_status(self, tick_id: str) -> dict[str, Any] | None:
        """A `TickReport` as JSON values; None for an id it does not know."""
        ...

    async def status(self) -> dict[str, Any]:
        """Facts for operators: a list `awake`, a text `problem` or null, and more JSON values."""
        ...

    async def stop_run(
        self, user_id: str, agent_id: str, mission_id: str, run_id: str, reason: str
    ) -> None:
        """Have an agent drop a run that was cancelled."""
        ...

    async def memory_of(self, user_id: str, agent_id: str) -> dict[str, Any] | None:
        """What an agent's process holds, as `Remembered` says it; None where it sleeps."""
        ...

    async def metrics(self) -> dict[str, Any]:
        """A snapshot of its `supervisor.supervision.metrics.Metrics`."""
        ...


async def asked(call: Awaitable[T], seconds: float = ASK_S) -> T:
    """The supervisor's answer; raises SupervisorSilent whatever went wrong in between."""
    try:
        return await asyncio.wait_for(call, seconds)
    except Exception as exc:  # an actor's death takes many shapes
        log.warning("supervisor_silent error=%s", type(exc).__name__)
        raise SupervisorSilent from exc
