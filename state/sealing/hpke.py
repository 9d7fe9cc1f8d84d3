"""HPKE (RFC 9180), base mode: a short secret that only the holder of an X25519 key can read.

DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, AES-256-GCM, no associated data. On the wire it is the
encapsulated key (32 bytes), then ciphertext and tag. The library draws the randomness itself.
`info` binds the secret to what it is for: it opens with the same `info` alone.
"""
# ruff: noqa: PLC0415 - agents load cryptography with their first grant

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
    from cryptography.hazmat.primitives.hpke import Suite


def hpke_sealed(secret: bytes | bytearray, public_key: bytes, info: bytes) -> bytes:
    """The secret for the holder of the private half; raises ValueError on a key that is no use."""
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey

    return _suite().encrypt(secret, X25519PublicKey.from_public_bytes(public_key), info)


def hpke_opened(sealed: bytes, private_key: X25519PrivateKey, info: bytes) -> bytearray:
    """The secret; raises cryptography's InvalidTag if sealed for another key or `info`."""
    return bytearray(_suite().decrypt(sealed, private_key, info))


def _suite() -> Suite:
    from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

    return Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)
