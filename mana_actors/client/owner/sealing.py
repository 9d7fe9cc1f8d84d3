"""The owner's keys, and what they seal and open; the server gets nothing but ciphertext."""
# ruff: noqa: PLC0415 - who seals nothing does not load cryptography

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from typing import Any, Never

from state.grants.grant import Derivation, derived_key
from state.log.iterations import Iteration
from state.proposals.sealed_fields import SEALED_FIELDS
from state.sealing.copies import SealedCopy, copied
from state.sealing.derived_text import Place, opened_iteration
from state.sealing.key_pairs import key_id
from state.sealing.values import (
    IV_BYTES,
    KEY_BYTES,
    CiphertextRejected,
    DataKey,
    opened_record,
    sealed_record,
)

Json = dict[str, Any]


class OwnerKeys:
    """One person's master key, and raw X25519 private keys that plans were sealed for.

    It can neither be printed nor pickled. Raises ValueError for keys of a wrong length.
    """

    __slots__ = ("_master_key", "_private_keys", "user")

    def __init__(
        self, user: str, master_key: bytes | bytearray, private_keys: Sequence[bytes] = ()
    ) -> None:
        if any(len(key) != KEY_BYTES for key in (master_key, *private_keys)):
            raise ValueError(f"a key has {KEY_BYTES} bytes")
        self.user = user
        self._master_key = bytearray(master_key)
        self._private_keys = {key_id(_public(key)): bytes(key) for key in private_keys}

    def seal(self, table: str, fields: Mapping[str, Any]) -> Json:
        """Fields as they are synced: the secret ones of the table under the master key."""
        secret = tuple(SEALED_FIELDS.get(table, ()))
        with DataKey(bytearray(self._master_key)) as key:
            return sealed_record(fields, secret, key, _new_iv)

    def open(self, record: Mapping[str, Any]) -> Json:
        """A synced record, readable; raises SealingError."""
        with DataKey(bytearray(self._master_key)) as key:
            return opened_record(record, key).record

    def can_open(self, iteration: Iteration) -> bool:
        """Whether it is readable as it is, or sealed for a key that is here."""
        sealed_for = iteration.get("sealedFor")
        is_known = isinstance(sealed_for, dict) and sealed_for.get("keyId") in self._private_keys
        return sealed_for is None or is_known

    def open_iteration(self, mission: str, iteration: Iteration) -> Iteration:
        """An iteration, readable, to be shown or carried out; raises SealingError.

        What is written back is the sealed one, with states and feedback changed.
        """
        if not self.can_open(iteration):
            raise CiphertextRejected
        if "sealedFor" not in iteration:
            return iteration
        private_key = self._private_keys[iteration["sealedFor"]["keyId"]]
        place = Place(self.user, mission, str(iteration.get("id")))
        return opened_iteration(dict(iteration), private_key, place)

    def copies(
        self, derivation: Derivation, records: Mapping[str, Mapping[str, Any]]
    ) -> list[SealedCopy]:
        """Copies of synced records, by `table:id`, for a grant's mission; plain ones need none.

        Raises DerivationRefused, and SealingError where a record is not under the master key.
        """
        made: list[SealedCopy] = []
        with (
            derived_key(self._master_key, self.user, derivation) as data_key,
            DataKey(bytearray(self._master_key)) as master_key,
        ):
            for id_, record in records.items():
                table, _, record_id = id_.partition(":")
                copy = copied(
                    table,
                    record_id,
                    record,
                    master_key=master_key,
                    data_key=data_key,
                    new_iv=_new_iv,
                )
                if copy is not None:
                    made.append(copy)
        return made

    def __repr__(self) -> str:
        return "OwnerKeys(...)"

    def __reduce__(self) -> Never:
        raise TypeError("an owner's keys never leave their process")


def new_private_key() -> tuple[bytes, bytes]:
    """A raw X25519 private key to keep, and its public half to register."""
    private = secrets.token_bytes(KEY_BYTES)
    return private, _public(private)


def _public(private_key: bytes) -> bytes:
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

    return X25519PrivateKey.from_private_bytes(private_key).public_key().public_bytes_raw()


def _new_iv() -> bytes:
    return secrets.token_bytes(IV_BYTES)
