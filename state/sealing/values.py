"""Sealed values: AES-256-GCM over JSON, on the wire `enc:1:<iv>.<ciphertext and tag>` in base64.

Pure: randomness is an argument, and key material is a `DataKey` that wipes itself. `cryptography`
is imported when first needed, since every agent's process carries this module.
"""
# ruff: noqa: PLC0415 - an agent without a grant never pays for cryptography

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Never, Self, cast

import msgspec

from state.errors import StateError, TerminalError
from state.log.records import ENCRYPTED_PREFIX
from state.sealing import forgiving_base64

KEY_BYTES = 32
IV_BYTES = 12
TAG_BYTES = 16


class SealingError(StateError, TerminalError):
    """A sealed value that cannot be opened; `reason` is what the audit says.

    SealingError
    ├── CiphertextMalformed    not `enc:1:` with base64 parts of the right length
    ├── CiphertextRejected     the tag does not fit: tampered, or sealed with another key
    └── DecryptFailed          what came out is not UTF-8 or not JSON
    """

    reason = "decrypt-failed"


class CiphertextMalformed(SealingError):
    """No separator, no base64, or a part of a wrong length."""

    reason = "ciphertext-malformed"


class CiphertextRejected(SealingError):
    """The tag does not fit: tampered, or another key."""

    reason = "ciphertext-tampered-or-wrong-key"


class DecryptFailed(SealingError):
    """The plaintext is not UTF-8 or not JSON."""


class DataKey:
    """A 32-byte key that is wiped when its `with` ends, and can neither be printed nor pickled.

    It takes the `bytearray` over: the caller must not keep or change it.
    """

    __slots__ = ("_material",)

    def __init__(self, material: bytearray) -> None:
        if len(material) != KEY_BYTES:
            wipe(material)
            raise ValueError(f"a data key has {KEY_BYTES} bytes")
        self._material = material

    @property
    def material(self) -> bytearray:
        """The key itself, not a copy; raises ValueError once it is wiped."""
        if not self._material:
            raise ValueError("this data key is wiped")
        return self._material

    def wipe(self) -> None:
        """Overwrite the key; harmless when repeated."""
        wipe(self._material)
        self._material = bytearray()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.wipe()

    def __repr__(self) -> str:
        return "DataKey(...)"

    def __reduce__(self) -> Never:
        raise TypeError("a data key never leaves its process")


class OpenedRecord(msgspec.Struct, frozen=True):
    """A record with its sealed top-level fields opened, and their names in the record's order."""

    record: dict[str, Any]
    fields: tuple[str, ...]


def wipe(material: bytearray) -> None:
    """Overwrite key material in place."""
    material[:] = bytes(len(material))


def is_sealed(value: object) -> bool:
    """Whether a value has the prefix; case and blanks count."""
    return isinstance(value, str) and value.startswith(ENCRYPTED_PREFIX)


def sealed(value: object, key: DataKey, iv: bytes) -> Any:
    """The wire text of a value; None and what is sealed already stay as they are.

    `iv` is 12 fresh random bytes, never used twice with one key. Raises ValueError on what JSON
    cannot say.
    """
    return value if is_sealed(value) else sealed_whatever(value, key, iv)


def sealed_whatever(value: object, key: DataKey, iv: bytes) -> Any:
    """As `sealed`, but text that looks sealed is sealed too: a model could have made it up."""
    if value is None:
        return None
    if len(iv) != IV_BYTES:
        raise ValueError(f"an iv has {IV_BYTES} bytes")
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    body = AESGCM(key.material).encrypt(iv, _json_text(value), None)
    return f"{ENCRYPTED_PREFIX}{forgiving_base64.encoded(iv)}.{forgiving_base64.encoded(body)}"


def opened(value: object, key: DataKey) -> Any:
    """The value inside a sealed text, anything else unchanged; raises SealingError."""
    if not is_sealed(value):
        return value
    before, separator, after = cast("str", value).removeprefix(ENCRYPTED_PREFIX).partition(".")
    iv, body = forgiving_base64.decoded(before), forgiving_base64.decoded(after)
    if not separator or iv is None or body is None:
        raise CiphertextMalformed
    if len(iv) != IV_BYTES or len(body) < TAG_BYTES:
        raise CiphertextMalformed
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    plain = bytearray(len(body) - TAG_BYTES)
    try:
        AESGCM(key.material).decrypt_into(iv, body, None, plain)
        return _json_value(plain)
    except InvalidTag:
        raise CiphertextRejected from None
    finally:
        wipe(plain)


def sealed_record(
    record: Mapping[str, Any], fields: tuple[str, ...], key: DataKey, new_iv: Callable[[], bytes]
) -> dict[str, Any]:
    """The record with these top-level fields sealed, each under an iv of its own."""
    return {
        name: sealed(value, key, new_iv()) if name in fields else value
        for name, value in record.items()
    }


def opened_record(record: Mapping[str, Any], key: DataKey) -> OpenedRecord:
    """Every sealed top-level field opened; the first that cannot be raises SealingError."""
    fields = tuple(name for name, value in record.items() if is_sealed(value))
    return OpenedRecord({name: opened(value, key) for name, value in record.items()}, fields)


# --- JSON as JavaScript writes and reads it -------------------------------------------------------


def _json_text(value: object) -> bytes:
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    if not text.isascii():  # lone surrogates escaped, as JSON.stringify does: UTF-8 has none
        text = "".join(f"\\u{ord(c):04x}" if "\ud800" <= c <= "\udfff" else c for c in text)
    return text.encode()


def _json_value(plain: bytearray) -> Any:
    try:
        text = plain.decode("utf-8-sig")
        value = json.loads(text, parse_constant=_finite, parse_float=_finite)
        return _whole(value) if "\\u" in text else value
    except (ValueError, RecursionError):
        raise DecryptFailed from None  # the error would quote the plaintext


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("out of range")
    return number


def _whole(value: Any) -> Any:
    """The value with lone surrogates replaced: nothing that we write on could carry them."""
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, list):
        return [_whole(part) for part in cast("list[Any]", value)]
    if isinstance(value, dict):
        pairs = cast("dict[str, Any]", value)
        return {_whole(name): _whole(part) for name, part in pairs.items()}
    return value
