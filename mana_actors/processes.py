"""Agents' processes as their supervisor sees them, wherever they run."""

from __future__ import annotations

from typing import Protocol

import msgspec

from mana_actors.background import Background
from mana_actors.messages import Identity
from state.errors import TransientError


class ProcessGone(TransientError):
    """The process died or did not answer in time; what was asked may or may not have happened."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name

    def __str__(self) -> str:
        return f"process {self.name} is gone"


class AgentProcess(Protocol):
    """One agent process as the supervisor sees it."""

    @property
    def name(self) -> str: ...

    async def tell(self, message: msgspec.Struct, timeout_s: float = 10.0) -> Identity:
        """Deliver a message; raises ProcessGone."""
        ...

    async def gone(self) -> None:
        """Return once the process has died."""
        ...

    def kill(self) -> None:
        """End it now."""
        ...


class AgentProcesses(Protocol):
    """Where agent processes come from."""

    def create(self, name: str) -> AgentProcess: ...

    def existing(self, prefix: str) -> list[AgentProcess]: ...


class Host(Protocol):
    """Where an agent's actor lives: a process of its own, or one that it shares with others."""

    @property
    def work(self) -> Background:
        """What the agent is doing; it ends with its process."""
        ...

    async def report(self, supervisor: str, raw: bytes) -> None:
        """Hand a report to the supervisor of this name; the run row has the truth if it is gone."""
        ...

    def end(self) -> None:
        """End the agent's process now."""
        ...
