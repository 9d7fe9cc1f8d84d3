"""Keeps an agent's memory true: reads what its rules ask for, one read at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from datetime import datetime

from mana_actors.agent.attempt.clock import DatabaseClock
from mana_actors.agent.memory import Memory
from mana_actors.messages import Changed, Remembered
from state.log.deltas import AgentColumns, MissionColumns, RecordDelta
from state.rules.budgets import Charge
from state.store.agent import AgentStore

_READS = 20
"""A record that changes faster than it is read stays behind: the database has the last word."""


class Recall:
    """One agent's memory with the reads that it needs; every method may raise StateError."""

    def __init__(self, store: AgentStore, agent_id: str) -> None:
        self._store, self._agent_id = store, agent_id
        self.memory = Memory(agent_id)
        self._clock = DatabaseClock()
        self._reading = asyncio.Lock()

    @property
    def now(self) -> datetime:
        """The database's time; only once something has been read."""
        return self._clock.now()

    def begin_anew(self) -> None:
        """Hold nothing of what was told so far: a supervisor of a new epoch speaks now."""
        under_way, self.memory = self.memory.under_way, Memory(self._agent_id)
        self.memory.under_way = under_way

    def hear(self, message: Changed) -> None:
        """Take what a fold changed; an older supervisor tells only that something did."""
        deltas, own = message.deltas, message.agent
        if not deltas:
            deltas = tuple(RecordDelta[MissionColumns](id_, None, v) for id_, v in message.missions)
        if own is None and message.agent_version is not None:
            own = RecordDelta[AgentColumns](self._agent_id, None, message.agent_version)
        self.memory.hear(deltas, own)

    async def catch_up(self) -> None:
        """Read whatever is known to be behind; no round trip where nothing is."""
        async with self._reading:
            for _ in range(_READS):
                if not self.memory.is_behind:
                    return
                await self._read(self.memory.behind)

    async def again(self, missions: Collection[str]) -> None:
        """Read these missions, the agent's record and its budget again."""
        async with self._reading:
            await self._read(missions if self.memory.is_whole else None)

    async def _read(self, missions: Collection[str] | None) -> None:
        memory, found = self.memory, None
        reading = memory.read_begins(missions)
        try:
            found = await self._store.memory(missions)
            self._clock.told(found.now)
        finally:
            memory.read_ended(reading, found)

    def spent(self, tokens: int) -> None:
        """Count what a model call cost."""
        if self.memory.is_whole:
            self.memory.note(Charge(self.now, tokens))

    @property
    def used(self) -> int | None:
        """The tokens of the last 24 hours, None until they were read."""
        return self.memory.window.used(self.now) if self.memory.is_whole else None

    def shown(self) -> Remembered:
        """What is held, for operators: ids, versions and numbers."""
        memory, agent = self.memory, self.memory.agent.held
        return Remembered(
            is_whole=memory.is_whole,
            is_behind=memory.is_behind,
            agent_version=agent.version if agent else None,
            missions={id_: mission.version for id_, mission in memory.missions.items()},
            time_zone=memory.time_zone,
            cap=memory.cap,
            used=self.used,
            held=memory.window.held(self.now) if memory.is_whole else None,
            under_way=tuple(sorted(memory.under_way)),
        )
