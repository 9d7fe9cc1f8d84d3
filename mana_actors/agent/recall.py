"""Keeps an agent's memory true: reads what its rules ask for, one read at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Literal

import msgspec

from mana_actors.agent.attempt.clock import DatabaseClock
from mana_actors.agent.memory import Memory
from mana_actors.messages import Changed, Order, Remembered
from state.log.deltas import AgentColumns, MissionColumns, RecordDelta
from state.log.records import InputRef, mission_from_record
from state.rules.budgets import Charge, OpenHold
from state.runs.gate import GateFacts
from state.runs.versions import Versions
from state.store.agent import AgentStore, AgentView, Basis

_READS = 20
"""A record that changes faster than it is read stays behind: the database has the last word."""


class Known(msgspec.Struct, frozen=True):
    """A mission with its agent, as far as the agent's process knows them.

    `inputs` are those that the mission lists; `agent` is None where no record of it came in.
    `versions` are what a decision is made by.
    """

    facts: GateFacts
    inputs: tuple[InputRef, ...]
    agent: AgentView | None
    versions: Versions

    @property
    def basis(self) -> Basis:
        """What a decision on this is made by."""
        agent_version = 0 if self.agent is None else self.agent.version
        return Basis(self.versions.mission, agent_version, self.versions.time_zone or "")


class Recall:
    """One agent's memory with the reads that it needs; every method may raise StateError."""

    def __init__(self, store: AgentStore, user_id: str, agent_id: str) -> None:
        self._store, self._user_id, self._agent_id = store, user_id, agent_id
        self.memory = Memory(agent_id)
        self._clock = DatabaseClock()
        self._reading = asyncio.Lock()
        self._asked = asyncio.Event()
        self._agent_record: tuple[int, str] | None = None  # whole, with its version
        self._requested: dict[str, datetime] = {}

    @property
    def now(self) -> datetime:
        """The database's time; only once something has been read."""
        return self._clock.now()

    def begin_anew(self) -> None:
        """Hold nothing of what was told so far: a supervisor of a new epoch speaks now."""
        before, self.memory = self.memory, Memory(self._agent_id)
        self.memory.under_way, self.memory.waiting = before.under_way, before.waiting

    def hear(self, message: Changed) -> None:
        """Take what a fold changed; an older supervisor tells only that something did."""
        deltas, own = message.deltas, message.agent
        if not deltas:
            deltas = tuple(RecordDelta[MissionColumns](id_, None, v) for id_, v in message.missions)
        if own is None and message.agent_version is not None:
            own = RecordDelta[AgentColumns](self._agent_id, None, message.agent_version)
        self.memory.hear(deltas, own)
        self._ask_again()

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
            if found.agent is not None and found.agent_record is not None:
                self._agent_record = found.agent.version, found.agent_record
            for mission_id in missions or ():
                self._requested.pop(mission_id, None)
            self._requested |= found.requested
        finally:
            memory.read_ended(reading, found)

    async def about(self, order: Order, *, anew: bool = False) -> Known | None:
        """What the gate decides by; nothing is read where memory and order agree."""
        await self.catch_up()
        mission_id, by = order.mission_id, order.decided_by
        if by is not None and not anew and self.agrees(order):
            self._requested.pop(mission_id, None)
            if by.requested_at is not None:
                self._requested[mission_id] = by.requested_at
        else:
            await self.again({mission_id})
        if self._agent() is None and self.memory.agent.held is not None:
            await self.again(())  # its texts are no part of a delta
        memory, requested_at = self.memory, self._requested.get(mission_id)
        mission = memory.mission(mission_id)
        facts = memory.facts(
            mission_id, self.now, requested_at=requested_at, run_due_at=order.due_at
        )
        if mission is None or facts is None:
            return None
        return Known(
            facts=facts,
            inputs=mission_from_record(self._user_id, mission_id, mission.fields).inputs,
            agent=self._agent(),
            versions=memory.versions(mission_id, requested_at),
        )

    def _agent(self) -> AgentView | None:
        """The agent's own record, None where there is none or another version of it is held."""
        held, read = self.memory.agent.held, self._agent_record
        if held is None or read is None or read[0] != held.version:
            return None
        return AgentView(read[1], held.version, held.columns.state, held.columns.hidden)

    def agrees(self, order: Order) -> bool:
        """Whether an order was decided by what is held now."""
        by = order.decided_by
        return by is None or not self.memory.differs(order.mission_id, by)

    def begins(self, mission_id: str) -> None:
        """A run of this mission takes a place of the agent's, until it `ends`."""
        self.memory.under_way.add(mission_id)

    def ends(self, mission_id: str) -> None:
        """It is over, or it was none: who waits for a place asks again."""
        self.memory.under_way.discard(mission_id)
        self._ask_again()

    def give_back(self) -> None:
        """Who waits for a place waits no longer."""
        self.memory.waiting.clear()
        self._ask_again()

    def _ask_again(self) -> None:
        self._asked.set()
        self._asked = asyncio.Event()

    async def place(self, mission_id: str, until_s: float) -> Literal["ask", "give-back", "none"]:
        """Wait for a place until there is a reason to `ask` again, or the order is to go back.

        `none` is to be had where no other run of this process is under way, or none ended by
        `until_s` of the loop's clock.
        """
        memory = self.memory
        if not memory.under_way - {mission_id}:
            return "none"
        memory.waiting.add(mission_id)
        try:
            async with asyncio.timeout_at(until_s):
                await self._asked.wait()
            return "ask" if mission_id in memory.waiting else "give-back"
        except TimeoutError:
            return "none"
        finally:
            memory.waiting.discard(mission_id)

    def holds(self, call_id: str, tokens: int, for_s: float) -> None:
        """A model call reserves so much, for so long at most."""
        if self.memory.is_whole:
            until = self.now + timedelta(seconds=for_s)
            self.memory.note(OpenHold(call_id, tokens, self.now, until))

    def charged(self, call_id: str, tokens: int) -> None:
        """A model call came to so much."""
        if self.memory.is_whole:
            self.memory.note(Charge(self.now, tokens, call_id))

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
            waiting=tuple(sorted(memory.waiting)),
        )
