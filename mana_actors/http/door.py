"""Who may stay connected to a listener, and who has to go so that others get in.

A listener has room for so many connections, and for so many of one address. Where there is none,
the oldest goes that has not shown who it is and waits for no answer, then the oldest that is known
and idle, then the oldest unknown that waits for its answer. Nobody known is sent away while they
are served; where only those are left, whoever comes is refused.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from ipaddress import IPv6Address, ip_address, ip_network
from typing import Any, Literal

import msgspec

IN_SCOPE = "mana.guest"
LOOPBACK_PROXIES = ("127.0.0.1", "::1")
_IPV6_HOME = 64
"""Bits of an IPv6 address that are a network's; whoever has one has all addresses in it."""

Ending = Literal["address-full", "answer-unread", "evicted", "full", "malformed", "slow"]
"""Why a connection was ended or refused by us; fit for a metric's label."""


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What a listener allows. The times count from first to last byte, however they are spread."""

    most: int = 1024
    per_address: int | None = None  # None: an address may have all of them
    proxies: tuple[str, ...] = ()  # addresses or networks that many people come through
    head_s: float = 10.0  # for a request's head
    body_s: float = 60.0  # for its body
    write_s: float = 30.0  # in which a reader takes all of an answer that waits, or 48 KiB of it


class Guest:
    """One connection as its listener sees it; `drop` ends it at once."""

    def __init__(self, address: str, drop: Callable[[], None]) -> None:
        self.address = address
        self.drop = drop
        self.is_known = False  # has shown who it is
        self.is_busy = False  # has sent a whole request and waits for the answer


def vouch_for(scope: Any) -> None:
    """Say that a request's sender is known, so that its connection is not the first to go."""
    guest = scope.get("state", {}).get(IN_SCOPE)
    if guest is not None:
        guest.is_known = True


class Doorway:
    """The connections on one listener; `ended` hears of each that we ended or refused."""

    def __init__(self, limits: Limits, ended: Callable[[Ending], None] | None = None) -> None:
        self.limits = limits
        self._ended = ended
        self._guests: dict[Guest, str] = {}  # oldest first, with what each is counted under
        self._per_home: Counter[str] = Counter()
        self._proxies = [ip_network(text, strict=False) for text in limits.proxies]

    def __iter__(self) -> Iterator[Guest]:
        return iter(list(self._guests))

    def __len__(self) -> int:
        return len(self._guests)

    def admits(self, guest: Guest) -> bool:
        """Let a connection in, and another go if it must; False where nobody can go."""
        home = self._home(guest.address)
        most = self.limits.per_address
        if home and most is not None and self._per_home[home] >= most:
            own = [each for each, at in self._guests.items() if at == home]
            if not self._has_made_room(own):
                self.count("address-full")
                return False
        if len(self._guests) >= self.limits.most and not self._has_made_room(self._guests):
            self.count("full")
            return False
        self._guests[guest] = home
        self._per_home[home] += 1
        return True

    def leave(self, guest: Guest) -> None:
        """Forget a connection that ended."""
        home = self._guests.pop(guest, None)
        if home is not None:
            self._per_home[home] -= 1
            if not self._per_home[home]:
                del self._per_home[home]

    def count(self, ending: Ending) -> None:
        """Tell whoever counts that we ended or refused one more."""
        if self._ended is not None:
            self._ended(ending)

    def _has_made_room(self, guests: Iterable[Guest]) -> bool:
        idle: Guest | None = None
        stranger: Guest | None = None
        for guest in guests:
            if not guest.is_known and not guest.is_busy:
                break
            if not guest.is_busy:
                idle = idle or guest
            elif not guest.is_known:
                stranger = stranger or guest
        else:
            guest = idle or stranger
            if guest is None:
                return False
        self.leave(guest)
        self.count("evicted")
        guest.drop()
        return True

    def _home(self, address: str) -> str:
        """What an address is counted under; "" for this machine's own, and for proxies."""
        try:
            ip = ip_address(address.partition("%")[0])
        except ValueError:
            return ""  # a Unix socket has none
        if isinstance(ip, IPv6Address) and ip.ipv4_mapped is not None:
            ip = ip.ipv4_mapped
        if ip.is_loopback or any(ip in network for network in self._proxies):
            return ""
        if isinstance(ip, IPv6Address):
            return str(ip_network((ip, _IPV6_HOME), strict=False))
        return str(ip)
