"""The data key on its way to the asker: HPKE (RFC 9180), base mode, X25519 and AES-256-GCM.

What is sealed is bound to run, attempt, mission and release, so that no reply fits another request.
"""
# ruff: noqa: PLC0415 - agents load cryptography with their first grant

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import msgspec

from mana_actors.errors import TerminalError
from state.sealing.hpke import suite
from state.sealing.values import DataKey

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey


class AskerKeyInvalid(TerminalError):
    """The asker's public key is none, or one that everybody can undo."""


class Binding(msgspec.Struct, frozen=True):
    """What a sealed key is for."""

    run_id: uuid.UUID
    attempt: int
    mission_id: str
    release_id: uuid.UUID


class Ephemeral:
    """A key pair for one request: the public half is sent, the private half opens the answer."""

    def __init__(self) -> None:
        from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

        self._private: X25519PrivateKey = X25519PrivateKey.generate()
        self.public_key = self._private.public_key().public_bytes_raw()

    def opened(self, sealed_key: bytes, binding: Binding) -> DataKey:
        """The data key inside; raises ValueError where it was not sealed for this request."""
        from cryptography.exceptions import InvalidTag

        try:
            return DataKey(bytearray(suite().decrypt(sealed_key, self._private, _info(binding))))
        except InvalidTag:
            raise ValueError("not sealed for this request") from None


def sealed_to(public_key: bytes, key: DataKey, binding: Binding) -> bytes:
    """The data key for whoever holds the private half; raises AskerKeyInvalid."""
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey

    try:
        asker = X25519PublicKey.from_public_bytes(public_key)
        return suite().encrypt(key.material, asker, _info(binding))
    except ValueError:
        raise AskerKeyInvalid from None


def _info(binding: Binding) -> bytes:
    return b"mana-key-release:1:" + msgspec.json.encode(binding)
