"""What is due now and then: beat, refill the pool, let idle sleep, charge holds, prune, sweep."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from math import inf
from typing import Protocol

import msgspec

from mana_actors.logs import without_text
from state.errors import StateError
from state.store.supervisor.schedule import RowHolder, ScheduleStore
from state.store.supervisor.snapshots import Lease, SnapshotStore, StoodDown
from supervisor.node.settings import Settings
from supervisor.supervision.dispatch import Pair
from supervisor.supervision.fold import FoldLoop
from supervisor.supervision.metrics import Metrics
from supervisor.supervision.orders import Ordering
from supervisor.supervision.placement import (
    TYPICAL_AGENT_BYTES,
    Placement,
    awake_memory_bytes,
    most_awake,
)
from supervisor.supervision.pruning import Pruning
from supervisor.supervision.sweep import Reconciler

log = logging.getLogger("mana.supervisor")

EVERY_S = 2.0
SWEEPING_S = 0.05  # between the steps of a sweep
REMEMBERED_S = 3600.0  # a session that was ended counts so long
HELD_S = 1.0  # a commit holds a record for a moment: whoever holds it longer is looked for
HELD_NAMED = 20  # of the records that are held, so many are asked about
BARRED_AFTER = 2  # of those, an agent gets no capability


class Culprits:
    """Ends agents' sessions that are too old, and remembers for an hour whose they were.

    It is a memory only: a restarted supervisor gives everybody another chance.
    """

    def __init__(
        self,
        schedule: ScheduleStore,
        metrics: Metrics,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._schedule, self._metrics, self._clock = schedule, metrics, clock
        self._ended: dict[Pair, list[float]] = defaultdict(list)

    @property
    def barred(self) -> list[Pair]:
        """Agents that get no capability for now."""
        since = self._clock() - REMEMBERED_S
        for pair, times in list(self._ended.items()):
            self._ended[pair] = [at for at in times if at > since]
            if not self._ended[pair]:
                del self._ended[pair]
        return sorted(pair for pair, times in self._ended.items() if len(times) >= BARRED_AFTER)

    async def end(self, lease: Lease, older_s: float) -> list[Pair]:
        """End what is older than that; those who are barred, who now can renew nothing either."""
        for session in await self._schedule.end_sessions(lease, older_s):
            self._metrics.inc("sessions_ended_total")
            whose = " ".join(f"{user}/{agent}" for user, agent in sorted(session.pairs))
            log.warning(
                "session_ended agent=%s application=%s age_s=%.0f",
                whose or "unknown",
                ascii(session.application),
                session.age_s,
            )
            for pair in session.pairs:
                self._ended[pair].append(self._clock())
        barred = self.barred
        for pair in barred:
            await self._schedule.suspend_runs(*pair)
        return barred


class Tenure(msgspec.Struct, frozen=True, kw_only=True):
    """What a supervisor holds while it has its shard: the lease, and the parts that work under it.

    All of it is a cache of Postgres.
    """

    lease: Lease
    snapshots: SnapshotStore
    placement: Placement
    ordering: Ordering
    folding: FoldLoop
    reconciler: Reconciler


class Supervised(Protocol):
    """What upkeep needs of a supervision."""

    settings: Settings
    schedule: ScheduleStore
    metrics: Metrics
    tenure: Tenure | None
    pruning: Pruning
    culprits: Culprits
    release: str
    is_draining: bool
    has_stood_down: bool
    feed_waiting: int
    held_by: Sequence[RowHolder]
    has_grants: bool

    async def beat(self, *, ticked: bool = False) -> None: ...

    def stand_down(self, why: str) -> None: ...


async def upkeep(it: Supervised) -> None:
    """Go on until cancelled; a failed round is repeated whole by the next."""
    while not it.has_stood_down:
        is_sweeping = False
        try:
            is_sweeping = await one_round(it)
        except StoodDown as exc:
            it.stand_down(str(exc))
        except StateError as exc:
            log.warning("upkeep_failed error=%s", exc)
        except Exception as exc:  # upkeep outlives a bad round
            log.exception("upkeep_broken error=%s", type(exc).__name__, exc_info=without_text(exc))
        await asyncio.sleep(SWEEPING_S if is_sweeping else EVERY_S)


async def one_round(it: Supervised) -> bool:
    """One round; True while a sweep is under way, so that it goes on at once."""
    tenure, settings = it.tenure, it.settings
    if tenure is None:
        return False
    placement, now = tenure.placement, asyncio.get_running_loop().time()
    await it.beat()

    # Whoever keeps a transaction open is ended first: others may be waiting for what it holds.
    tenure.ordering.barred = await it.culprits.end(tenure.lease, settings.agent_session_max_s)
    for pair in tenure.ordering.barred:
        if (agent := placement.awake.get(pair)) is not None:
            log.warning("agent_stopped agent=%s/%s process=%s", *pair, agent.process.name)
            placement.give_up(agent)

    # Warm processes for the pool, and for the agents that fall due soon.
    soon = await it.schedule.agents_due_soon(tenure.lease, settings.prepare_ahead_s)
    free = max(0, awake_memory_bytes(settings) - placement.memory_bytes)
    places = max(0, most_awake(settings) - len(placement.awake))
    most = min(free // TYPICAL_AGENT_BYTES, settings.runs_max, places)
    asleep = max(0, soon - len(placement.awake))
    if not it.is_draining:
        placement.refill(max(settings.warm_pool, min(settings.warm_pool + asleep, most)))

    # A process that neither answers nor renews a lease is stopped; one that renews is only busy.
    await placement.greet(tenure.ordering.busy)
    renewing = set(await it.schedule.live_holders()) if placement.silent else set[str]()
    for agent in placement.silent:
        if agent.process.name not in renewing:
            log.warning("agent_stopped agent=%s/%s process=%s", *agent.pair, agent.process.name)
            placement.give_up(agent)

    # One that decrypted something is put to sleep when it reports; here when that was missed.
    idle_time = placement.idle_costs.idle_time(settings, is_crowded=placement.is_crowded)
    since = -inf if idle_time.seconds is None else now - idle_time.seconds
    await asyncio.gather(
        *(
            placement.put_to_sleep(agent)
            for agent in placement.idle(tenure.ordering.busy)
            if agent.used_at <= since or agent.held_a_key or agent.release not in ("", it.release)
        )
    )

    await it.schedule.charge_expired_holds()
    await it.schedule.wake_after_limits()
    if it.pruning.is_due():
        it.pruning.start()
    it.feed_waiting = await it.schedule.feed_backlog(tenure.lease)
    it.has_grants = await it.schedule.has_grants(tenure.lease)
    held = list(tenure.folding.held)[:HELD_NAMED]
    it.held_by = (
        await it.schedule.holders([(key[0], key[2]) for key in held])
        if tenure.folding.held_s > HELD_S
        else ()
    )
    is_sweeping = await tenure.reconciler.step()
    it.metrics.set("records_held", len(tenure.folding.held))
    it.metrics.set("agents_awake", len(placement.awake))
    it.metrics.set("agents_warm", placement.warm)
    it.metrics.set("agents_memory_bytes", placement.memory_bytes)
    it.metrics.set("agent_idle_seconds", inf if idle_time.seconds is None else idle_time.seconds)
    it.metrics.set("agent_start_cpu_seconds", idle_time.start_cpu_s or 0.0)
    it.metrics.set("agent_idle_cpu_ratio", idle_time.idle_cpu_share or 0.0)
    it.metrics.set("runs_open", tenure.ordering.running)
    return is_sweeping
