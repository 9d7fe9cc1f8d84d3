"""Whether a token is one that the auth service issued to a person, for us, for now.

Only EdDSA over Ed25519 is known here: an algorithm is never taken from the token. The service's
public keys are fetched when first needed, kept, and asked for again for a new key id. While it does
not answer, the known keys stay usable for an hour, and nobody waits. Strangers who make up key ids
cannot make us ask more often than every ten seconds.
"""

import asyncio
import base64
import binascii
import logging
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol, cast

import httpx2
import jwt
import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from starlette.datastructures import Headers

from mana_actors.clients.answers import AnswerUnreadable, bounded_answer

ALGORITHM = "EdDSA"
LEEWAY_S = 5
MAX_TOKEN_CHARS = 8192
MAX_SUBJECT_BYTES = 512
_REQUIRED = ["exp", "sub", "iss", "aud"]
_BROKEN = (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError)
_REASONS: Sequence[tuple[type[Exception], str]] = (
    (jwt.ExpiredSignatureError, "token has expired"),
    (jwt.ImmatureSignatureError, "token is not valid yet"),
    (jwt.InvalidAudienceError, "token is for another audience"),
    (jwt.InvalidIssuerError, "token comes from another issuer"),
    (jwt.MissingRequiredClaimError, "token lacks a claim"),
)

PATH = "/api/v1/auth/jwks"
FRESH_S = 600.0
STALE_S = 3600.0
ASK_AGAIN_S = 10.0
RETRY_S = 2.0
TIMEOUT_S = 5.0
MAX_BYTES = 64 * 1024
MAX_KEYS = 32
_ALGORITHMS = frozenset({ALGORITHM, "Ed25519"})
log = logging.getLogger("mana.gateway")


class TokenRefused(Exception):
    """Not a token of ours; `reason` says what is wrong with it and holds nothing of it."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        return self.reason


class Keys(Protocol):
    """Where the issuer's public keys come from."""

    async def key(self, kid: str | None) -> Ed25519PublicKey:
        """The key of this id; raises TokenRefused when there is none, or none can be had."""
        ...


class Expected(msgspec.Struct, frozen=True):
    """Which issuers a token may come from, and the audience it must be for."""

    issuers: tuple[str, ...]
    audience: str


class Verifier:
    """Tells who a bearer token belongs to."""

    def __init__(self, keys: Keys, expected: Expected) -> None:
        self._keys, self._expected = keys, expected

    async def user(self, headers: Headers) -> str:
        """The user id (`sub`) of the token in the request; raises TokenRefused."""
        return subject_of(await self.claims(bearer(headers)))

    async def claims(self, token: str) -> dict[str, Any]:
        """What a token of theirs, for us and for now, says; raises TokenRefused."""
        try:
            header = jwt.get_unverified_header(token)
        except _BROKEN as exc:
            raise TokenRefused("malformed token") from exc
        if header.get("alg") != ALGORITHM or "crit" in header:
            raise TokenRefused("unsupported algorithm")
        kid = header.get("kid")
        key = await self._keys.key(kid if isinstance(kid, str) else None)
        try:
            return jwt.decode(
                token,
                key,
                algorithms=[ALGORITHM],
                audience=self._expected.audience,
                issuer=self._expected.issuers,
                leeway=LEEWAY_S,
                options={"require": _REQUIRED},
            )
        except _BROKEN as exc:
            known = (text for kind, text in _REASONS if isinstance(exc, kind))
            raise TokenRefused(next(known, "invalid token")) from exc


def bearer(headers: Headers) -> str:
    """The token of the `Authorization` header; raises TokenRefused."""
    given = headers.getlist("authorization")
    scheme, _, token = (given[0] if len(given) == 1 else "").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise TokenRefused("missing bearer token")
    if len(token) > MAX_TOKEN_CHARS or not token.isascii():
        raise TokenRefused("malformed token")
    return token.strip()


def subject_of(claims: dict[str, Any]) -> str:
    """The user id in a token's claims, one that a row can hold; raises TokenRefused."""
    subject = claims["sub"]
    if (
        not isinstance(subject, str)
        or not subject
        or "\0" in subject
        or any("\ud800" <= one <= "\udfff" for one in subject)  # there is no UTF-8 for these
        or len(subject.encode()) > MAX_SUBJECT_BYTES
    ):
        raise TokenRefused("token without a usable sub")
    return subject


# --- the auth service's keys ----------------------------------------------------------------------


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
            if self._clock() < self._quiet_until:
                return
            try:
                self._keys = read_key_set(await self._fetched())
            except (AnswerUnreadable, KeySetUnreadable) as exc:
                log.warning("jwks_not_fetched error=%s", str(exc) or type(exc).__name__)
                self._quiet_until = self._clock() + RETRY_S
                return
            self._fetched_at = self._clock()
            self._quiet_until = self._fetched_at + ASK_AGAIN_S
            log.info("jwks_fetched keys=%d", len(self._keys))

    async def _fetched(self) -> bytes:
        """The answer's body, of at most 64 KiB; raises AnswerUnreadable or KeySetUnreadable."""
        async with httpx2.AsyncClient(trust_env=False) as client:
            answer = await bounded_answer(
                client, "GET", self._url, within_s=TIMEOUT_S, max_bytes=MAX_BYTES
            )
        if answer.status_code != 200:
            raise KeySetUnreadable
        return answer.content


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
        if not isinstance(one, dict):
            continue
        jwk = cast("dict[str, Any]", one)
        is_ours = jwk.get("kty") == "OKP" and jwk.get("crv") == "Ed25519"
        is_for_signing = jwk.get("use", "sig") == "sig" and jwk.get("alg", ALGORITHM) in _ALGORITHMS
        kid, x = jwk.get("kid"), jwk.get("x")
        if not (is_ours and is_for_signing and isinstance(x, str)):
            continue
        try:
            raw_key = base64.b64decode(x + "=" * (-len(x) % 4), b"-_")
            key = Ed25519PublicKey.from_public_bytes(raw_key)
        except (binascii.Error, ValueError):
            continue
        # No token can name the id of a key without one; alone, it is the one meant.
        found[kid if isinstance(kid, str) else f"\0{number}"] = key
    return found
