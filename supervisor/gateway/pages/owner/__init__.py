"""Pages for owners: what waits, what happened, what comes next, what it cost, why not."""
