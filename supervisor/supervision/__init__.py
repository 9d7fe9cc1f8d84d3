"""One shard's supervisor: fold, route, look at what is due, dispatch, keep order."""
