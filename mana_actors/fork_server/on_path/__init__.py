"""The folder that a node puts on the path of its Ray: nothing but the first line of a worker."""
