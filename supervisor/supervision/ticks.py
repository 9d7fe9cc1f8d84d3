"""Scans, asked for or brought by the interval: what each saw, and what became of its runs."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any, Literal

import msgspec

from state.log.stamps import format_instant, instant_of
from state.runs.outcome import Outcome, after, word

KEPT = 50
MAX_ERRORS = 50

MissionKey = tuple[str, str]
"""(user id, mission id)"""


class TickStats(msgspec.Struct, frozen=True, rename="camel"):
    """What one scan for due missions did; `errors` are `mission=<id>: <message>`."""

    scanned_at: str
    due_mission_count: int = 0
    plans_produced: int = 0
    plans_written_back: int = 0
    parse_failures: int = 0
    errors: list[str] = []


class TickReport(msgspec.Struct, frozen=True):
    """One asked-for tick: under way, over, or failed because the scan itself did."""

    id: str
    state: Literal["running", "done", "failed"]
    stats: TickStats | None = None


class Tick(msgspec.Struct):
    """One scan and the runs it began."""

    id: str
    scanned_at: datetime | None = None
    scanning: bool = True
    scan_failed: bool = False
    due: int = 0
    pending: set[MissionKey] = msgspec.field(default_factory=set[MissionKey])
    produced: int = 0
    written: int = 0
    failures: int = 0
    errors: list[str] = msgspec.field(default_factory=list[str])


class Ticks:
    """The last scans by id; an asked-for one waits for the next turn."""

    def __init__(self) -> None:
        self._ticks: dict[str, Tick] = {}
        self._number = 0
        self._asked: Tick | None = None
        self._current: Tick | None = None

    @property
    def asked(self) -> bool:
        """Whether somebody waits for a scan."""
        return self._asked is not None

    def ask(self) -> str:
        """Ask for a scan, or join the one that is asked for; its id."""
        if self._asked is None:
            self._asked = self._new()
        return self._asked.id

    def _new(self) -> Tick:
        self._number += 1
        tick = Tick(f"tick-{self._number}")
        self._ticks[tick.id] = tick
        while len(self._ticks) > KEPT:
            del self._ticks[next(iter(self._ticks))]
        return tick

    def begin(self, now: datetime) -> Tick:
        """The scan that begins now: the asked-for one if there is one."""
        self._current = self._asked or self._new()
        self._asked = None
        self._current.scanned_at = now
        return self._current

    def saw(self, due: int) -> None:
        """So many missions were due."""
        if self._current is not None:
            self._current.due += due

    def ordered(self, missions: Iterable[MissionKey]) -> None:
        """These runs began within the scan."""
        if self._current is not None:
            self._current.pending.update(missions)

    def scanned(self, tick: Tick) -> None:
        """The scan itself is over; its runs may go on."""
        tick.scanning = False
        self._current = None

    def failed(self, tick: Tick, message: str) -> None:
        """The scan failed."""
        tick.scanning, tick.scan_failed = False, True
        tick.errors.append(message)
        self._current = None

    def reported(self, mission: MissionKey, ended: Outcome) -> None:
        """An order ended: every scan that began it counts what became of it."""
        follow_up = after(ended)
        plans, failures = (follow_up.counts.count(what) for what in ("plan", "failure"))
        is_told = "error" in follow_up.counts or failures
        for tick in self._ticks.values():
            if mission in tick.pending:
                tick.pending.discard(mission)
                tick.produced += plans
                tick.written += plans
                tick.failures += failures
                if is_told and len(tick.errors) < MAX_ERRORS:
                    tick.errors.append(f"mission={mission[1]}: {follow_up.reason or word(ended)}")

    def report(self, tick_id: str) -> dict[str, Any] | None:
        """A `TickReport` as JSON values, None for an unknown id."""
        tick = self._ticks.get(tick_id)
        if tick is None:
            return None
        state = (
            "failed" if tick.scan_failed else "running" if tick.scanning or tick.pending else "done"
        )
        at = tick.scanned_at
        stats = TickStats(
            scanned_at="" if at is None else format_instant(instant_of(at)),
            due_mission_count=tick.due,
            plans_produced=tick.produced,
            plans_written_back=tick.written,
            parse_failures=tick.failures,
            errors=list(tick.errors),
        )
        return msgspec.to_builtins(TickReport(tick.id, state, stats))
