"""One look at what is due: what runs now, what is told why not, which slots move on. Pure.

Rows come one mission of each user first (the due query's order), so that a crowd of one tenant's
cannot stand before the others'; caps per agent, per user and over all keep it so (P9).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any
from zoneinfo import ZoneInfo

import msgspec

from mana_actors.messages import Order
from state.log.cadence import next_run
from state.log.principals import SYSTEM_MISSION_RUNNER, system_actor
from state.log.records import mission_from_record
from state.log.stamps import format_instant, instant_of, winning_stamp
from state.runs.gate import Full, Standing, Verdict, verdict
from state.store.supervisor.schedule import Decided, DueMission, Look

Pair = tuple[str, str]
"""(user id, agent id): agent ids repeat across users."""

ORDER_PATIENCE = timedelta(seconds=30)
"""An ordered mission is looked at again after this long unless its run says otherwise."""


class Caps(msgspec.Struct, frozen=True):
    """How many runs may be under way, over all and per user; per agent is the owner's setting.

    `due_spread_s` spreads what falls due at one minute over that many seconds, by agent.
    """

    runs: int = 64
    runs_per_user: int = 8
    due_spread_s: float = 0.0


class Move(msgspec.Struct, frozen=True):
    """A slot that is served, or older than the installation."""

    due: DueMission


class Pass(msgspec.Struct):
    """What one look decided."""

    orders: dict[Pair, list[Order]] = msgspec.field(default_factory=dict[Pair, list[Order]])
    looks: list[Look] = msgspec.field(default_factory=list[Look])
    decided: list[Decided] = msgspec.field(default_factory=list[Decided])
    moves: list[Move] = msgspec.field(default_factory=list[Move])
    left: int = 0

    @property
    def handled(self) -> int:
        """Missions that were dealt with; those `left` stay due."""
        return len(self.looks) + len(self.moves)


def dispatch(due: Iterable[DueMission], in_flight: Mapping[Pair, set[str]], caps: Caps) -> Pass:
    """Judge each mission in turn; `in_flight` are missions ordered and not reported yet."""
    result = Pass()
    places = _Places(in_flight, caps)
    for mission in due:
        _look(result, places, mission)
    return result


class _Places:
    """Places taken, per agent, per user and over all."""

    def __init__(self, in_flight: Mapping[Pair, set[str]], caps: Caps) -> None:
        self.caps = caps
        self._in_flight = in_flight
        self._agents: Counter[Pair] = Counter(
            {pair: len(missions) for pair, missions in in_flight.items()}
        )
        self._users: Counter[str] = Counter()
        for (user, _), missions in in_flight.items():
            self._users[user] += len(missions)
        self._all = sum(self._users.values())
        self.turned_away: Counter[str] = Counter()

    def under_way(self, mission: DueMission) -> bool:
        return mission.mission_id in self._in_flight.get((mission.user_id, mission.agent_id), ())

    def running(self, mission: DueMission) -> int:
        """Runs of the agent by database and memory: a claim may not be in yet."""
        return max(mission.running, self._agents[(mission.user_id, mission.agent_id)])

    @property
    def full(self) -> bool:
        return self._all >= self.caps.runs

    def user_full(self, user_id: str) -> bool:
        return self._users[user_id] >= self.caps.runs_per_user

    def take(self, mission: DueMission) -> None:
        self._agents[(mission.user_id, mission.agent_id)] += 1
        self._users[mission.user_id] += 1
        self._all += 1


def _look(result: Pass, places: _Places, mission: DueMission) -> None:
    if places.under_way(mission):
        result.looks.append(_again(mission, mission.now + ORDER_PATIENCE))
        return
    if mission.heal:
        _order(result, mission, "heal")
        return
    gate = verdict(standing(mission, places.running(mission)))
    if gate.action == "run":
        _admit(result, places, mission, gate)
    elif gate.action == "move":
        result.moves.append(Move(mission))
    else:
        result.looks.append(_again(mission, gate.look_at))
        if gate.decision is not None:
            result.decided.append(
                Decided(
                    mission.user_id,
                    mission.mission_id,
                    mission.agent_id,
                    gate.due_at,
                    gate.decision,
                    gate.reason,
                )
            )


def spread_until(mission: DueMission, spread_s: float) -> datetime | None:
    """When a slot's turn comes within the spread; the same for all missions of one agent."""
    if not spread_s or mission.next_run_at is None or mission.requested_at is not None:
        return None
    name = f"{mission.user_id}/{mission.agent_id}".encode()
    share = int.from_bytes(sha256(name).digest()[:4]) / 2**32
    return mission.next_run_at + timedelta(seconds=share * spread_s)


def _admit(result: Pass, places: _Places, mission: DueMission, gate: Verdict) -> None:
    turn = spread_until(mission, places.caps.due_spread_s)
    if turn is not None and turn > mission.now:
        result.looks.append(_again(mission, turn))
        return
    if places.full:
        result.left += 1  # stays due: the next look with a free place takes it in turn
        return
    if places.user_full(mission.user_id):
        places.turned_away[mission.user_id] += 1
        wait = timedelta(seconds=min(60.0, 1 + places.turned_away[mission.user_id] * 0.05))
        result.looks.append(_again(mission, mission.now + wait))
        reason = "as many runs of this user are under way as one user may have"
        result.decided.append(
            Decided(
                mission.user_id,
                mission.mission_id,
                mission.agent_id,
                gate.due_at,
                "skipped-concurrency",
                reason,
            )
        )
        return
    places.take(mission)
    _order(result, mission, "run")


def _order(result: Pass, mission: DueMission, kind: str) -> None:
    order = Order(mission.mission_id, mission.version, "heal" if kind == "heal" else "run")
    result.orders.setdefault((mission.user_id, mission.agent_id), []).append(order)
    result.looks.append(_again(mission, mission.now + ORDER_PATIENCE))


def _again(mission: DueMission, at: datetime | None) -> Look:
    return Look(mission.user_id, mission.mission_id, mission.version, at)


def standing(due: DueMission, running: int) -> Standing:
    """What the gate is asked about a due row."""
    return Standing(
        now=due.now,
        state=due.state,
        agent_id=due.agent_id,
        hidden=due.hidden,
        complete=due.complete,
        readable=due.readable,
        next_run_at=due.next_run_at,
        requested_at=due.requested_at,
        agent_known=due.agent_known,
        agent_state=due.agent_state,
        max_concurrent=due.max_concurrent
        if due.agent_known and due.max_concurrent is not None
        else 1,
        cap=due.max_tokens_per_day,
        used=due.used,
        back_at=due.back_at,
        full=Full(due.full_scope, due.full_unit, due.full_back_at)
        if due.full_scope and due.full_unit
        else None,
        running=running,
        run_state=due.run_state,
        run_due_at=due.run_due_at,
        lease_until=due.lease_until,
        not_before=due.not_before,
        slot_served=due.slot_state is not None,
        slots_from=due.slots_from,
        browser_since=due.browser_since,
    )


def next_slot(
    user_id: str, mission_id: str, record: str, zone: ZoneInfo, now: datetime
) -> tuple[str | None, str, str]:
    """`nextRunAt`, its stamp and the actor (JSON) of the row that moves a mission's slot on."""
    fields: dict[str, Any] = msgspec.json.decode(record)
    mission = mission_from_record(user_id, mission_id, fields)
    following = next_run(mission.cadence, now, zone) if mission.cadence else None
    stamp = winning_stamp(instant_of(now), fields.get("__fieldMeta", {}).get("nextRunAt"))
    actor = msgspec.json.encode(system_actor(SYSTEM_MISSION_RUNNER)).decode()
    return (None if following is None else format_instant(instant_of(following))), stamp, actor
