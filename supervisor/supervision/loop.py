"""What one supervisor does, without Ray: fold, route, look at what is due, dispatch, keep order.

Everything it holds is a cache of Postgres. Two of them for one shard cannot both fold or
dispatch: the newer one's epoch makes the older stand down at its next transaction.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import msgspec

from mana_actors.background import Background
from mana_actors.crash import crash_points
from mana_actors.messages import AgentSettings, Ask, Changed, GiveBack, Remembered, Report, Stop
from mana_actors.processes import AgentProcesses, ProcessGone
from state.errors import StateError
from state.log.stamps import format_instant, instant_of
from state.runs.outcome import FollowUp, Interrupted, LookAt, after
from state.runs.withdrawal import why_unwanted
from state.store.connect import Database
from state.store.janitor import JanitorStore
from state.store.supervisor.schedule import (
    Decided,
    DueMission,
    Look,
    MissionKey,
    RowHolder,
    ScheduleStore,
)
from state.store.supervisor.snapshots import Folded, SnapshotStore, StoodDown
from state.zones import zone_of
from supervisor.health.room import RoomWatch, reserves
from supervisor.node.settings import Settings
from supervisor.supervision.counts import (
    count_decisions,
    count_report,
    count_withdrawn,
    stirs,
    totals,
)
from supervisor.supervision.dispatch import ORDER_PATIENCE, Caps, Pair, Pass, dispatch, next_slot
from supervisor.supervision.fold import FoldLoop, changes_by_agent
from supervisor.supervision.metrics import Metrics
from supervisor.supervision.orders import HELD_REST_S, Ordering
from supervisor.supervision.placement import HELLO_LIMIT_S, Awake, Placement, most_awake
from supervisor.supervision.pruning import Pruning
from supervisor.supervision.sweep import Reconciler
from supervisor.supervision.ticks import Ticks
from supervisor.supervision.upkeep import Culprits, Tenure, upkeep

log = logging.getLogger("mana.supervisor")

DUE_LIMIT = 500
Wake = Callable[[], Awaitable[Collection[MissionKey] | bool]]
"""Looks again at missions; what it returns is true while somebody holds one of them."""

_UNMOVED = timedelta(seconds=1)
_FULL_PAUSE_S = 0.25
_FAIL_PAUSE_S = (0.1, 5.0)


class Supervision:
    """One shard's supervisor; `run` goes on until it is drained or stood down."""

    def __init__(
        self,
        settings: Settings,
        agent_settings: AgentSettings,
        database: Database,
        processes: AgentProcesses,
        *,
        name: str,
        release: str,
        janitor: JanitorStore,
        ray_folder: str | None = None,
    ) -> None:
        self.settings, self._agent_settings = settings, agent_settings
        self._database, self._processes = database, processes
        self._name, self.release = name, release
        self.metrics, self.ticks = Metrics(), Ticks()
        self.schedule = ScheduleStore(database)
        self.pruning = Pruning(janitor, settings, self.metrics)
        self.culprits = Culprits(self.schedule, self.metrics)
        self.tenure: Tenure | None = None
        self.background = Background()
        self.rooms = RoomWatch(reserves(settings, ray_folder))
        self._lacked_room = True  # what waits for room may have been left by another supervisor
        self._crash = crash_points(settings.agent.crash_at)
        self._nudged = asyncio.Event()
        self.is_draining = False
        self.has_stood_down = False
        self.problem: str | None = None
        self.feed_waiting = 0
        self.held_by: Sequence[RowHolder] = ()
        self.has_grants = False
        self._full_until = self._scan_at = 0.0
        self._resting: dict[MissionKey, float] = {}  # held by somebody: until when to pass it over

    async def run(self) -> None:
        """Take the shard, adopt what lives, then turn until stood down."""
        await self._persistently(self.begin)
        keeping_order = asyncio.create_task(upkeep(self))
        try:
            while not self.has_stood_down:
                await self._persistently(self._turn)
        finally:
            keeping_order.cancel()
            await asyncio.wait([keeping_order])

    async def _persistently(self, step: Callable[[], Awaitable[None]]) -> None:
        """One step; the database's absence is waited out here, visibly."""
        pause = _FAIL_PAUSE_S[0]
        while not self.has_stood_down:
            try:
                await step()
            except StoodDown as exc:
                self.stand_down(str(exc))
            except StateError as exc:
                self.problem = str(exc)
                log.warning("turn_failed error=%s", exc)
                await asyncio.sleep(pause)
                pause = min(pause * 2, _FAIL_PAUSE_S[1])
            else:
                if not self.has_stood_down:  # upkeep may have heard of it meanwhile
                    self.problem = None
                return

    def stand_down(self, why: str) -> None:
        """Another supervisor has the shard: fold and dispatch no more."""
        if not self.has_stood_down:
            self.has_stood_down, self.problem = True, why
            log.warning("supervisor_stood_down shard=%s reason=%s", self.settings.shard, why)

    async def begin(self) -> None:
        """Take the shard, and keep the processes that live; raises StateError."""
        settings = self.settings
        lease = await self.schedule.take_shard(
            settings.shard, settings.bucket_lo, settings.bucket_hi, self._name
        )
        snapshots = SnapshotStore(self._database, lease)
        placement = Placement(
            self._processes, self.release, self._name, lease.epoch, self._process_died
        )
        ordering = Ordering(
            settings=settings,
            agent_settings=self._agent_settings,
            supervisor=self._name,
            lease=lease,
            schedule=self.schedule,
            placement=placement,
            metrics=self.metrics,
            ticks=self.ticks,
        )
        self.tenure = Tenure(
            lease=lease,
            snapshots=snapshots,
            placement=placement,
            ordering=ordering,
            folding=FoldLoop(snapshots, self.metrics, self._route, self._crash),
            reconciler=Reconciler(snapshots, self._route),
        )
        # Processes that live are kept, and the claims of those that do not are free.
        for identity in await placement.adopt():
            if identity.user_id is not None and identity.agent_id is not None:
                ordering.enter((identity.user_id, identity.agent_id), identity.running)
        alive = {agent.process.name for agent in placement.awake.values()}
        for holder in await self.schedule.live_holders():
            if holder.startswith("agent-") and holder not in alive:
                _, left = await self.schedule.release_holder(holder)
                if left:
                    self.background.start(self._free(holder, None, ()))
        for user_id, mission_id in await self.schedule.wake_ordered(
            lease, ORDER_PATIENCE.total_seconds()
        ):
            wake = partial(self.schedule.wake_missions, user_id, [mission_id])
            self.background.start(self._look_later(wake))
        log.info("shard_taken shard=%s epoch=%s", lease.shard, lease.epoch)

    @property
    def _held(self) -> Tenure:
        assert self.tenure is not None, "the shard is taken before anything turns"
        return self.tenure

    async def _turn(self) -> None:
        await self._held.folding.some()
        handled = 0
        wants_scan = self.settings.tick_enabled and time.monotonic() >= self._scan_at
        if self.ticks.asked or wants_scan:
            handled = (await self.scan()).handled
        elif self.settings.tick_enabled:
            handled = (await self.look()).handled
        if not self._held.folding.is_behind and handled < DUE_LIMIT:
            await self._pause()

    async def _pause(self) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._nudged.wait(), self.settings.fold_poll_ms / 1000)
        self._nudged.clear()

    async def scan(self) -> Pass:
        """A tick: fold everything, look at everything, and say so."""
        began = time.monotonic()
        self._scan_at = began + self.settings.tick_interval_ms / 1000
        self.metrics.inc("ticks_total")
        record = self.ticks.begin(datetime.now(UTC))
        try:
            await self._held.folding.everything()
            looked = await self.look()
            await self.beat(ticked=True)
        except StateError as exc:
            self.ticks.failed(record, str(exc))
            raise
        self.ticks.scanned(record)
        self.metrics.observe("tick_duration_seconds", time.monotonic() - began)
        return looked

    async def beat(self, *, ticked: bool = False) -> None:
        """Say that this supervisor lives; raises StoodDown where its epoch is over."""
        lease, now = self._held.lease, datetime.now(UTC)
        folded_at = now if self.problem is None else None
        if not await self.schedule.beat(
            lease, folded_at=folded_at, ticked_at=now if ticked else None
        ):
            raise StoodDown(lease.shard, lease.epoch)

    async def look(self) -> Pass:
        """Look once at what is due, and have done what was decided about it."""
        if self.is_draining or time.monotonic() < self._full_until:
            return Pass()
        has_room = not await self.rooms.look()
        left = 0  # what somebody holds is woken by a later look
        if has_room and self._lacked_room:
            woken, left = await self.schedule.wake_deferred(self._held.lease)
            if woken:
                log.info("room_found missions=%s", woken)
        elif not has_room and not self._lacked_room:
            log.warning("room_lost folders=%s", ", ".join(self.rooms.short))
            self._recall_orders()
        self._lacked_room = not has_room or left > 0
        now_s = time.monotonic()
        self._resting = {key: until for key, until in self._resting.items() if until > now_s}
        settings, ordering = self.settings, self._held.ordering
        caps = Caps(settings.runs_max, settings.runs_per_user, settings.due_spread_s, has_room)
        # Of a run that ends after the read is heard after what is decided by it.
        async with ordering.deciding:
            due = await self.schedule.due(self._held.lease, DUE_LIMIT, list(self._resting))
            if not due:
                return Pass()
            self.ticks.saw(len(due))
            # A run that waits and is wanted no longer ends here; one that is held, at a later look.
            held = {
                (mission.user_id, mission.mission_id)
                for mission in due
                if mission.run_state == "waiting"
                and _why_unwanted(mission) is not None
                and not await self._withdraw_unwanted(mission.user_id, mission.mission_id)
            }
            result = dispatch(due, ordering.in_flight, caps, ordering.places)
            ordering.put_off(result.put_off)
            settled = await self.schedule.settle(
                [look for look in result.looks if (look.user_id, look.mission_id) not in held],
                result.decided,
            )
        if result.left:
            self._full_until = time.monotonic() + _FULL_PAUSE_S
        count_decisions(self.metrics, settled.noted)
        self._resting |= dict.fromkeys(held | settled.held, now_s + HELD_REST_S)
        for move in result.moves:
            if await self._move(move.due) and move.decision is not None:
                count_decisions(self.metrics, [move.decision])
        self._crash("before_dispatch")
        rows = {(mission.user_id, mission.mission_id): mission for mission in due}
        for pair, orders in result.orders.items():
            ordering.enter(pair, [order.mission_id for order in orders], result.places.get(pair))
            self.ticks.ordered((pair[0], o.mission_id) for o in orders if o.kind == "run")
            mine = [rows[(pair[0], order.mission_id)] for order in orders]
            self.background.start(ordering.give(pair, orders, mine))
        self._crash("after_dispatch")
        return result

    async def _move(self, mission: DueMission) -> bool:
        """Write the next run of a slot that nobody has to serve any more; whether that was done."""
        found = await self.schedule.mission_record(mission.user_id, mission.mission_id)
        if found is None or mission.next_run_at is None:
            return False
        zone = zone_of(found[1], self.settings.agent.time_zone)
        following, stamp, actor = next_slot(
            mission.user_id, mission.mission_id, found[0], zone, mission.now
        )
        key = mission.user_id, mission.mission_id
        if await self.schedule.move_slot(*key, mission.next_run_at, following, stamp, actor):
            log.info("slot_moved agent=%s/%s mission=%s", key[0], mission.agent_id, key[1])
            return True
        # It is the mission's slot no more, as the fold will show.
        look = Look(*key, mission.version, mission.now + _UNMOVED, mission.wake_at)
        if await self.schedule.look_again([look]):
            self._resting[key] = time.monotonic() + HELD_REST_S
        return False

    def _route(self, folded: Folded) -> None:
        tenure = self._held
        for pair, message in changes_by_agent(
            folded, tenure.placement.awake, tenure.lease.epoch, tenure.ordering.in_flight
        ).items():
            self.background.start(self._tell(pair, message))

    def stop_run(self, pair: Pair, mission_id: str, run_id: str, reason: str) -> None:
        """Have the agent drop a run whose row is closed, and look at what it leaves."""
        if self.tenure is not None:
            message = Stop(self.tenure.lease.epoch, mission_id, run_id, reason)
            self.background.start(self._tell(pair, message))
        self._nudged.set()

    def _recall_orders(self) -> None:
        """What runs goes on, and no order that waits for its end begins."""
        if self.tenure is not None:
            for pair in self.tenure.ordering.busy:
                self.background.start(self._tell(pair, GiveBack(self.tenure.lease.epoch)))

    async def memory_of(self, pair: Pair) -> Remembered | None:
        """What an awake agent's process holds; None where it sleeps or does not answer."""
        agent = self.tenure.placement.awake.get(pair) if self.tenure is not None else None
        if self.tenure is None or agent is None:
            return None
        try:
            identity = await agent.process.tell(Ask(self.tenure.lease.epoch), HELLO_LIMIT_S)
        except ProcessGone:
            return None
        return identity.memory

    async def _tell(self, pair: Pair, message: Changed | Stop | GiveBack) -> None:
        agent = self._held.placement.awake.get(pair)
        if agent is not None:
            try:
                await agent.process.tell(message)
            except ProcessGone:  # it reads the version anew when it runs
                log.info("change_not_delivered agent=%s/%s", *pair)

    async def report(self, report: Report) -> None:
        """An order is over: free its place, count it, and do what its ending asks for."""
        pair = (report.user_id, report.agent_id)
        placement, ordering = self._held.placement, self._held.ordering
        put_off = ordering.leave(pair, report.mission_id)
        agent = placement.awake.get(pair)
        if agent is not None:
            agent.used_at = asyncio.get_running_loop().time()
            if report.held_a_key and agent.process.name == report.holder:
                self.background.start(self._end_with_secrets(agent))
        count_report(self.metrics, report)
        self.ticks.reported((report.user_id, report.mission_id), report.ended)
        try:
            await self._follow_up(report, after(report.ended), put_off)
        except StateError as exc:  # the look set with the order covers it
            log.warning(
                "refusal_not_kept agent=%s/%s mission=%s error=%s", *pair, report.mission_id, exc
            )
        self._full_until = 0.0
        self._nudged.set()

    async def _follow_up(self, report: Report, ending: FollowUp, put_off: Look | None) -> None:
        """Look at the mission again when its ending says, and keep what nobody noted yet.

        What woke it while its order was under way counts more: the ending may not know of it.
        """
        user_id, mission_id = report.user_id, report.mission_id
        deciding = self._held.ordering.deciding
        if put_off is not None:
            async with deciding:
                await self._until_free(partial(self.schedule.look_again, [put_off]))
        decided: list[Decided] = []
        if ending.notes and ending.decision is not None:
            word = Decided(
                user_id=user_id,
                mission_id=mission_id,
                agent_id=report.agent_id,
                due_at=ending.due_at,
                decision=ending.decision,
                reason=ending.reason,
            )
            decided.append(word)
        match ending.look:
            case LookAt(at=at) if put_off is None:
                look = Look(
                    user_id,
                    mission_id,
                    report.version,
                    at,
                    decided_by=report.decided_by,
                    is_capped=ending.decision == "skipped-budget",
                )
                await self._until_free(partial(self._keep_refusal, look, decided))
            case "now":
                look = Look(user_id, mission_id, report.version, datetime.now(UTC))
                await self._until_free(partial(self.schedule.look_again, [look]))
            case "now-if-put-off":
                await self._until_free(partial(self.schedule.wake_missions, user_id, [mission_id]))
            case LookAt() | "as-set":
                pass
        if ending.rechecks:
            await self._withdraw_unwanted(user_id, mission_id)
        if ending.wakes_next:
            await self._until_free(partial(self._wake_blocked, user_id, report.agent_id))

    async def _keep_refusal(self, look: Look, decided: list[Decided]) -> set[MissionKey]:
        """Keep an ending's word unless a change overtook it: then the mission is looked at now."""
        settled = await self.schedule.settle([look], decided)
        count_decisions(self.metrics, settled.noted)
        if not settled.overtaken:
            return settled.held
        return await self.schedule.wake_missions(look.user_id, [look.mission_id])

    async def _wake_blocked(self, user_id: str, agent_id: str) -> bool:
        """Give a place that is free to who waits for one; True where all of those are held."""
        async with self._held.ordering.deciding:
            return await self.schedule.wake_blocked(user_id, agent_id)

    async def _until_free(self, wake: Wake) -> None:
        """Look now, or in the background once whoever holds the mission lets go."""
        if await wake():
            self.background.start(self._look_later(wake))

    async def _look_later(self, wake: Wake) -> None:
        while not self.has_stood_down:
            await asyncio.sleep(HELD_REST_S)
            with contextlib.suppress(StateError):
                if not await wake():
                    self._nudged.set()
                    return

    async def _end_with_secrets(self, agent: Awake) -> None:
        """Its memory held decrypted text: its pair wakes in a never-used process next time."""
        if agent in self._held.placement.idle(self._held.ordering.busy):
            await self._held.placement.put_to_sleep(agent)

    async def _withdraw_unwanted(self, user_id: str, mission_id: str) -> int:
        withdrawn = await self.schedule.withdraw_unwanted(user_id, [mission_id])
        count_withdrawn(self.metrics, withdrawn)
        return withdrawn

    def _process_died(self, name: str, pair: Pair | None) -> None:
        lost: set[str] = set()
        if pair is not None:
            lost = self._held.ordering.forget(pair)
            for mission in lost:
                self.ticks.reported((pair[0], mission), Interrupted("its process died"))
            log.info("agent_process_died agent=%s/%s process=%s", *pair, name)
        self.background.start(self._free(name, pair, sorted(lost)))

    async def _free(self, holder: str, pair: Pair | None, lost: Sequence[str]) -> None:
        """End a dead process's claims, and look at once at what it was ordered or kept waiting."""
        try:
            freed, left = await self.schedule.release_holder(holder)
            if freed:
                self._nudged.set()
            if pair is not None:
                async with self._held.ordering.deciding:
                    await self._until_free(partial(self.schedule.wake_missions, pair[0], lost))
                await self._until_free(partial(self._wake_blocked, *pair))
            while left:  # until its last transaction or its leases are over
                await asyncio.sleep(HELD_REST_S)
                _, left = await self.schedule.release_holder(holder)
                self._nudged.set()
        except StateError as exc:  # then its leases run out
            log.warning("claims_not_freed process=%s error=%s", holder, exc)

    def ask_tick(self) -> str:
        """Scan at the next turn; the scan's id."""
        self._nudged.set()
        return self.ticks.ask()

    async def drain(self, within_s: float) -> int:
        """Start nothing more, wait for what runs, let all sleep; returns runs still under way."""
        self.is_draining = True
        self._recall_orders()
        deadline = time.monotonic() + within_s
        tenure = self.tenure
        while tenure is not None and tenure.ordering.count and time.monotonic() < deadline:
            await self._pause()
        left = tenure.ordering.count if tenure else 0
        if tenure is not None:
            await tenure.placement.end_all()
        self.stand_down("drained")
        return left

    def status(self) -> dict[str, Any]:
        """Facts for operators: ids, states and numbers."""
        tenure = self.tenure
        return {
            "shard": self.settings.shard,
            "release": self.release,
            "problem": self.problem,
            "feed_waiting": self.feed_waiting,
            "held": len(tenure.folding.held) if tenure else 0,
            "held_s": round(tenure.folding.held_s, 1) if tenure else 0.0,
            "held_by": [msgspec.to_builtins(one) for one in self.held_by],
            "has_grants": self.has_grants,
            "waits_for_room": list(self.rooms.short),
            "barred": [f"{user}/{agent}" for user, agent in self.culprits.barred],
            "stood_down": self.has_stood_down,
            "draining": self.is_draining,
            "at": format_instant(instant_of(datetime.now(UTC))),
            "epoch": tenure.lease.epoch if tenure else 0,
            "awake": [
                {
                    "user": user,
                    "agent": agent,
                    "process": held.process.name,
                    "pid": held.pid,
                    "fork": held.is_fork,
                    "memory_bytes": held.memory_bytes,
                    "tokens_24h": held.tokens_24h,
                    "running": sorted(tenure.ordering.in_flight.get((user, agent), ())),
                    "idle_s": round(asyncio.get_running_loop().time() - held.used_at, 1),
                }
                for (user, agent), held in tenure.placement.awake.items()
            ]
            if tenure
            else [],
            "awake_most": most_awake(self.settings),
            "idle": msgspec.to_builtins(tenure.placement.idle_costs.idle_time(self.settings))
            if tenure
            else None,
            "warm": tenure.placement.warm if tenure else 0,
            "making": tenure.placement.making if tenure else 0,
            "running": tenure.ordering.running if tenure else 0,
            "stirs": stirs(self.metrics),
            "totals": totals(self.metrics),
            "reconcile": tenure.reconciler.status() if tenure else {},
        }


def _why_unwanted(mission: DueMission) -> str | None:
    return why_unwanted(
        hidden=mission.hidden,
        state=mission.state,
        agent_hidden=mission.agent_hidden,
        agent_state=mission.agent_state,
    )
