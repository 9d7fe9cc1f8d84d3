"""By which names a listener is asked, and whether a page that asks is one of ours.

A page of another site can have its own name lead to this machine (DNS rebinding). Its requests then
carry that name, so only names that are ours are answered.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

import msgspec

_HOST = re.compile(
    r"(?:(?P<name>[a-z0-9._-]{1,253})|\[(?P<ipv6>[0-9a-f:.]{2,45})\])(?::[0-9]{1,5})?"
)


class Names(msgspec.Struct, frozen=True, kw_only=True):
    """Loopback's names are always ours; `public` are the addresses (`https://…`) people use.

    `any_address`: also any IP address, for who listens on more than loopback.
    """

    public: tuple[str, ...] = ()
    any_address: bool = False

    def has(self, host: str) -> bool:
        """Whether a Host header, with or without a port, names us."""
        parts = _HOST.fullmatch(host.lower())
        if parts is None:
            return False
        name = parts["name"] or parts["ipv6"]
        name = name.removesuffix(".")
        if name == "localhost" or name in {urlsplit(url).hostname for url in self.public}:
            return True
        try:
            ip = ip_address(name)
        except ValueError:
            return False
        return ip.is_loopback or self.any_address

    def is_tls(self, scope: Mapping[str, Any]) -> bool:
        """Whether a request came over TLS, here or at a proxy that people reach us by."""
        if scope["scheme"] == "https":
            return True
        hosts = header(scope, b"host")
        secure = {urlsplit(url).netloc.lower() for url in self.public if url.startswith("https:")}
        return len(hosts) == 1 and hosts[0].lower() in secure

    def is_own_page(self, scope: Mapping[str, Any]) -> bool:
        """Whether a request comes from a page of ours: one Origin, of our scheme, host and port."""
        origins, hosts = header(scope, b"origin"), header(scope, b"host")
        if len(origins) != 1 or len(hosts) != 1:
            return False
        own = {f"{scope['scheme']}://{hosts[0]}", *self.public}
        return origins[0] in {url.rstrip("/").lower() for url in own}


def is_loopback(host: str) -> bool:
    """Whether a host to listen on is this machine's alone."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def local_url(host: str, port: int) -> str:
    """Where this machine reaches who listens on a host."""
    reachable = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared
    return f"http://{f'[{reachable}]' if ':' in reachable else reachable}:{port}"


def header(scope: Mapping[str, Any], name: bytes) -> list[str]:
    """All that a request says under a name, which is in lower case."""
    return [value.decode("latin-1") for each, value in scope["headers"] if each == name]
