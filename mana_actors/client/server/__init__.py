"""How a client talks to a sync service: the wire, the requests, the tokens."""
