"""HPKE (RFC 9180), base mode: a short secret for whoever holds an X25519 key.

DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, AES-256-GCM, no associated data; the wire is the
encapsulated key (32 bytes), then ciphertext and tag. The library draws the randomness itself.
"""
# ruff: noqa: PLC0415 - agents load cryptography with their first grant

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.hpke import Suite


def suite() -> Suite:
    """The one suite that is used here."""
    from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

    return Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)
