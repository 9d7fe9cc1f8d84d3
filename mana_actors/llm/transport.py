"""Connections to model services, and what can go wrong below HTTP, told by whose fault it is."""

from __future__ import annotations

import asyncio
import io
import re
import socket
import ssl
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from mana_actors.errors import ProviderBusy
from mana_actors.llm.failures.cause import Cause
from mana_actors.llm.proxies import ProxyUnusable, proxy_for
from mana_actors.trust import is_this_machine, trust_for

if TYPE_CHECKING:
    import aiohttp

_LONGEST_CHAIN = 10
_KEPT_IDLE_S = 5.0
_LARGE_BYTES = 1024 * 1024
_HEAD_BYTES = 64 * 1024
_MOST_HEADERS = 1000


class Connections:
    """Connections to the service at `url`, at most `limit` at once, None = any number.

    Made within a running loop, and closed in it. It follows no redirect, keeps no cookie and
    unpacks nothing; how long anything may take is the caller's to say. Raises ProviderBusy
    (`settings`; its code is the setting's name in lower case) where a proxy or a file of
    certificates that this machine's environment names cannot be used.
    """

    def __init__(self, url: str, provider: str, *, limit: int | None = 100) -> None:
        import aiohttp  # noqa: PLC0415 - an agent pays for it only once it plans
        from yarl import URL  # noqa: PLC0415 - of the same

        here = is_this_machine(url)
        try:
            # A proxy from the environment serves services elsewhere, never one on this machine.
            proxy = None if here else proxy_for(url)
            trusted = _trusted(url, of_environment=not here)
            self._proxy = None if proxy is None else URL(proxy)
            URL(url)
        except ProxyUnusable as exc:
            raise _of_settings(exc.setting, provider) from None
        except OSError:
            raise _of_settings("ssl_cert_file", provider) from None
        except ValueError:
            raise _of_settings("url", provider) from None
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                ssl=trusted, limit=limit or 0, keepalive_timeout=_KEPT_IDLE_S, use_dns_cache=False
            ),
            headers={"user-agent": "mana-actors"},
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(),
            auto_decompress=False,
            max_line_size=_HEAD_BYTES,
            max_field_size=_HEAD_BYTES,
            max_headers=_MOST_HEADERS,
        )

    @asynccontextmanager
    async def sent(
        self, method: str, url: str, headers: Mapping[str, str], content: bytes | None = None
    ) -> AsyncGenerator[aiohttp.ClientResponse]:
        """The answer to a request; its connection is cut where it is not read to its end.

        What is raised has the request's headers in it, and is for `transport_error` alone.
        """
        # An idle connection that the service closed shows only once the loop has looked at it: it
        # finds that in one turn and acts on it in the next.
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        # A large body in one piece would hold up the loop; a file is sent piece by piece.
        body = io.BytesIO(content) if content and len(content) > _LARGE_BYTES else content
        async with self._session.request(
            method, url, data=body, headers=headers, proxy=self._proxy, allow_redirects=False
        ) as response:
            if response.status < 200:  # it changes the protocol, or makes no sense
                raise ConnectionError(response.status)
            yield response

    async def aclose(self) -> None:
        """Close them."""
        await self._session.close()


def is_success(status: int) -> bool:
    """Whether a status says that the service did what was asked."""
    return 200 <= status < 300


def transport_error(exc: BaseException, provider: str) -> ProviderBusy | None:
    """The error that a failed exchange means; None where it is not the network's but a bug of ours.

    Its code is a name of ours or of an exception, never a text: that could hold an address.
    """
    import aiohttp  # noqa: PLC0415

    cause: Cause = "network"
    match exc:
        case (
            aiohttp.InvalidURL()
            | aiohttp.NonHttpUrlClientError()
            | UnicodeError()
            | OverflowError()
        ):
            return _of_settings("url", provider)
        case aiohttp.ClientConnectorError():
            cause, code = "unreachable", "connect_error"
        case aiohttp.ClientHttpProxyError():
            cause, code = "unreachable", "proxy_error"
        case aiohttp.ClientOSError() | aiohttp.ClientConnectionResetError():
            code = "read_error"
        case aiohttp.ClientError():
            code = "remote_protocol_error"
        case OSError():
            code = re.sub("([A-Z])", r"_\1", type(exc).__name__).lower().lstrip("_")
        case _:
            return None
    for inner in _reasons(exc):
        if isinstance(inner, socket.gaierror):
            code = "unknown_host"
        elif isinstance(inner, ssl.SSLCertVerificationError):
            code = "certificate_not_trusted"
        elif isinstance(inner, ssl.SSLError):
            code = "no_tls"
    return ProviderBusy("network", 0, None, code, provider, cause=cause)


def _trusted(url: str, *, of_environment: bool) -> ssl.SSLContext:
    trusted = trust_for(url)
    if not isinstance(trusted, ssl.SSLContext):
        import httpx2  # noqa: PLC0415 - it knows where each system has the world's certificates

        trusted = httpx2.create_ssl_context(trust_env=of_environment)
    trusted.set_alpn_protocols(["http/1.1"])
    return trusted


def _of_settings(name: str, provider: str) -> ProviderBusy:
    return ProviderBusy("network", 0, None, name, provider, cause="settings")


def _reasons(exc: BaseException) -> list[BaseException]:
    found, todo = list[BaseException](), [exc]
    while todo and len(found) < _LONGEST_CHAIN:
        each = todo.pop()
        found.append(each)
        todo += [inner for inner in (each.__cause__, each.__context__) if inner is not None]
    return found
