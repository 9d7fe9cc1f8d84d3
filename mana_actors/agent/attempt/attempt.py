"""One attempt at an order: what was ordered and claimed, what it spent, and how it is stopped."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec

from mana_actors.agent.model.journal import Journal
from mana_actors.agent.model.receipt import Receipt
from mana_actors.agent.planner.loop import PlanOutcome
from mana_actors.agent.tools.injection_watch import Sighting
from mana_actors.messages import Count, Order
from state.log.records import Agent, Mission
from state.rules.budgets import Hold, Shortfall
from state.rules.exposure import Exposure
from state.runs.occurrence import Occurrence
from state.store.agent import MissionView, PlanNote


class Pinned(msgspec.Struct, frozen=True):
    """What varies in a prompt, fixed for all attempts of a run so that the journal fits."""

    now: str
    used: int
    boundary: str
    cap: int | None = None  # in force at the first attempt


class FinalFailure(Exception):
    """This plan cannot be made: the owner sees why, and the mission moves on."""

    def __init__(self, name: str, message: str) -> None:
        super().__init__(name, message)
        self.name, self.message = name, message


class Job(msgspec.Struct, frozen=True):
    """A claimed run with everything its plan depends on.

    `seen` are ids of the iterations that were there when it began.
    """

    run_id: Any
    attempt: int
    failures: int
    lost: int  # earlier attempts whose process ended without a word
    occurrence: Occurrence
    pinned: Pinned
    mission: Mission
    agent: Agent
    view: MissionView
    exposure: Exposure  # the most that the deployment and the mission's grant allow
    is_known: bool = False  # the agent's record is there and not deleted
    seen: frozenset[str] = frozenset()


class Tally:
    """What one attempt spent and counted so far, and why its last call had no room."""

    def __init__(self) -> None:
        self.tokens = 0
        self.model_calls = 0
        self.counts: list[Count] = []
        self.refused: tuple[Hold, Shortfall] | None = None
        self.receipt = Receipt()
        self.used_secrets = False  # whether inputs were decrypted for it
        self.journal = Journal()
        self.outcome: PlanOutcome | None = None  # once the loop has ended

    def saw(self, sighting: Sighting) -> None:
        """Count text that reads like an instruction."""
        self.counts.append(Count("injection_markers_total", (sighting.place, sighting.marker)))

    def note(self) -> PlanNote:
        """What the run row keeps of the attempt's thinking."""
        answers, outcome = self.receipt.as_json(), self.outcome
        if outcome is None:
            return PlanNote(answers)
        return PlanNote(
            answers, outcome.stop_reason, outcome.duplicates, outcome.dropped_calls, outcome.refused
        )


class Attempt:
    """An order under way, with its tally and its stop signal; `job` once the run is claimed.

    Before the claim a stop is only noted, since a claim whose answer nobody hears would last for a
    lease. While the attempt plans, its task is cancelled. Once it closes, the database decides.
    """

    def __init__(self, order: Order) -> None:
        self.order, self.tally = order, Tally()
        self.version = order.version  # of the mission that was decided on
        self._job: Job | None = None
        self._stop_reason: str | None = None
        self._planning: asyncio.Task[Any] | None = None
        self._is_closing = False

    @property
    def job(self) -> Job:
        """What was claimed."""
        assert self._job is not None, "an attempt plans and ends only what it has claimed"
        return self._job

    @job.setter
    def job(self, job: Job) -> None:
        self._job = job

    def begin(self) -> None:
        """From here the calling task can be cancelled; raises CancelledError if told before."""
        self._planning = asyncio.current_task()
        if self._stop_reason is not None:
            raise asyncio.CancelledError

    def stop(self, reason: str, run_id: str | None = None) -> None:
        """End it, unless it ends already; `run_id` None: whichever run it has."""
        if run_id is not None and (self._job is None or str(self._job.run_id) != run_id):
            return
        if self._stop_reason is not None or self._is_closing:
            return
        self._stop_reason = reason
        if self._planning is not None:
            self._planning.cancel()

    def close(self) -> None:
        """Its last transaction begins: a stop comes too late and is not heard any more."""
        self._is_closing = True

    def why_stopped(self) -> str | None:
        """Why its task was cancelled, None where that was not `stop`; it may await again."""
        if self._stop_reason is not None and self._planning is not None:
            self._planning.uncancel()
        return self._stop_reason
