"""Orders under way: given to agents' processes, taken back when they cannot be, ended by reports.

What is in flight is a cache: the runs themselves are rows, and an order that got lost is looked at
again when its `wake_at` comes.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from mana_actors.messages import AgentSettings, Bind, Order, Orders
from mana_actors.processes import ProcessGone
from state.errors import StateError
from state.log.tables import scope_of
from state.runs.outcome import Interrupted, Later, Outcome, Skipped
from state.runs.reasons import told
from state.store.connect import CapabilityTooLong
from state.store.supervisor.schedule import Decided, DueMission, Look, ScheduleStore
from state.store.supervisor.snapshots import Lease
from supervisor.node.settings import Settings
from supervisor.supervision.counts import count_decisions
from supervisor.supervision.dispatch import ORDER_PATIENCE, Pair, places_taken
from supervisor.supervision.metrics import Metrics
from supervisor.supervision.placement import Placement, awake_memory_bytes, most_awake
from supervisor.supervision.ticks import Ticks

log = logging.getLogger("mana.supervisor")

CAPABILITY_S = 900
TOO_MUCH_WAIT_S = 300.0
BARRED_WAIT_S = 60.0
HELD_REST_S = 0.5
"""After so long a mission that somebody holds is tried again."""


async def capability_of(schedule: ScheduleStore, pair: Pair) -> str:
    """A fresh capability for all that the agent's missions and its tools may read now."""
    inputs, spaces, policy = await schedule.reach_of_agent(*pair)
    return await schedule.sign_capability(*pair, spaces, scope_of(inputs, policy), CAPABILITY_S)


class Ordering:
    """Delivers orders, waking agents as needed; remembers which missions are in flight."""

    def __init__(
        self,
        *,
        settings: Settings,
        agent_settings: AgentSettings,
        supervisor: str,
        lease: Lease,
        schedule: ScheduleStore,
        placement: Placement,
        metrics: Metrics,
        ticks: Ticks,
    ) -> None:
        self._settings, self._agent_settings = settings, agent_settings
        self._supervisor, self._lease = supervisor, lease
        self._schedule, self._placement = schedule, placement
        self._metrics, self._ticks = metrics, ticks
        self.in_flight: dict[Pair, set[str]] = defaultdict(set)
        self.places: dict[Pair, int] = {}
        """How many of those may run at once; of an agent that was adopted, all."""
        self._put_off: dict[tuple[str, str], Look] = {}
        self._arriving: set[Pair] = set()
        self.barred: Sequence[Pair] = ()
        """Agents that get no capability for now; upkeep says which."""
        self.deciding = asyncio.Lock()
        """What is in flight, and what is blocked by it, stays so between a look and its words."""

    @property
    def count(self) -> int:
        """Missions ordered and not reported yet."""
        return sum(map(len, self.in_flight.values()))

    @property
    def running(self) -> int:
        """Of those, the ones that have a place of their agent's."""
        return sum(places_taken(self.in_flight, self.places).values())

    @property
    def busy(self) -> set[Pair]:
        """Agents with something in flight."""
        return {pair for pair, missions in self.in_flight.items() if missions}

    def enter(self, pair: Pair, missions: Iterable[str], places: int | None = None) -> None:
        """These missions are in flight from now on, and `places` of the agent's may run at once."""
        self.in_flight[pair].update(missions)
        if places is not None:
            self.places[pair] = places

    def put_off(self, looks: Iterable[Look]) -> None:
        """A look met these in flight: each is what `leave` shall answer."""
        self._put_off.update({(look.user_id, look.mission_id): look for look in looks})

    def leave(self, pair: Pair, mission: str) -> Look | None:
        """An order is over; the look that was put off for it, if any, is to be made up for."""
        missions = self.in_flight.get(pair)
        if missions is not None:
            missions.discard(mission)
            if not missions:
                del self.in_flight[pair]
                self.places.pop(pair, None)
        return self._put_off.pop((pair[0], mission), None)

    def forget(self, pair: Pair) -> set[str]:
        """The agent's process died: what it had in flight, to be looked at again."""
        lost = self.in_flight.pop(pair, set())
        self.places.pop(pair, None)
        for mission in lost:
            self._put_off.pop((pair[0], mission), None)
        return lost

    async def give(self, pair: Pair, orders: Sequence[Order], due: Sequence[DueMission]) -> None:
        """Have the agent carry these out; a failure leaves the missions due."""
        if pair in self.barred:
            log.warning("orders_withheld agent=%s/%s reason=its sessions were ended twice", *pair)
            barred = Skipped("deferred-barred", told("agent-barred"), None, None)
            await self._refuse(pair, orders, due, barred, BARRED_WAIT_S)
            return
        try:
            if not await self._make_room(pair):  # all awake agents are busy: an ordinary wait
                await self._take_back(pair, orders, Later(None))
                return
            try:
                await self._hand_over(pair, tuple(orders))
            finally:
                self._arriving.discard(pair)
        except CapabilityTooLong as exc:
            log.warning("orders_not_signed agent=%s/%s error=%s", *pair, exc)
            too_many = Skipped("skipped-inputs", told("inputs-too-many"), None, None)
            await self._refuse(pair, orders, due, too_many, TOO_MUCH_WAIT_S)
            return
        except (ProcessGone, StateError) as exc:
            log.warning("orders_not_delivered agent=%s/%s error=%s", *pair, exc)
            await self._take_back(pair, orders, Interrupted())
            return
        for mission in due:
            waited = (mission.now - mission.wake_at).total_seconds()
            self._metrics.observe("wake_seconds", max(0.0, waited))

    async def _make_room(self, pair: Pair) -> bool:
        """Whether it may be awake; the least recently used idle agent sleeps for it.

        Its place is taken with no await after the look, since many may be arriving at once.
        """
        awake, most = self._placement.awake, most_awake(self._settings)
        while pair not in awake and (
            len(self._arriving | awake.keys()) >= most
            or self._placement.memory_bytes >= awake_memory_bytes(self._settings)
        ):
            idle = self._placement.idle(self.busy)
            if not idle:
                return False
            await self._placement.put_to_sleep(idle[0])
        self._arriving.add(pair)
        return True

    async def _hand_over(self, pair: Pair, orders: tuple[Order, ...]) -> None:
        """Sign what the agent may reach now, wake it, and tell it its orders."""
        token = await capability_of(self._schedule, pair)
        bind = Bind(*pair, self._lease.epoch, self._supervisor, token, self._agent_settings)
        agent, source = await self._placement.wake(pair, lambda: bind)
        if source != "awake":
            self._metrics.inc("agents_woken_total", {"source": source})
        agent.used_at = asyncio.get_running_loop().time()
        identity = await agent.process.tell(Orders(self._lease.epoch, token, orders))
        if not identity.accepted:
            raise ProcessGone(agent.process.name)

    async def _refuse(
        self,
        pair: Pair,
        orders: Sequence[Order],
        due: Sequence[DueMission],
        refused: Skipped,
        wait_s: float,
    ) -> None:
        """Say where owner and operator look why this agent gets no capability."""
        await self._take_back(pair, orders, refused, wait_s=wait_s)
        runs = {order.mission_id for order in orders if order.kind == "run"}
        decided = [
            Decided(
                user_id=mission.user_id,
                mission_id=mission.mission_id,
                agent_id=mission.agent_id,
                due_at=mission.requested_at or mission.next_run_at,
                decision=refused.decision,
                reason=refused.reason,
            )
            for mission in due
            if mission.mission_id in runs
        ]
        try:
            count_decisions(self._metrics, await self._schedule.note_decisions(decided))
        except StateError as exc:  # said again at the next look
            log.warning("refusal_not_kept agent=%s/%s error=%s", *pair, exc)

    async def _take_back(
        self, pair: Pair, orders: Sequence[Order], ended: Outcome, wait_s: float = 1.0
    ) -> None:
        soon = datetime.fromtimestamp(time.time() + wait_s, UTC)
        looks: list[Look] = []
        for order in orders:
            put_off = self.leave(pair, order.mission_id)
            self._ticks.reported((pair[0], order.mission_id), ended)
            looks.append(put_off or Look(pair[0], order.mission_id, order.version, soon))
        give_up = time.monotonic() + ORDER_PATIENCE.total_seconds()
        try:
            while looks and time.monotonic() < give_up:
                async with self.deciding:
                    held = await self._schedule.look_again(looks)
                looks = [look for look in looks if (look.user_id, look.mission_id) in held]
                if looks:  # until whoever holds them lets go
                    await asyncio.sleep(HELD_REST_S)
        except StateError as exc:  # the look that was set before the order covers it
            log.warning("orders_left agent=%s/%s error=%s", *pair, exc)
