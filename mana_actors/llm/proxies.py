"""The proxy that this machine's environment wants between us and a service elsewhere."""

from __future__ import annotations

import contextlib
import ipaddress
from urllib.parse import urlsplit
from urllib.request import getproxies

_SCHEMES = ("http", "https")


class ProxyUnusable(Exception):
    """No proxy that can be asked; `setting` is its variable, whose value may hold a password."""

    def __init__(self, setting: str) -> None:
        super().__init__(setting)
        self.setting = setting


def proxy_for(url: str) -> str | None:
    """The proxy's address for `url`, None = there is none; raises ProxyUnusable.

    Each variable must make sense, also one that says nothing of this address.
    """
    settings = getproxies()
    found = {
        name: address if "://" in address else f"http://{address}"
        for name in ("all", *_SCHEMES)
        if (address := settings.get(name))
    }
    for name, address in found.items():
        try:
            parts = urlsplit(address)
            usable = parts.scheme in _SCHEMES and bool(parts.hostname)
        except ValueError:
            usable = False
        if not usable:
            raise ProxyUnusable(f"{name}_proxy")
    parts = urlsplit(url)
    if _goes_past(parts.hostname or "", parts.port, settings.get("no", "")):
        return None
    return found.get(parts.scheme) or found.get("all")


def _goes_past(host: str, port: int | None, exceptions: str) -> bool:
    """Whether NO_PROXY names this host; what it says that is no name or network counts for none.

    A name means what is below it, too. A star means all.
    """
    for each in exceptions.lower().split(","):
        name = each.strip().rpartition("://")[2]
        if name == "*":
            return True
        with contextlib.suppress(ValueError):
            if ipaddress.ip_address(host) in ipaddress.ip_network(_bare(name), strict=False):
                return True
        domain, _, of_port = name.removeprefix("*").lstrip(".").partition(":")
        if of_port and of_port != str(port):
            continue
        if domain and (host == domain or host.endswith(f".{domain}")):
            return True
    return False


def _bare(network: str) -> str:
    """`[fd00::1]` and `[fd00::]/8` without their brackets."""
    return network.replace("[", "").replace("]", "")
