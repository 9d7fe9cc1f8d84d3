"""What an agent's process knows: its record, its missions, zone, budget, and runs under way. Pure.

It is read once and then kept by deltas, which may be lost, doubled, late, or overtaken by a read.
So a delta is dropped unless it leads to a newer version than the one known, is applied where it
begins at what is held, and else makes its record be read again. While a record is read its deltas
wait, and what an older read found replaces nothing. What is decided here may still be wrong for a
moment: versions travel with order, claim and commit, and the database has the last word.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import datetime
from typing import Generic

import msgspec

from state.log.deltas import AgentColumns, C, HeldRecord, MissionColumns, RecordDelta, applied
from state.rules.budgets import Charge, OpenHold, TokenWindow
from state.runs.found import Found
from state.runs.gate import GateFacts
from state.runs.versions import Versions
from state.runs.withdrawal import why_unwanted


class Reading(msgspec.Struct, frozen=True):
    """A read under way of these missions, None for all; later ones have higher numbers."""

    number: int
    missions: frozenset[str] | None


class Kept(Generic[C]):
    """One record as far as it is known; `version` is also that of the news that it is not here."""

    def __init__(self, id_: str, read: int = 0, version: int = 0) -> None:
        self.id = id_
        self.held: HeldRecord[C] | None = None
        self.version = version
        self.heard = 0
        self.reads = 0
        self.has_left = False
        self._read = read
        self._waiting: list[RecordDelta[C]] = []

    @property
    def is_behind(self) -> bool:
        """Whether a newer version was heard of than is known: it is to be read again."""
        return self.heard > self.version

    def hear(self, delta: RecordDelta[C]) -> None:
        """Take a delta, keep it for the end of a read, or be behind."""
        if self.reads:
            self._waiting.append(delta)
            return
        if delta.after <= self.version:
            return
        self.heard = max(self.heard, delta.after)
        is_whole = delta.gone or delta.columns is not None
        if is_whole and delta.before == (self.held.version if self.held else None):
            self.held, self.version = applied(self.held, delta), delta.after

    def found(self, record: HeldRecord[C] | None, number: int, forgotten: int = 0) -> None:
        """Take what a read found, unless a read that began later has ended before it.

        All that was heard of before it began is in it, and what came meanwhile waits. What it did
        not find may have been deleted, by the version `forgotten` at last.
        """
        if number > self._read:
            self._read, self.held = number, record
            self.has_left = self.has_left and record is None
            self.version = record.version if record else max(self.version, self.heard, forgotten)
            self.heard = self.version

    def leave(self) -> None:
        """It is another agent's: from here on only its version is known."""
        self.held, self.has_left = None, True

    def read_over(self) -> None:
        """No read is under way for it any more, or one less: what waited is heard now."""
        self.reads -= 1
        if not self.reads:
            waiting, self._waiting = sorted(self._waiting, key=lambda d: d.after), []
            for delta in waiting:
                self.hear(delta)


class Memory:
    """What one agent's process knows, and what of it has to be read again."""

    def __init__(self, agent_id: str) -> None:
        self.agent_id = agent_id
        self.is_whole = False
        self.agent: Kept[AgentColumns] = Kept(agent_id)
        self.time_zone: str | None = None
        self.cap: int | None = None
        self.slots_from: datetime | None = None
        self.window = TokenWindow()
        self.under_way: set[str] = set()
        self.waiting: set[str] = set()
        self._missions: dict[str, Kept[MissionColumns]] = {}
        self._whole_reads = 0
        self._reads_begun = 0
        self._newest_read = self._newest_whole = 0
        self._forgotten = 0  # the version up to which a mission that is not here may be deleted
        self._cap_old_at = -1  # how many reads had begun when it was heard to be
        self._noted: list[tuple[int, OpenHold | Charge]] = []

    @property
    def missions(self) -> dict[str, HeldRecord[MissionColumns]]:
        """The missions of this agent by id."""
        return {id_: kept.held for id_, kept in self._missions.items() if kept.held is not None}

    def mission(self, mission_id: str) -> HeldRecord[MissionColumns] | None:
        """One mission, None where it is not this agent's or not known."""
        kept = self._missions.get(mission_id)
        return kept.held if kept else None

    @property
    def behind(self) -> frozenset[str] | None:
        """Missions to read again, None for everything; none where nothing has to be read.

        Every read brings the agent's record and the budget along.
        """
        if not self.is_whole:
            return None
        return frozenset(id_ for id_, kept in self._missions.items() if kept.is_behind)

    @property
    def is_behind(self) -> bool:
        """Whether anything has to be read again."""
        is_cap_old = self._cap_old_at >= self._newest_read
        return is_cap_old or self.agent.is_behind or self.behind != frozenset()

    def hear(
        self,
        missions: Iterable[RecordDelta[MissionColumns]],
        agent: RecordDelta[AgentColumns] | None = None,
    ) -> None:
        """Take what a fold changed."""
        for delta in missions:
            kept = self._kept(delta.id)
            kept.hear(delta)
            self._check_owner(kept)
        if agent is not None:
            before = self.agent.held
            self.agent.hear(agent)
            self._check_cap(before)

    def read_begins(self, missions: Collection[str] | None) -> Reading:
        """A read of these missions begins, None: of all; the agent's record is part of it."""
        self._reads_begun += 1
        self.agent.reads += 1
        if missions is None:
            self._whole_reads += 1
        for kept in self._covered(missions):
            kept.reads += 1
        return Reading(self._reads_begun, None if missions is None else frozenset(missions))

    def read_ended(self, reading: Reading, found: Found | None) -> None:
        """Take what a read found, None: it failed; then what waited is heard."""
        number = reading.number
        if found is not None:
            self.agent.found(found.agent, number)
            for id_ in found.missions:
                self._kept(id_)
            for kept in self._covered(reading.missions):
                kept.found(found.missions.get(kept.id), number, found.forgotten)
            if number > self._newest_read:
                self._newest_read = number
                # Zone, cap and window as of the read, and what was spent here since that began.
                self.time_zone, self.cap, self.slots_from = (
                    found.time_zone,
                    found.cap,
                    found.slots_from,
                )
                self.window = TokenWindow([(c.at, c.tokens) for c in found.charges], found.holds)
                known = {charge.call_id for charge in found.charges}
                self._noted = [each for each in self._noted if each[0] >= number]
                for _, what in self._noted:
                    if what.call_id is not None and what.call_id not in known:
                        self._count(what)
            self.is_whole = self.is_whole or reading.missions is None
        covered = self._covered(reading.missions)
        if reading.missions is None:
            self._whole_reads -= 1
            if found is not None and number > self._newest_whole:
                self._newest_whole, self._forgotten = number, found.forgotten
        for kept in covered:
            kept.read_over()
            self._check_owner(kept)
        before = self.agent.held
        self.agent.read_over()
        self._check_cap(before)

    def differs(self, mission_id: str, decided_by: Versions) -> bool:
        """Whether an order was decided by something else than what is held."""
        held = self.versions(mission_id, decided_by.requested_at)
        return self.mission(mission_id) is None or held != decided_by

    def versions(self, mission_id: str, requested_at: datetime | None) -> Versions:
        """What a decision about a mission is made by now."""
        mission, agent = self.mission(mission_id), self.agent.held
        return Versions(
            mission=mission.version if mission else 0,
            agent=agent.version if agent else None,
            time_zone=self.time_zone,
            cap=self.cap,
            requested_at=requested_at,
        )

    def facts(
        self,
        mission_id: str,
        now: datetime,
        *,
        requested_at: datetime | None = None,
        run_due_at: datetime | None = None,
    ) -> GateFacts | None:
        """What the gate is asked about a mission; None where it is not this agent's.

        Limits of user and installation are not known here: the supervisor asked about those.
        """
        mission = self.mission(mission_id)
        if mission is None:
            return None
        columns, agent = mission.columns, self.agent.held.columns if self.agent.held else None
        is_known = agent is not None and agent.complete and not agent.hidden
        return GateFacts(
            now=now,
            state=columns.state,
            agent_id=columns.agent_id,
            hidden=columns.hidden,
            complete=columns.complete,
            readable=columns.readable,
            next_run_at=columns.next_run_at,
            requested_at=requested_at,
            agent_known=is_known,
            agent_state=agent.state if agent else None,
            max_concurrent=agent.max_concurrent if agent else None,
            cap=self.cap,
            used=0 if self.cap is None else self.window.used(now),
            back_at=None if self.cap is None else self.window.back_at(self.cap, now),
            running=len(self.under_way - {mission_id}),
            run_due_at=run_due_at,
            slots_from=self.slots_from,
            browser_since=columns.browser_since,
        )

    def why_unwanted(self, mission_id: str) -> str | None:
        """Why to stop a run of this mission; None while mission and agent want it, or unknown."""
        kept, agent = self._missions.get(mission_id), self.agent.held
        if kept is None or kept.is_behind:
            return None
        held = kept.held.columns if kept.held else None
        return why_unwanted(
            hidden=not kept.has_left if held is None else held.hidden,
            state=held.state if held else "active",
            is_ours=held is not None,
            agent_hidden=agent is not None and agent.columns.hidden,
            agent_state=agent.columns.state if agent else None,
        )

    def note(self, what: OpenHold | Charge) -> None:
        """A call of this process reserves tokens, or came to a charge."""
        if self._newest_read < self._reads_begun:
            self._noted.append((self._reads_begun, what))
        self._count(what)

    def _kept(self, mission_id: str) -> Kept[MissionColumns]:
        kept = self._missions.get(mission_id)
        if kept is None:
            kept = self._missions[mission_id] = Kept(
                mission_id, self._newest_whole, self._forgotten
            )
            kept.reads = self._whole_reads
        return kept

    def _covered(self, missions: Collection[str] | None) -> list[Kept[MissionColumns]]:
        """What a read of these is about."""
        return [self._kept(id_) for id_ in (self._missions if missions is None else missions)]

    def _check_owner(self, kept: Kept[MissionColumns]) -> None:
        if kept.held is not None and kept.held.columns.agent_id != self.agent_id:
            kept.leave()

    def _check_cap(self, before: HeldRecord[AgentColumns] | None) -> None:
        """The cap in force follows from the agent's own and from operators': it is read."""
        after = self.agent.held
        if before is not after:
            own = [held.columns.max_tokens_per_day if held else None for held in (before, after)]
            if own[0] != own[1]:
                self._cap_old_at = self._reads_begun

    def _count(self, what: OpenHold | Charge) -> None:
        match what:
            case OpenHold():
                self.window.hold(what)
            case Charge(at=at, tokens=tokens, call_id=call_id):
                self.window.settle(call_id or "", at, tokens)
