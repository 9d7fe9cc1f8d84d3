"""A claimed run with everything its plan depends on, and what its attempt counts; no IO."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from zoneinfo import ZoneInfo

import msgspec

from mana_actors.agent.tools.injection_watch import Sighting
from mana_actors.messages import Count
from state.log.merge import Change
from state.log.records import Agent, Mission
from state.rules.exposure import Exposure
from state.runs.occurrence import Occurrence
from state.store.agent import MissionNow, RecordName


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
    """A claimed run; `found` is what it was claimed by, the rows of `inputs` came with the claim.

    `seen` are ids of the iterations that were there when it began.
    """

    run_id: Any
    attempt: int
    failures: int
    lost: int  # earlier attempts whose process ended without a word
    occurrence: Occurrence
    pinned: Pinned
    found: MissionNow
    mission: Mission
    agent: Agent
    zone: ZoneInfo
    exposure: Exposure  # the most that the deployment and the mission's record allow
    inputs: Mapping[RecordName, list[Change]]
    is_known: bool = False  # the agent's record is there and not deleted
    seen: frozenset[str] = frozenset()


class Tally:
    """What one attempt spent and counted so far."""

    def __init__(self) -> None:
        self.tokens = 0
        self.model_calls = 0
        self.counts: list[Count] = []

    def saw(self, sighting: Sighting) -> None:
        """Count text that reads like an instruction."""
        self.counts.append(Count("injection_markers_total", (sighting.place, sighting.marker)))
