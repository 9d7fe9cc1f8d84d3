"""Only a key that its owner, and nobody else, can open with is taken."""

import base64
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from state.sealing.key_pairs import OwnerKeyRefused, read_owner_key

PUBLIC = X25519PrivateKey.from_private_bytes(bytes(range(32))).public_key().public_bytes_raw()
PRIME = 2**255 - 19
SMALL = (
    0, 1, PRIME - 1,
    325606250916557431795983626356110631294008115727848805560023387167927233504,
    39382357235489614581723060781553021112529911719440698176882885853963445705823,
)  # fmt: skip


def text(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def number(value: int) -> str:
    return text(value.to_bytes(32, "little"))


def test_a_keys_id_is_the_start_of_its_hash():
    key = read_owner_key(text(PUBLIC))
    assert (key.id, key.public_key) == ("eedd883da0a94515", PUBLIC)


@pytest.mark.parametrize("raw", [None, 7, "", "no base64!", text(PUBLIC[:31]), text(PUBLIC * 2)])
def test_what_is_no_key_is_refused(raw: Any):
    with pytest.raises(OwnerKeyRefused, match="publicKey must be base64 of 32 bytes"):
        read_owner_key(raw)


@pytest.mark.parametrize("value", SMALL)
def test_a_point_that_gives_everybody_the_same_secret_is_refused(value: int):
    with pytest.raises(OwnerKeyRefused, match="everybody"):
        read_owner_key(number(value))


@pytest.mark.parametrize("value", [PRIME, PRIME + 9, 2**255 + 9, 2**256 - 1])
def test_bytes_that_stand_for_another_keys_are_refused(value: int):
    with pytest.raises(OwnerKeyRefused, match="canonical"):
        read_owner_key(number(value))
