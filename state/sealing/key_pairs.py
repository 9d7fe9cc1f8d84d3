"""The key pairs that grants need: the runner's (RSA), issuers' (Ed25519) and owners' (X25519).

A data key is wrapped for the runner with RSA-OAEP and SHA-256. What is wrapped for a v2 grant
carries a label, so that nobody can turn it into an unsigned v1 grant. An owner registers a public
key, and what a model writes from decrypted inputs is sealed for it.
"""
# ruff: noqa: PLC0415 - loaded only where keys are: the issuer and the key holder

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING

import msgspec

from state.errors import StateError, TerminalError
from state.sealing import forgiving_base64

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import (
        Ed25519PrivateKey,
        Ed25519PublicKey,
    )
    from cryptography.hazmat.primitives.asymmetric.padding import OAEP
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey

LEAST_BITS = 2048
_BLANKS = re.compile(r"\s+")


class KeyUnusable(StateError, TerminalError):
    """A key file that does not hold the key it should; the text never shows any of it."""

    def __init__(self, problem: str) -> None:
        super().__init__(problem)
        self.problem = problem

    def __str__(self) -> str:
        return self.problem


def runner_private_key(pem: str) -> RSAPrivateKey:
    """The RSA key of a PKCS#8 PEM without a password; raises KeyUnusable."""
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

    key = _private(pem, "RSA")
    if not isinstance(key, RSAPrivateKey):
        raise KeyUnusable("is no RSA key")
    _require_bits(key.key_size)
    return key


def runner_public_key(pem: str) -> RSAPublicKey:
    """The RSA key of an SPKI PEM; raises KeyUnusable."""
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

    key = _public(pem, "RSA")
    if not isinstance(key, RSAPublicKey):
        raise KeyUnusable("is no RSA key")
    _require_bits(key.key_size)
    return key


def issuer_private_key(pem: str) -> Ed25519PrivateKey:
    """The Ed25519 key of a PKCS#8 PEM without a password; raises KeyUnusable."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = _private(pem, "Ed25519")
    if not isinstance(key, Ed25519PrivateKey):
        raise KeyUnusable("is no Ed25519 key")
    return key


def issuer_public_key(pem: str) -> Ed25519PublicKey:
    """The Ed25519 key of an SPKI PEM; raises KeyUnusable."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    key = _public(pem, "Ed25519")
    if not isinstance(key, Ed25519PublicKey):
        raise KeyUnusable("is no Ed25519 key")
    return key


def issuer_key_id(key: Ed25519PublicKey) -> str:
    """What a grant calls its issuer's key."""
    return key_id(key.public_bytes_raw())


def wrapped(data_key: bytearray, key: RSAPublicKey, version: str) -> str:
    """The data key for the runner's eyes only, as base64."""
    return forgiving_base64.encoded(key.encrypt(bytes(data_key), _oaep(version)))


def unwrapped(
    wrapped_key: bytes, keys: tuple[RSAPrivateKey, ...], version: str
) -> bytearray | None:
    """What one of our keys opens, or None; there are several while the runner's key rotates.

    The library hands out `bytes`, which cannot be wiped: they are dropped here at once.
    """
    for key in keys:
        try:
            return bytearray(key.decrypt(wrapped_key, _oaep(version)))
        except ValueError:
            continue
    return None


def _oaep(version: str) -> OAEP:
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import padding

    label = None if version == "v1" else f"mana-ai-mission-grant:{version}".encode()
    return padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), label)


def _require_bits(bits: int) -> None:
    if bits < LEAST_BITS:
        raise KeyUnusable(f"is an RSA key of {bits} bits, at least {LEAST_BITS} are needed")


def _private(pem: str, kind: str) -> object:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_der_private_key

    try:
        return load_der_private_key(_der(pem, "PRIVATE KEY"), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise KeyUnusable(f"is no PKCS#8 {kind} private key without a password") from None


def _public(pem: str, kind: str) -> object:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_der_public_key

    try:
        return load_der_public_key(_der(pem, "PUBLIC KEY"))
    except (ValueError, UnsupportedAlgorithm):
        raise KeyUnusable(f"is no SPKI {kind} public key") from None


def _der(pem: str, label: str) -> bytes:
    """The bytes between the label's lines; blanks and line ends do not matter."""
    body = pem.replace(f"-----BEGIN {label}-----", "").replace(f"-----END {label}-----", "")
    der = forgiving_base64.decoded(_BLANKS.sub("", body))
    if not der:
        raise KeyUnusable(f"holds no {label} in PEM")
    return der


# --- owners' keys

OWNER_KEY_BYTES = 32
_PRIME = 2**255 - 19
_ANY_SECRET = bytes(OWNER_KEY_BYTES)


class OwnerKeyRefused(StateError, TerminalError):
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
    if public is None or len(public) != OWNER_KEY_BYTES:
        raise OwnerKeyRefused("publicKey", f"must be base64 of {OWNER_KEY_BYTES} bytes")
    if int.from_bytes(public, "little") >= _PRIME:
        # X25519 would reduce it to other bytes, and its owner could then open nothing.
        raise OwnerKeyRefused("publicKey", "must be a canonical X25519 key")
    if _is_of_small_order(public):
        raise OwnerKeyRefused("publicKey", "must not be a key that everybody can undo")
    return OwnerKey(key_id(public), public)


def key_id(public_key: bytes) -> str:
    """16 hex digits of SHA-256 of the raw public key."""
    return hashlib.sha256(public_key).hexdigest()[:16]


def _is_of_small_order(public: bytes) -> bool:
    """Whether it gives zero with every private key, as those are multiples of 8."""
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

    private = X25519PrivateKey.from_private_bytes(_ANY_SECRET)
    try:
        private.exchange(X25519PublicKey.from_public_bytes(public))
    except ValueError:
        return True
    return False
