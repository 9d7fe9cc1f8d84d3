"""The key a person's client registers, for whose eyes derived text is sealed (D-42): X25519."""
# ruff: noqa: PLC0415 - agents load cryptography with their first grant

from __future__ import annotations

import hashlib

import msgspec

from state.errors import TerminalError
from state.sealing import forgiving_base64

KEY_BYTES = 32
_PRIME = 2**255 - 19
_ANY_SECRET = bytes(KEY_BYTES)


class OwnerKeyRefused(TerminalError):
    """A public key that is not taken: `field` and what is wrong with it."""

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(field, problem)
        self.field, self.problem = field, problem

    def __str__(self) -> str:
        return f"{self.field} {self.problem}"


class OwnerKey(msgspec.Struct, frozen=True):
    """An X25519 public key, and what iterations call it."""

    id: str
    public_key: bytes


def read_owner_key(raw: object) -> OwnerKey:
    """The key in a body's `publicKey`; raises OwnerKeyRefused."""
    public = forgiving_base64.decoded(raw) if isinstance(raw, str) else None
    if public is None or len(public) != KEY_BYTES:
        raise OwnerKeyRefused("publicKey", f"must be base64 of {KEY_BYTES} bytes")
    if int.from_bytes(public, "little") >= _PRIME:
        # X25519 would take it for another key's bytes, so that its owner could open nothing.
        raise OwnerKeyRefused("publicKey", "must be a canonical X25519 key")
    if _is_of_small_order(public):
        raise OwnerKeyRefused("publicKey", "must not be a key that everybody can undo")
    return OwnerKey(key_id(public), public)


def key_id(public_key: bytes) -> str:
    """16 hex digits of SHA-256 of the raw public key."""
    return hashlib.sha256(public_key).hexdigest()[:16]


def _is_of_small_order(public: bytes) -> bool:
    """Every private key is a multiple of 8, and gives zero with such a point."""
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

    private = X25519PrivateKey.from_private_bytes(_ANY_SECRET)
    try:
        private.exchange(X25519PublicKey.from_public_bytes(public))
    except ValueError:
        return True
    return False
