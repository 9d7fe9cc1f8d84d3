"""Folding: from which seq to poll, when to look below it, and which awake agents hear of it."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Container, Iterable, Mapping
from types import MappingProxyType

from mana_actors.crash import CrashPoint
from mana_actors.messages import Changed
from state.store.supervisor.snapshots import Folded, MissionDelta, SnapshotStore
from supervisor.supervision.counts import count_withdrawn
from supervisor.supervision.dispatch import Pair
from supervisor.supervision.metrics import Metrics

BATCH = 5000
UNFLOORED_EVERY_S = 1.0
UNFLOORED_SHARE = 20  # reading past dead rows may take at most this part of the time


class FoldLoop:
    """Folds what the feed holds; `route` hears of every fold that changed something."""

    def __init__(
        self,
        snapshots: SnapshotStore,
        metrics: Metrics,
        route: Callable[[Folded], None],
        crash: CrashPoint,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._snapshots, self._metrics, self._route = snapshots, metrics, route
        self._crash, self._clock = crash, clock
        self._floor = 0
        self._unfloored_at = 0.0

    async def some(self) -> int:
        """Fold at most one batch; returns its rows.

        Mostly it looks above what was folded last, past no dead rows. A transaction that began
        before and committed after its neighbours leaves rows below: those are looked for too.
        """
        now = self._clock()
        if now < self._unfloored_at:
            return await self._batch(self._floor)
        rows = await self._batch(0)
        cost_s = self._clock() - now
        self._unfloored_at = now + max(UNFLOORED_EVERY_S, UNFLOORED_SHARE * cost_s)
        return rows

    async def everything(self) -> int:
        """Fold until the feed is empty; returns the rows."""
        rows = 0
        while batch := await self._batch(0):
            rows += batch
        return rows

    async def _batch(self, floor: int) -> int:
        if not await self._snapshots.feed_waits(floor):
            return 0
        self._crash("before_fold")
        folded = await self._snapshots.fold(floor, BATCH)
        self._crash("after_fold")
        self._floor = max(self._floor, folded.floor)
        metrics = self._metrics
        metrics.inc("snapshots_new_total", n=folded.new_missions)
        metrics.inc("snapshots_updated_total", n=len(folded.missions) - folded.new_missions)
        metrics.inc("snapshot_rows_applied_total", n=folded.rows)
        metrics.inc("records_replayed_total", n=folded.replayed)
        metrics.inc("changes_quarantined_total", n=folded.quarantined)
        count_withdrawn(metrics, folded.withdrawn)
        self._crash("before_route")
        self._route(folded)
        self._crash("after_route")
        return folded.rows


NOBODY: Mapping[Pair, Iterable[str]] = MappingProxyType({})


def changes_by_agent(
    folded: Folded,
    awake: Container[Pair],
    epoch: int,
    in_flight: Mapping[Pair, Iterable[str]] = NOBODY,
) -> dict[Pair, Changed]:
    """What to tell each awake agent; calls are batched per agent, never made per change.

    Of a mission that became another's, the agent that it left hears as well, and whoever has a run
    of it under way.
    """
    missions: dict[Pair, list[MissionDelta]] = defaultdict(list)
    running = {(pair[0], mission): pair for pair, some in in_flight.items() for mission in some}
    for each in folded.missions:
        user = each.user_id
        concerned = {(user, each.agent_id), running.get((user, each.mission_id))}
        if each.left is not None:
            concerned.add((user, each.left))
        for pair in concerned:
            if pair is not None and pair in awake:
                missions[pair].append(each)
    agents = {(a.user_id, a.agent_id): a for a in folded.agents if (a.user_id, a.agent_id) in awake}
    told: dict[Pair, Changed] = {}
    for pair in missions.keys() | agents.keys():
        own, mine = agents.get(pair), missions.get(pair, ())
        told[pair] = Changed(
            epoch,
            missions=tuple((each.mission_id, each.version) for each in mine),
            agent_version=own.version if own else None,
            deltas=tuple(each.delta for each in mine),
            agent=own.delta if own else None,
        )
    return told
