"""What a supervisor holds while it has its shard: all of it a cache of Postgres."""

from __future__ import annotations

from state.store.snapshots import Lease, SnapshotStore
from supervisor.supervision.fold import FoldLoop
from supervisor.supervision.orders import Ordering
from supervisor.supervision.placement import Placement
from supervisor.supervision.sweep import Reconciler


class Shard:
    """The lease, and the parts that work under it."""

    def __init__(
        self,
        lease: Lease,
        snapshots: SnapshotStore,
        placement: Placement,
        ordering: Ordering,
        folding: FoldLoop,
        reconciler: Reconciler,
    ) -> None:
        self.lease, self.snapshots, self.placement = lease, snapshots, placement
        self.ordering, self.folding, self.reconciler = ordering, folding, reconciler
