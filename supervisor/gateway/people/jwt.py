"""Whether a token is one that the auth service issued to a person, for us, for now.

Only EdDSA over Ed25519 is known here: an algorithm is never taken from the token.
"""

from collections.abc import Sequence
from typing import Protocol

import jwt
import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from starlette.datastructures import Headers

ALGORITHM = "EdDSA"
LEEWAY_S = 5
MAX_TOKEN_CHARS = 8192
MAX_SUBJECT_BYTES = 512
_REQUIRED = ["exp", "sub", "iss", "aud"]
_BROKEN = (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError)


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
        token = bearer(headers)
        key = await self._keys.key(_key_id(token))
        return _subject(token, key, self._expected)


def bearer(headers: Headers) -> str:
    """The token of the `Authorization` header; raises TokenRefused."""
    given = headers.getlist("authorization")
    scheme, _, token = (given[0] if len(given) == 1 else "").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise TokenRefused("missing bearer token")
    if len(token) > MAX_TOKEN_CHARS or not token.isascii():
        raise TokenRefused("malformed token")
    return token.strip()


def _key_id(token: str) -> str | None:
    """Which key the token names; raises TokenRefused for any algorithm but ours."""
    try:
        header = jwt.get_unverified_header(token)
    except _BROKEN as exc:
        raise TokenRefused("malformed token") from exc
    if header.get("alg") != ALGORITHM or "crit" in header:
        raise TokenRefused("unsupported algorithm")
    kid = header.get("kid")
    return kid if isinstance(kid, str) else None


def _subject(token: str, key: Ed25519PublicKey, expected: Expected) -> str:
    try:
        claims = jwt.decode(
            token,
            key,
            algorithms=[ALGORITHM],
            audience=expected.audience,
            issuer=expected.issuers,
            leeway=LEEWAY_S,
            options={"require": _REQUIRED},
        )
    except _BROKEN as exc:
        raise TokenRefused(_reason(exc)) from exc
    return _checked_subject(claims["sub"])


def _checked_subject(subject: object) -> str:
    if not isinstance(subject, str) or not subject or "\0" in subject:
        raise TokenRefused("token without a usable sub")
    if len(subject.encode("utf-8", "surrogatepass")) > MAX_SUBJECT_BYTES or not _is_text(subject):
        raise TokenRefused("token without a usable sub")
    return subject


def _is_text(subject: str) -> bool:
    return not any("\ud800" <= one <= "\udfff" for one in subject)


_REASONS: Sequence[tuple[type[Exception], str]] = (
    (jwt.ExpiredSignatureError, "token has expired"),
    (jwt.ImmatureSignatureError, "token is not valid yet"),
    (jwt.InvalidAudienceError, "token is for another audience"),
    (jwt.InvalidIssuerError, "token comes from another issuer"),
    (jwt.MissingRequiredClaimError, "token lacks a claim"),
)


def _reason(exc: Exception) -> str:
    return next((text for kind, text in _REASONS if isinstance(exc, kind)), "invalid token")
