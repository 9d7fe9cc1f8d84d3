"""What a supervisor holds while it has its shard: all of it a cache of Postgres."""

from __future__ import annotations

from state.store.snapshots import Lease, SnapshotStore
from supervisor.folding import FoldLoop
from supervisor.ordering import Ordering
from supervisor.placement import Placement
from supervisor.reconciling import Reconciler


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
