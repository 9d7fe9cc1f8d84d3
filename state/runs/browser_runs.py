"""Iterations that a browser runs itself, as far as a mission's record tells (D-08). Pure."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from state.log.stamps import datetime_of, parse_instant


def browser_since(iterations: Iterable[dict[str, Any]]) -> datetime | None:
    """When a browser began the iteration that still says it is running; None without one."""
    begun = [
        parse_instant(str(i.get("phaseStartedAt") or i.get("startedAt") or ""))
        for i in iterations
        if i.get("overallStatus") == "running" and i.get("source") != "server"
    ]
    return max((datetime_of(ns) for ns in begun if ns is not None), default=None)
