"""What is due now and then: beat, refill the pool, let idle sleep, charge holds, prune, sweep."""

from __future__ import annotations

import asyncio
import logging
from typing import Protocol

from mana_actors.logs import without_text
from state.errors import StateError
from state.store.schedule import ScheduleStore
from state.store.snapshots import StoodDown
from supervisor.node.settings import Settings
from supervisor.supervision.memory import awake_memory_bytes
from supervisor.supervision.metrics import Metrics
from supervisor.supervision.placement import TYPICAL_AGENT_BYTES
from supervisor.supervision.pruning import Pruning
from supervisor.supervision.shard import Shard

log = logging.getLogger("mana.supervisor")

EVERY_S = 2.0
_SWEEPING_S = 0.05


class Supervised(Protocol):
    """What upkeep needs of a supervision."""

    settings: Settings
    schedule: ScheduleStore
    metrics: Metrics
    shard: Shard | None
    pruning: Pruning
    release: str
    is_draining: bool
    has_stood_down: bool
    feed_waiting: int

    async def beat(self, *, ticked: bool = False) -> None: ...

    def stand_down(self, why: str) -> None: ...


async def upkeep(it: Supervised) -> None:
    """Go on until cancelled; a failed round is repeated whole by the next."""
    while not it.has_stood_down:
        sweeping = False
        try:
            sweeping = await _round(it)
        except StoodDown as exc:
            it.stand_down(str(exc))
        except StateError as exc:
            log.warning("upkeep_failed error=%s", exc)
        except Exception as exc:  # upkeep outlives a bad round
            log.exception("upkeep_broken error=%s", type(exc).__name__, exc_info=without_text(exc))
        await asyncio.sleep(_SWEEPING_S if sweeping else EVERY_S)


async def _round(it: Supervised) -> bool:
    """One round; True while a sweep is under way, so that it goes on at once."""
    shard = it.shard
    if shard is None:
        return False
    await it.beat()
    await _refill(it, shard)
    await shard.placement.greet_all()
    await _end_stopped(it, shard)
    await _let_idle_sleep(it, shard)
    await it.schedule.charge_expired_holds()
    await it.schedule.wake_after_limits()
    if it.pruning.is_due():
        it.pruning.start()
    it.feed_waiting = await it.schedule.feed_backlog(shard.lease)
    sweeping = await shard.reconciler.step()
    it.metrics.set("agents_awake", len(shard.placement.awake))
    it.metrics.set("agents_warm", shard.placement.warm)
    it.metrics.set("runs_open", shard.ordering.count)
    return sweeping


async def _refill(it: Supervised, shard: Shard) -> None:
    """Warm processes for the pool, and for the agents that fall due soon."""
    if it.is_draining:
        return
    settings = it.settings
    soon = await it.schedule.agents_due_soon(shard.lease, settings.prepare_ahead_s)
    asleep = max(0, soon - len(shard.placement.awake))
    free = max(0, awake_memory_bytes(settings) - shard.placement.memory_bytes)
    most = min(free // TYPICAL_AGENT_BYTES, settings.runs_max)
    if settings.agents_awake_max is not None:
        most = min(most, settings.agents_awake_max)
    shard.placement.refill(max(settings.warm_pool, min(settings.warm_pool + asleep, most)))


async def _end_stopped(it: Supervised, shard: Shard) -> None:
    """End what neither answers nor renews a lease; a process that renews is only busy (F4)."""
    silent = shard.placement.silent
    if not silent:
        return
    renewing = set(await it.schedule.live_holders())
    for agent in silent:
        if agent.process.name not in renewing:
            log.warning("agent_stopped agent=%s/%s process=%s", *agent.pair, agent.process.name)
            shard.placement.give_up(agent)


async def _let_idle_sleep(it: Supervised, shard: Shard) -> None:
    """End processes unused for a while, and those of an older release or with secrets at once.

    A process that decrypted something is put to sleep when it reports; here when that was missed.
    """
    now = asyncio.get_running_loop().time()
    for agent in shard.placement.idle(shard.ordering.busy):
        is_old = agent.release not in ("", it.release)
        is_unused = now - agent.used_at >= it.settings.agent_idle_s
        if is_old or agent.held_a_key or (is_unused and not it.settings.agent_keep_awake):
            await shard.placement.put_to_sleep(agent)
