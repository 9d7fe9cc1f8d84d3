"""One look at what is due: what runs now, what is told why not, which slots move on. Pure.

Rows come one mission of each user first (the due query's order), so that a crowd of one tenant's
cannot stand before the others'; caps per agent, per user and over all keep it so.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from hashlib import sha256
from types import MappingProxyType
from typing import Any, Literal
from zoneinfo import ZoneInfo

import msgspec

from mana_actors.messages import Order
from state.log.cadence import next_run
from state.log.principals import SYSTEM_MISSION_RUNNER, system_actor
from state.log.records import mission_from_record
from state.log.stamps import instant_of, text_of, winning_stamp
from state.runs.decision import Decision
from state.runs.gate import Full, GateFacts, gate
from state.runs.reasons import told
from state.store.supervisor.schedule import Decided, DueMission, Look

Pair = tuple[str, str]
"""(user id, agent id): agent ids repeat across users."""

ORDER_PATIENCE = timedelta(seconds=30)
"""An ordered mission is looked at again after this long unless its run says otherwise."""


AHEAD = 8
"""Orders that an agent may have beyond its places: each begins when one of its runs ends."""


NO_PLACES: Mapping[Pair, int] = MappingProxyType({})


class Caps(msgspec.Struct, frozen=True):
    """How many runs may be under way, over all and per user; per agent is the owner's setting.

    `due_spread_s` spreads what falls due at one minute over that many seconds, by agent. Without
    `has_room` on the disks that runs write to, none begins.
    """

    runs: int = 64
    runs_per_user: int = 8
    due_spread_s: float = 0.0
    has_room: bool = True


class Move(msgspec.Struct, frozen=True):
    """A slot that is over; `decision` is what its owner is told, if anything."""

    due: DueMission
    decision: Decision | None = None


class Pass(msgspec.Struct):
    """What one look decided."""

    orders: dict[Pair, list[Order]] = msgspec.field(default_factory=dict[Pair, list[Order]])
    looks: list[Look] = msgspec.field(default_factory=list[Look])
    decided: list[Decided] = msgspec.field(default_factory=list[Decided])
    moves: list[Move] = msgspec.field(default_factory=list[Move])
    put_off: list[Look] = msgspec.field(default_factory=list[Look])
    """How to look at once, when they are free again, at missions that are under way still."""
    places: dict[Pair, int] = msgspec.field(default_factory=dict[Pair, int])
    """How many runs each agent that was ordered one may have under way at once."""
    left: int = 0

    @property
    def handled(self) -> int:
        """Missions that were dealt with; those `left` stay due."""
        return len(self.looks) + len(self.moves)

    def order(
        self,
        mission: DueMission,
        kind: Literal["run", "heal"],
        due_at: datetime | None = None,
        *,
        places: int | None = None,
    ) -> None:
        """Have its agent do this; looked at again should the process die."""
        pair = mission.user_id, mission.agent_id
        order = Order(mission.mission_id, mission.version, kind, due_at, mission.versions)
        self.orders.setdefault(pair, []).append(order)
        if places is not None:
            self.places[pair] = places
        self.look(mission, mission.now + ORDER_PATIENCE)

    def look(
        self, mission: DueMission, at: datetime | None, *, is_about_budget: bool = False
    ) -> None:
        """Look at it again then, or when a new row comes."""
        self.looks.append(
            Look(
                mission.user_id,
                mission.mission_id,
                mission.version,
                at,
                was=mission.wake_at,
                decided_by=mission.versions,
                limits=mission.limits if is_about_budget else None,
            )
        )

    def decide(
        self, mission: DueMission, due_at: datetime | None, decision: Decision, reason: str
    ) -> None:
        """Tell its owner."""
        self.decided.append(
            Decided(
                user_id=mission.user_id,
                mission_id=mission.mission_id,
                agent_id=mission.agent_id,
                due_at=due_at,
                decision=decision,
                reason=reason,
            )
        )


def places_taken(in_flight: Mapping[Pair, set[str]], places: Mapping[Pair, int]) -> dict[Pair, int]:
    """How many of each agent's orders run; all where nobody knows how many may."""
    return {
        pair: min(len(missions), places.get(pair, len(missions)))
        for pair, missions in in_flight.items()
    }


class _Places:
    """Orders of each agent, and the places that they take per user and over all."""

    def __init__(self, in_flight: Mapping[Pair, set[str]], places: Mapping[Pair, int]) -> None:
        self.orders = Counter({pair: len(missions) for pair, missions in in_flight.items()})
        self.users: Counter[str] = Counter()
        for pair, count in places_taken(in_flight, places).items():
            self.users[pair[0]] += count
        self.all = sum(self.users.values())

    def take(self, pair: Pair) -> None:
        self.orders[pair] += 1
        self.users[pair[0]] += 1
        self.all += 1


def dispatch(
    due: Iterable[DueMission],
    in_flight: Mapping[Pair, set[str]],
    caps: Caps,
    places_of: Mapping[Pair, int] = NO_PLACES,
) -> Pass:
    """Judge each mission in turn; `in_flight` are missions ordered and not reported yet.

    Of an agent's orders as many as its `places_of` take one, and the others begin after those.
    """
    result, places = Pass(), _Places(in_flight, places_of)
    turned_away: Counter[str] = Counter()
    for mission in due:
        pair = mission.user_id, mission.agent_id
        if mission.mission_id in in_flight.get(pair, ()):
            until = mission.now + ORDER_PATIENCE
            result.look(mission, until)
            key = mission.user_id, mission.mission_id
            result.put_off.append(Look(*key, mission.version, mission.now, until))
            continue
        if mission.heal:
            result.order(mission, "heal")
            continue
        # Runs of the agent by database and memory: a claim may not be in yet.
        running = max(mission.running, places.orders[pair])
        at = _facts(mission, running, has_room=caps.has_room)
        answer, is_next = gate(at), False
        if answer.decision == "skipped-concurrency" and 0 < places.orders[pair] < at.places + AHEAD:
            alone = gate(msgspec.structs.replace(at, running=0))
            if alone.action == "run":
                answer, is_next = alone, True
        if answer.action == "move":
            result.moves.append(Move(mission, answer.decision))
            continue
        if answer.action != "run":
            is_about_budget = answer.decision == "skipped-budget"
            result.look(mission, answer.look_at, is_about_budget=is_about_budget)
            if answer.decision is not None:
                result.decide(mission, answer.due_at, answer.decision, answer.reason)
            continue
        turn = spread_until(mission, caps.due_spread_s)
        if turn is not None and turn > mission.now:
            result.look(mission, turn)
        elif is_next:
            places.orders[pair] += 1
            result.order(mission, "run", answer.due_at, places=at.places)
        elif places.all >= caps.runs:
            result.left += 1  # stays due: the next look with a free place takes it in turn
        elif places.users[mission.user_id] >= caps.runs_per_user:
            turned_away[mission.user_id] += 1
            wait_s = min(60.0, 1 + turned_away[mission.user_id] * 0.05)
            result.look(mission, mission.now + timedelta(seconds=wait_s))
            reason = told("user-busy")
            result.decide(mission, answer.due_at, "skipped-concurrency", reason)
        else:
            places.take(pair)
            result.order(mission, "run", answer.due_at, places=at.places)
    return result


def spread_until(mission: DueMission, spread_s: float) -> datetime | None:
    """When a slot's turn comes within the spread; the same for all missions of one agent."""
    if not spread_s or mission.next_run_at is None or mission.requested_at is not None:
        return None
    name = f"{mission.user_id}/{mission.agent_id}".encode()
    share = int.from_bytes(sha256(name).digest()[:4]) / 2**32
    return mission.next_run_at + timedelta(seconds=share * spread_s)


def _facts(due: DueMission, running: int, *, has_room: bool) -> GateFacts:
    full = None
    if due.full_scope and due.full_unit:
        full = Full(due.full_scope, due.full_unit, due.full_back_at)
    return GateFacts(
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
        max_concurrent=due.max_concurrent,
        cap=due.max_tokens_per_day,
        used=due.used,
        back_at=due.back_at,
        full=full,
        running=running,
        run_state=due.run_state,
        run_due_at=due.run_due_at,
        lease_until=due.lease_until,
        not_before=due.not_before,
        slot_served=due.slot_state is not None,
        slots_from=due.slots_from,
        leaves_missed=bool(due.leaves_missed),
        has_left_space=due.has_left_space,
        agent_of_another=due.agent_of_another,
        browser_since=due.browser_since,
        has_room=has_room,
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
    return (None if following is None else text_of(following)), stamp, actor
