"""The auth service's public keys: fetched when first needed, kept, asked again for a new key id.

An auth service that does not answer leaves the known keys usable for an hour, and nobody waits for
it meanwhile. Strangers who make up key ids cannot make us ask more often than every ten seconds.
"""

import asyncio
import base64
import binascii
import logging
import time
from collections.abc import Callable
from typing import Any, cast

import httpx
import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from supervisor.gateway.people.jwt import ALGORITHM, TokenRefused

PATH = "/api/v1/auth/jwks"
FRESH_S = 600.0
STALE_S = 3600.0
ASK_AGAIN_S = 10.0
RETRY_S = 2.0
TIMEOUT_S = 5.0
MAX_BYTES = 64 * 1024
MAX_KEYS = 32
log = logging.getLogger("mana.gateway")


class KeySetUnreadable(Exception):
    """What the auth service answered is no key set."""


class KeySet:
    """Ed25519 keys by id, as one auth service publishes them."""

    def __init__(self, auth_url: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._url = auth_url.rstrip("/") + PATH
        self._clock = clock
        self._keys: dict[str, Ed25519PublicKey] = {}
        self._fetched_at: float | None = None
        self._quiet_until = float("-inf")
        self._one_at_a_time = asyncio.Lock()
        self._renewal: asyncio.Task[None] | None = None

    async def key(self, kid: str | None) -> Ed25519PublicKey:
        """The key of this id, or the only one for a token that names none; raises TokenRefused."""
        known = self._usable(kid)
        if known is None:
            await self._refresh(kid)
        elif self._age() > FRESH_S and (self._renewal is None or self._renewal.done()):
            self._renewal = asyncio.create_task(self._refresh(kid))
        found = self._usable(kid)
        if found is None:
            has_keys = self._age() <= STALE_S
            raise TokenRefused("unknown signing key" if has_keys else "no keys to check tokens by")
        return found

    def _usable(self, kid: str | None) -> Ed25519PublicKey | None:
        if self._age() > STALE_S:
            return None
        if kid is not None:
            return self._keys.get(kid)
        return next(iter(self._keys.values())) if len(self._keys) == 1 else None

    def _age(self) -> float:
        return float("inf") if self._fetched_at is None else self._clock() - self._fetched_at

    async def _refresh(self, kid: str | None) -> None:
        async with self._one_at_a_time:
            if self._age() <= FRESH_S and self._usable(kid) is not None:
                return  # somebody fetched while we waited
            if self._clock() >= self._quiet_until:
                await self._ask()

    async def _ask(self) -> None:
        try:
            self._keys = read_key_set(await _fetched(self._url))
        except (httpx.HTTPError, KeySetUnreadable) as exc:
            log.warning("jwks_not_fetched error=%s", type(exc).__name__)
            self._quiet_until = self._clock() + RETRY_S
            return
        self._fetched_at = self._clock()
        self._quiet_until = self._fetched_at + ASK_AGAIN_S
        log.info("jwks_fetched keys=%d", len(self._keys))


async def _fetched(url: str) -> bytes:
    """The answer's body, of at most 64 KiB; raises httpx.HTTPError or KeySetUnreadable."""
    body = bytearray()
    async with (
        httpx.AsyncClient(timeout=TIMEOUT_S, trust_env=False, follow_redirects=False) as client,
        client.stream("GET", url) as answer,
    ):
        if answer.status_code != 200:
            raise KeySetUnreadable
        async for chunk in answer.aiter_bytes():
            body += chunk
            if len(body) > MAX_BYTES:
                raise KeySetUnreadable
    return bytes(body)


def read_key_set(raw: bytes) -> dict[str, Ed25519PublicKey]:
    """The Ed25519 signing keys of a JWK set (RFC 7517, 8037); others in it are passed over."""
    try:
        listed = msgspec.json.decode(raw, type=dict[str, Any]).get("keys")
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
        raise KeySetUnreadable from exc
    if not isinstance(listed, list):
        raise KeySetUnreadable
    found: dict[str, Ed25519PublicKey] = {}
    for number, one in enumerate(cast("list[Any]", listed)[:MAX_KEYS]):
        if isinstance(one, dict) and (key := _ed25519(cast("dict[str, Any]", one))) is not None:
            found[_id_of(cast("dict[str, Any]", one), number)] = key
    return found


def _id_of(jwk: dict[str, Any], number: int) -> str:
    kid = jwk.get("kid")
    return kid if isinstance(kid, str) else f"\0{number}"  # no token can name it


def _ed25519(jwk: dict[str, Any]) -> Ed25519PublicKey | None:
    is_ours = jwk.get("kty") == "OKP" and jwk.get("crv") == "Ed25519"
    is_for_signing = jwk.get("use", "sig") == "sig" and jwk.get("alg", ALGORITHM) in _NAMES
    x = jwk.get("x")
    if not (is_ours and is_for_signing and isinstance(x, str)):
        return None
    try:
        return Ed25519PublicKey.from_public_bytes(base64.b64decode(x + "=" * (-len(x) % 4), b"-_"))
    except (binascii.Error, ValueError):
        return None


_NAMES = frozenset({ALGORITHM, "Ed25519"})
