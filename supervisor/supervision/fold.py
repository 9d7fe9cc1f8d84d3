"""Folding: from which seq to poll, when to look below it, and which awake agents hear of it."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Container, Iterable, Mapping
from types import MappingProxyType

from mana_actors.crash import CrashPoint
from mana_actors.messages import Changed
from state.store.supervisor.snapshots import Folded, MissionDelta, RecordKey, SnapshotStore
from supervisor.supervision.dispatch import Pair
from supervisor.supervision.metrics import Metrics

BATCH = 5000
UNFLOORED_EVERY_S = 1.0
UNFLOORED_SHARE = 20  # reading past dead rows may take at most this part of the time
HELD_AGAIN_S = 0.05  # a commit holds a record for a moment; whoever holds it longer is asked seldom


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
        self.is_behind = False
        """Whether the last page was not all there is: the next turn begins at once."""
        self.held: dict[RecordKey, float] = {}
        """Records set aside because a transaction holds their snapshots, and since when."""
        self._floor = 0
        self._walk: int | None = None  # how far a walk through the whole feed came
        self._walk_cost_s = 0.0
        self._met: set[RecordKey] = set()  # held records that the walk met
        self._unfloored_at = 0.0
        self._held_again_s = HELD_AGAIN_S

    async def some(self) -> int:
        """Fold at most one page; returns its rows.

        Mostly it looks above what was folded last, past no dead rows. A transaction that began
        before and committed after its neighbours leaves rows below, and so does a record that was
        held: those are walked through page by page, to the end of the feed.
        """
        began = self._clock()
        if self._walk is None and began < self._unfloored_at:
            page = await self._page(self._floor)
            self.is_behind = page.has_more
            if page.held:
                self._unfloored_at = min(self._unfloored_at, self._clock() + self._held_again_s)
            return page.rows
        page = await self._page(self._walk or 0)
        self._met.update(page.held)
        self._walk_cost_s += self._clock() - began
        self.is_behind = page.has_more
        self._walk = page.floor if page.has_more else None
        if self._walk is not None:
            return page.rows
        # The walk is over: what it did not meet is held no more.
        self.held = {key: since for key, since in self.held.items() if key in self._met}
        every_s = self._held_again_s if self.held else UNFLOORED_EVERY_S
        self._held_again_s = min(2 * self._held_again_s, UNFLOORED_EVERY_S)
        if not self.held:
            self._held_again_s = HELD_AGAIN_S
        self._unfloored_at = self._clock() + max(every_s, UNFLOORED_SHARE * self._walk_cost_s)
        self._walk_cost_s, self._met = 0.0, set()
        return page.rows

    @property
    def held_s(self) -> float:
        """For how long the record that was set aside first is held; 0 while none is."""
        return self._clock() - min(self.held.values()) if self.held else 0.0

    async def everything(self) -> int:
        """Fold the whole feed but for what is held; returns the rows."""
        page = await self._page(0)
        rows = page.rows
        while page.has_more:
            page = await self._page(page.floor)
            rows += page.rows
        return rows

    async def _page(self, floor: int) -> Folded:
        """Fold the page after `floor`, count what it did, and tell who is concerned."""
        if not await self._snapshots.feed_waits(floor):
            return Folded(floor=floor)
        self._crash("before_fold")
        folded = await self._snapshots.fold(floor, BATCH)
        self._crash("after_fold")
        self._floor = max(self._floor, folded.floor)
        now = self._clock()
        new = [key for key in folded.held if key not in self.held]
        self.held.update(dict.fromkeys(new, now))
        metrics = self._metrics
        metrics.inc("snapshots_new_total", n=folded.new_missions)
        metrics.inc("snapshots_updated_total", n=len(folded.missions) - folded.new_missions)
        metrics.inc("snapshot_rows_applied_total", n=folded.rows)
        metrics.inc("records_replayed_total", n=folded.replayed)
        metrics.inc("records_held_total", n=len(new))
        metrics.inc("changes_quarantined_total", n=folded.quarantined)
        self._crash("before_route")
        self._route(folded)
        self._crash("after_route")
        return folded


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
