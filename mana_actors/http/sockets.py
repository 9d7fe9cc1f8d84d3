"""Listening sockets: bound before anything starts, so that a taken port is one clear line."""

import errno
import resource
import socket

BACKLOG = 128
"""How many may wait to be accepted, and how many are accepted at a time."""

NO_ADDRESS = "this machine has no such address"

_MOST_FILES = 65_536


def raise_file_limit() -> int:
    """Let this process have as many open files as it is allowed to; returns how many that are."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, _MOST_FILES)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return wanted if soft == resource.RLIM_INFINITY else soft
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    except (OSError, ValueError):  # not here
        return soft
    return wanted


def affordable(connections: int) -> int:
    """So many connections, or as many as a quarter of the files that this process may open."""
    return max(1, min(connections, raise_file_limit() // 4))


class CannotListen(Exception):
    """The address is taken or not ours; `str` is one line that names it."""

    def __init__(self, host: str, port: int, reason: str) -> None:
        super().__init__(host, port, reason)
        self.host, self.port, self.reason = host, port, reason

    def __str__(self) -> str:
        other = "choose another with PORT or --port"
        if self.reason == NO_ADDRESS:
            other = "give it that one, or name another with MANA_HOST"
        return f"cannot listen on {self.host} port {self.port}: {self.reason}; {other}"


def bound_socket(host: str, port: int) -> socket.socket:
    """A listening TCP socket; port 0 takes a free one. Raises CannotListen."""
    try:
        # This names TCP as the protocol. Without it asyncio leaves Nagle's algorithm on, and each
        # answer waits for 40 ms.
        family, kind, proto, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except OSError as exc:
        raise CannotListen(host, port, "there is no such address") from exc
    listening = socket.socket(family, kind, proto)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind(address)
        listening.listen(BACKLOG)
    except OSError as exc:
        listening.close()
        known = {
            errno.EADDRINUSE: "the port is taken by another program",
            errno.EADDRNOTAVAIL: NO_ADDRESS,  # as where loopback has IPv6 alone
        }
        reason = known.get(exc.errno or 0) or exc.strerror or type(exc).__name__
        raise CannotListen(host, port, reason) from exc
    return listening
