"""Does its owner still want this run, and does a browser serve it. Pure.

Asked when a mission is looked at, when a change of it is folded, while it runs, and at its end.
"""

from __future__ import annotations

from collections.abc import Container, Iterable
from datetime import datetime
from typing import Any

from state.log.stamps import datetime_of, instant_of, parse_instant
from state.runs.reasons import told


def why_unwanted(
    *,
    hidden: bool,
    state: str,
    agent_hidden: bool,
    agent_state: str | None,
    is_ours: bool = True,
) -> str | None:
    """Why to withdraw the run, in words for its owner; None while mission and agent want it.

    `agent_state` is None where no record of the agent came in. `is_ours` is False for a run under
    way whose mission has another agent now; a run that only waits goes over to that agent.
    """
    if hidden:
        return told("mission-deleted")
    if state != "active":
        return told("mission-state", state=state)
    if not is_ours:
        return told("mission-moved-agent")
    if agent_state is not None and agent_hidden:
        return told("agent-deleted")
    if agent_state not in (None, "active"):
        return told("agent-state", state=agent_state)
    return None


def browser_since(iterations: Iterable[dict[str, Any]]) -> datetime | None:
    """When a browser began the iteration that still says it is running; None without one."""
    begun = [
        parse_instant(str(i.get("phaseStartedAt") or i.get("startedAt") or ""))
        for i in iterations
        if i.get("overallStatus") == "running" and i.get("source") != "server"
    ]
    return max((datetime_of(ns) for ns in begun if ns is not None), default=None)


def is_served_by_browser(
    iterations: Iterable[dict[str, Any]], due_at: datetime, known: Container[object]
) -> bool:
    """Whether a browser finished an iteration since `due_at` that is none of the `known` ids."""
    for iteration in iterations:
        finished = iteration.get("finishedAt")
        instant = parse_instant(finished) if isinstance(finished, str) else None
        if (
            iteration.get("source") != "server"
            and iteration.get("id") not in known
            and instant is not None
            and instant >= instant_of(due_at)
            and iteration.get("overallStatus") not in ("failed", "running")
        ):
            return True
    return False
