"""The vault: each person's master key, wrapped under a key of ours, the KEK (key-encryption key).

Pure: rows go in and come out; time and randomness are arguments. For a person in zero-knowledge
mode we keep no wrap that we could open, only one under their own recovery code.
"""

from __future__ import annotations

import hmac
from datetime import datetime
from typing import Literal, Never

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import GCM

from state.errors import StateError, TerminalError
from state.sealing import forgiving_base64
from state.sealing.values import IV_BYTES, KEY_BYTES, TAG_BYTES, DataKey, wipe

KEK_ID = "env-v1"
FORMAT_VERSION = 1
MAX_RECOVERY_CHARS = 4096
_CHECK_LABEL = b"mana vault key check v1"


RefusalCode = Literal[
    "BAD_REQUEST",
    "RECOVERY_WRAP_MISSING",
    "VAULT_NOT_INITIALISED",
    "MISSION_NOT_FOUND",
    "ZK_ACTIVE",
    "ZK_ROTATE_FORBIDDEN",
    "NO_GRANT",
    "VAULT_NOT_CONFIGURED",
    "GRANT_NOT_CONFIGURED",
]
"""Why a person's request about a vault or a grant is refused, in the word that clients read."""


class VaultRefused(StateError, TerminalError):
    """What a vault's state, or a request, does not allow; the message holds no ids."""

    def __init__(self, code: RefusalCode, message: str) -> None:
        super().__init__(code, message)
        self.code: RefusalCode = code
        self.message = message

    def __str__(self) -> str:
        return self.message


class KekUnusable(StateError, TerminalError):
    """The KEK is not a usable key; the text never shows any of it."""

    def __init__(self, problem: str) -> None:
        super().__init__(problem)
        self.problem = problem

    def __str__(self) -> str:
        return self.problem


class MasterKeyNotOpened(StateError, TerminalError):
    """This KEK does not open a stored wrap: it is under another, or somebody changed the row."""

    def __init__(self, problem: str) -> None:
        super().__init__(problem)
        self.problem = problem

    def __str__(self) -> str:
        return self.problem


class Kek:
    """The key that wraps master keys; it can neither be printed nor pickled."""

    __slots__ = ("_cipher",)

    def __init__(self, material: bytes) -> None:
        self._cipher = AES(material)

    @property
    def cipher(self) -> AES:
        """The block cipher under this key."""
        return self._cipher

    def __repr__(self) -> str:
        return "Kek(...)"

    def __reduce__(self) -> Never:
        raise TypeError("the KEK never leaves its process")


class Wrap(msgspec.Struct, frozen=True):
    """An encrypted master key as the database holds it: two base64 texts."""

    wrapped_mk: str
    iv: str


class Vault(msgspec.Struct, frozen=True, kw_only=True):
    """One person's row; where both halves of a wrap are None, there is no such wrap."""

    wrapped_mk: str | None
    wrap_iv: str | None
    format_version: int = FORMAT_VERSION
    kek_id: str = KEK_ID
    recovery_wrapped_mk: str | None = None
    recovery_iv: str | None = None
    recovery_format_version: int | None = None
    recovery_set_at: datetime | None = None
    zero_knowledge: bool = False
    created_at: datetime
    rotated_at: datetime | None = None

    @property
    def key_since(self) -> datetime:
        """When this master key became the current one."""
        return self.rotated_at or self.created_at


# --- wrapping -------------------------------------------------------------------------------------


def read_kek(text: str) -> Kek:
    """The KEK in base64, as its file holds it; raises KekUnusable."""
    material = forgiving_base64.decoded(text)
    if material is None or len(material) != KEY_BYTES:
        raise KekUnusable(f"must be base64 of exactly {KEY_BYTES} bytes")
    if not any(material):
        raise KekUnusable("is all zeros: make a random key")
    return Kek(material)


def wrapped(master_key: DataKey, kek: Kek, iv: bytes) -> Wrap:
    """The key under the KEK; `iv` is 12 fresh random bytes."""
    if len(iv) != IV_BYTES:
        raise ValueError(f"an iv has {IV_BYTES} bytes")
    encryptor = Cipher(kek.cipher, GCM(iv)).encryptor()
    body = encryptor.update(master_key.material) + encryptor.finalize() + encryptor.tag
    return Wrap(forgiving_base64.encoded(body), forgiving_base64.encoded(iv))


def unwrapped(vault: Vault, kek: Kek) -> DataKey:
    """The master key; raises MasterKeyNotOpened."""
    if vault.kek_id != KEK_ID or vault.format_version != FORMAT_VERSION:
        raise MasterKeyNotOpened("wrapped under another KEK, or in another format")
    body = forgiving_base64.decoded(vault.wrapped_mk or "")
    iv = forgiving_base64.decoded(vault.wrap_iv or "")
    if body is None or iv is None or len(body) != KEY_BYTES + TAG_BYTES or len(iv) != IV_BYTES:
        raise MasterKeyNotOpened("the stored wrap is malformed")
    # Into one buffer that can be wiped: the library's simpler call leaves a copy behind.
    decryptor = Cipher(kek.cipher, GCM(iv, body[KEY_BYTES:])).decryptor()
    opened = bytearray(KEY_BYTES + 15)  # what update_into asks for
    try:
        decryptor.update_into(body[:KEY_BYTES], opened)
        decryptor.finalize()
        return DataKey(opened[:KEY_BYTES])
    except InvalidTag:
        problem = "the stored wrap does not open: another KEK, or tampered"
        raise MasterKeyNotOpened(problem) from None
    finally:
        wipe(opened)


def key_check(master_key: DataKey) -> str:
    """By what a key is recognised; it gives nothing away of a random key of 32 bytes."""
    return hmac.digest(master_key.material, _CHECK_LABEL, "sha256").hex()


def is_same_key(master_key: DataKey, check: str) -> bool:
    """Whether the check was made of this key."""
    return hmac.compare_digest(key_check(master_key), check)


# --- what callers send ----------------------------------------------------------------------------


def read_master_key(raw: object) -> DataKey:
    """A client's `masterKey`, base64 of 32 bytes; raises VaultRefused."""
    material = forgiving_base64.decoded(raw) if isinstance(raw, str) else None
    if material is None or len(material) != KEY_BYTES:
        raise bad_request(f"masterKey must be base64 of {KEY_BYTES} bytes")
    return DataKey(bytearray(material))


def read_recovery(wrapped_mk: object, iv: object) -> Wrap:
    """A client's wrap under its recovery code, which we can only store; raises VaultRefused."""
    return Wrap(_blob("recoveryWrappedMk", wrapped_mk), _blob("recoveryIv", iv))


def _blob(field: str, raw: object) -> str:
    if not isinstance(raw, str) or len(raw) > MAX_RECOVERY_CHARS:
        raise bad_request(f"{field} must be base64 of at most {MAX_RECOVERY_CHARS} characters")
    if not forgiving_base64.decoded(raw):
        raise bad_request(f"{field} must be base64")
    return raw


# --- what becomes of a vault ----------------------------------------------------------------------


def new_vault(wrap: Wrap, now: datetime) -> Vault:
    """A first vault."""
    return Vault(wrapped_mk=wrap.wrapped_mk, wrap_iv=wrap.iv, created_at=now)


def present(vault: Vault | None) -> Vault:
    """The vault, if there is one; raises VaultRefused."""
    if vault is None:
        raise VaultRefused("VAULT_NOT_INITIALISED", "the vault is not initialised")
    return vault


def usable(vault: Vault | None) -> Vault:
    """A vault whose key we can open; raises VaultRefused."""
    if present(vault).zero_knowledge:
        raise VaultRefused("ZK_ACTIVE", "zero-knowledge mode: the server has no key")
    return present(vault)


def rotated(vault: Vault, wrap: Wrap, now: datetime) -> Vault:
    """The vault with another key, which no old recovery code opens; raises VaultRefused."""
    if vault.zero_knowledge:
        problem = "zero-knowledge mode: only your own device can make a new key"
        raise VaultRefused("ZK_ROTATE_FORBIDDEN", problem)
    return _without_recovery(
        msgspec.structs.replace(
            vault,
            wrapped_mk=wrap.wrapped_mk,
            wrap_iv=wrap.iv,
            format_version=FORMAT_VERSION,
            kek_id=KEK_ID,
            rotated_at=now,
        )
    )


def with_recovery(vault: Vault, wrap: Wrap, now: datetime) -> Vault:
    """The vault with this recovery wrap in place of any other."""
    return msgspec.structs.replace(
        vault,
        recovery_wrapped_mk=wrap.wrapped_mk,
        recovery_iv=wrap.iv,
        recovery_format_version=FORMAT_VERSION,
        recovery_set_at=now,
    )


def cleared_of_recovery(vault: Vault) -> Vault:
    """The vault without a recovery wrap; raises VaultRefused where that is the only wrap."""
    if vault.zero_knowledge:
        problem = "zero-knowledge mode: the recovery wrap is the only way to your key"
        raise VaultRefused("ZK_ACTIVE", problem)
    return _without_recovery(vault)


def _without_recovery(vault: Vault) -> Vault:
    return msgspec.structs.replace(
        vault,
        recovery_wrapped_mk=None,
        recovery_iv=None,
        recovery_format_version=None,
        recovery_set_at=None,
    )


def in_zero_knowledge(vault: Vault) -> Vault:
    """The vault without our wrap; raises VaultRefused where it has no recovery wrap."""
    if vault.recovery_wrapped_mk is None:
        raise VaultRefused("RECOVERY_WRAP_MISSING", "set a recovery wrap first")
    return msgspec.structs.replace(vault, wrapped_mk=None, wrap_iv=None, zero_knowledge=True)


def out_of_zero_knowledge(vault: Vault, wrap: Wrap) -> Vault:
    """The vault with a wrap of ours again."""
    return msgspec.structs.replace(
        vault,
        wrapped_mk=wrap.wrapped_mk,
        wrap_iv=wrap.iv,
        format_version=FORMAT_VERSION,
        kek_id=KEK_ID,
        zero_knowledge=False,
    )


def bad_request(message: str) -> VaultRefused:
    """The request itself is wrong."""
    return VaultRefused("BAD_REQUEST", message)
