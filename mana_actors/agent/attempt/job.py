"""A claimed run, and the one way in which a plan cannot be made."""

from __future__ import annotations

from typing import Any

import msgspec

from mana_actors.agent.attempt.last_write import Run
from state.log.records import Agent, Mission
from state.rules.exposure import Exposure
from state.store.agent import MissionView


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
    """A claimed run with everything its plan depends on."""

    run_id: Any
    attempt: int
    failures: int
    lost: int  # earlier attempts whose process ended without a word
    run: Run
    pinned: Pinned
    mission: Mission
    agent: Agent
    view: MissionView
    exposure: Exposure  # the most that the deployment and the mission's grant allow
    is_known: bool = False  # the agent's record is there and not deleted
