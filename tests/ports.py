"""Ports that a test names before somebody listens there."""

import random

from mana_actors.http.sockets import CannotListen, bound_socket

FIRST, LAST = 20_000, 32_000
"""Below those that the system gives to connections, above those of Ray's workers: a port that is
free now would else be some connection's by the time that somebody listens there."""


def free_port() -> int:
    """One where nobody listens."""
    while True:
        port = random.SystemRandom().randint(FIRST, LAST)
        try:
            bound_socket("127.0.0.1", port).close()
        except CannotListen:
            continue
        return port
