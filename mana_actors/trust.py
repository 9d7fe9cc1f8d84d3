"""What a client of ours trusts, by the address that it asks."""

from __future__ import annotations

import ipaddress
import ssl
from urllib.parse import urlsplit


def is_this_machine(url: str) -> bool:
    """Whether an address means this machine itself."""
    try:
        host = urlsplit(url).hostname or ""
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def trust_for(url: str) -> ssl.SSLContext | bool:
    """For httpx2's `verify`: the world's certificates, or nobody's for plain HTTP on this machine.

    Reading those takes 35 ms of CPU for each client, and there none is met; a context that trusts
    nobody refuses should one be met after all.
    """
    if is_this_machine(url) and urlsplit(url).scheme == "http":
        return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    return True
