"""Connections to model services, and what can go wrong below HTTP, told by whose fault it is."""

from __future__ import annotations

import re
import socket
import ssl
from typing import TYPE_CHECKING
from urllib.request import getproxies

from mana_actors.errors import ProviderBusy
from mana_actors.llm.failures.cause import Cause
from mana_actors.trust import is_this_machine, trust_for

if TYPE_CHECKING:
    import httpx2

_LONGEST_CHAIN = 10


def connections(url: str, provider: str, *, limit: int | None = 100) -> httpx2.AsyncClient:
    """A client for the service at `url`, with at most `limit` connections, None = any number.

    Raises ProviderBusy (`settings`; its code is the setting's name in lower case) where a proxy or
    a file of certificates that this machine's environment names cannot be used.
    """
    import httpx2  # noqa: PLC0415 - an agent pays for it only once it plans

    try:
        return httpx2.AsyncClient(
            verify=trust_for(url),
            timeout=None,
            limits=httpx2.Limits(max_connections=limit),
            # A proxy from the environment serves services elsewhere, never one on this machine.
            trust_env=not is_this_machine(url),
        )
    except Exception as exc:  # noqa: BLE001 - a missing package, a wrong scheme, port, file: many
        raise _of_settings(_culprit(exc), provider) from None


def transport_error(exc: BaseException, provider: str) -> ProviderBusy | None:
    """The error that a failed exchange means; None where it is not the network's but a bug of ours.

    Its code is a name of ours or of an exception, never a text: that could hold an address.
    """
    import httpx2  # noqa: PLC0415

    match exc:
        case BaseExceptionGroup():  # of tries to connect that went side by side
            found = [transport_error(each, provider) for each in exc.exceptions]
            return next((error for error in found if error is not None), None)
        case httpx2.InvalidURL() | httpx2.UnsupportedProtocol() | UnicodeError() | OverflowError():
            return _of_settings("url", provider)
        case (
            httpx2.ConnectError()
            | httpx2.ConnectTimeout()
            | httpx2.PoolTimeout()
            | httpx2.ProxyError()
            | httpx2.LocalProtocolError()
        ):
            cause: Cause = "unreachable"
        case httpx2.HTTPError() | OSError():
            cause = "network"
        case _:
            return None
    code = re.sub("([A-Z])", r"_\1", type(exc).__name__).lower().lstrip("_")
    for inner in _reasons(exc):
        if isinstance(inner, socket.gaierror):
            code = "unknown_host"
        elif isinstance(inner, ssl.SSLCertVerificationError):
            code = "certificate_not_trusted"
        elif isinstance(inner, ssl.SSLError):
            code = "no_tls"
    return ProviderBusy("network", 0, None, code, provider, cause=cause)


def _of_settings(name: str, provider: str) -> ProviderBusy:
    return ProviderBusy("network", 0, None, name, provider, cause="settings")


def _culprit(exc: Exception) -> str:
    """The variable that keeps a client from being made; its value may hold a password."""
    import httpx2  # noqa: PLC0415

    if isinstance(exc, OSError):
        return "ssl_cert_file"
    nobody = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    proxies = getproxies()
    for name in ("all", "https", "http"):
        address = proxies.get(name, "")
        try:
            if address:
                proxy = httpx2.Proxy(address if "://" in address else f"http://{address}")
                httpx2.AsyncHTTPTransport(verify=nobody, proxy=proxy)
        except Exception:  # noqa: BLE001 - as above
            return f"{name}_proxy"
    return "environment"


def _reasons(exc: BaseException) -> list[BaseException]:
    found, todo = list[BaseException](), [exc]
    while todo and len(found) < _LONGEST_CHAIN:
        each = todo.pop()
        found.append(each)
        todo += [inner for inner in (each.__cause__, each.__context__) if inner is not None]
    return found
