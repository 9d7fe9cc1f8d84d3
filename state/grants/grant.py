"""Mission grants: who may read which records until when, and the key to do it.

A v1 grant is what the original service made: nothing in it is authenticated, so whoever can write
a mission can widen it. A v2 grant hashes its scope into the key's derivation, and its issuer signs
all that matters with Ed25519.
"""
# ruff: noqa: PLC0415 - only issuers and the key holder load cryptography

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, cast

import msgspec
from msgspec import UNSET, UnsetType

from state.errors import StateError, TerminalError
from state.grants import scopes
from state.grants.scopes import Scope, ScopeRefused
from state.log.stamps import NS_PER_MS, NS_PER_S, parse_instant
from state.rules.exposure import Exposure
from state.sealing import forgiving_base64, key_pairs
from state.sealing.values import KEY_BYTES, DataKey, wipe

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import (
        Ed25519PrivateKey,
        Ed25519PublicKey,
    )
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

LONGEST_MS = 2_592_000_000
"""30 days. No grant lives longer, whoever issued it."""

SKEW_NS = 300 * NS_PER_S
"""How far clocks of issuer and key holder may differ."""

Reason = Literal["not-configured", "expired", "malformed", "wrap-rejected"]
"""Why a grant cannot be used, as clients of the original know it."""


class DerivationRefused(StateError, TerminalError):
    """The data key cannot be derived: an unknown version, or a master key of a wrong length."""

    def __init__(self, problem: str) -> None:
        super().__init__(problem)
        self.problem = problem


class Derivation(msgspec.Struct, frozen=True, rename="camel"):
    """What the data key is derived from; only v2 grants have `user_id`."""

    version: str
    mission_id: str
    tables: list[str]
    record_ids: list[str]
    user_id: str | UnsetType = UNSET


class Grant(msgspec.Struct, frozen=True, rename="camel"):
    """A grant as a mission keeps it; only v2 grants have the last three fields."""

    wrapped_key: str
    derivation: Derivation
    issued_at: str
    expires_at: str
    exposure: Exposure | UnsetType = UNSET
    issuer_key_id: str | UnsetType = UNSET
    signature: str | UnsetType = UNSET


GrantStatus = Literal["none", "active", "expired", "unreadable"]
"""What can be said without the key; the key holder may still refuse an `active` grant."""


class GrantFault(msgspec.Struct, frozen=True):
    """Why a grant cannot be used; `detail` says more exactly what `reason` groups."""

    reason: Reason
    detail: str


class OpenedGrant(msgspec.Struct, frozen=True):
    """A grant that holds: its data key, what it covers, and how far prompts may travel.

    Instants are ns. `exposure` is None in a v1 grant, whose consent named none.
    """

    key: DataKey
    scope: Scope
    version: str
    issued_at: int
    expires_at: int
    exposure: Exposure | None


class SignedGrant(msgspec.Struct, frozen=True):
    """What the issuer of a living grant signed; `issued_at` is ns."""

    derivation: Derivation
    scope: Scope
    issued_at: int


class Trust(msgspec.Struct, frozen=True):
    """Whom the key holder trusts: its own private keys, and issuers' public keys by key id."""

    private_keys: tuple[RSAPrivateKey, ...] = ()
    issuers: Mapping[str, Ed25519PublicKey] = {}
    accept_v1: bool = False


class Grantee(msgspec.Struct, frozen=True):
    """For whom a grant must have been made."""

    user_id: str
    mission_id: str


# --- deriving and signing -------------------------------------------------------------------------


def derived_key(master_key: bytearray | bytes, user_id: str, derivation: Derivation) -> DataKey:
    """The mission's data key; raises DerivationRefused."""
    if len(master_key) != KEY_BYTES:
        raise DerivationRefused(f"the master key must have {KEY_BYTES} bytes")
    tables, records = derivation.tables, derivation.record_ids
    if derivation.version == "v1":
        info = scopes.scope_text(tables, records)
    elif derivation.version == "v2":
        scope = Scope(scopes.in_order(tables), scopes.in_order(records))
        info = scopes.hashed_scope_text(user_id, derivation.mission_id, scope)
    else:
        raise DerivationRefused("unsupported derivation version")
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    salt = derivation.mission_id.encode()
    key = bytearray(KEY_BYTES)
    HKDF(hashes.SHA256(), KEY_BYTES, salt=salt, info=info.encode()).derive_into(master_key, key)
    return DataKey(key)


def signed(grant: Grant, issuer: Ed25519PrivateKey) -> Grant:
    """The grant with its issuer's signature over everything in it."""
    named = msgspec.structs.replace(
        grant, issuer_key_id=key_pairs.issuer_key_id(issuer.public_key())
    )
    signature = forgiving_base64.encoded(issuer.sign(_signed_bytes(named)))
    return msgspec.structs.replace(named, signature=signature)


def _signed_bytes(grant: Grant) -> bytes:
    """What a v2 signature covers: a JSON list, so that no two grants read the same."""
    derivation = grant.derivation
    return scopes.canonical(
        [
            "mana-ai-mission-grant",
            derivation.version,
            derivation.user_id or "",
            derivation.mission_id,
            derivation.tables,
            derivation.record_ids,
            grant.issued_at,
            grant.expires_at,
            hashlib.sha256(grant.wrapped_key.encode()).hexdigest(),
            grant.exposure or "",
            grant.issuer_key_id or "",
        ]
    )


# --- opening --------------------------------------------------------------------------------------


def opened_grant(raw: object, grantee: Grantee, trust: Trust, now: int) -> OpenedGrant | GrantFault:
    """The grant's data key if it holds for this user and mission at `now` (ns), else why not.

    Expiry comes first, then form, then what was signed, and the key last, so that whoever asks with
    a wrong grant learns nothing of the key. The opened grant wipes its key when its `with` ends.
    """
    if not trust.private_keys:
        return GrantFault("not-configured", "no-private-key")
    grant = checked_grant(raw, grantee, trust, now)
    if isinstance(grant, GrantFault):
        return grant
    derivation = grant.derivation
    body = forgiving_base64.decoded(grant.wrapped_key)
    if body is None:
        return GrantFault("malformed", "wrapped-key-not-base64")
    material = key_pairs.unwrapped(body, trust.private_keys, derivation.version)
    if material is None:
        return GrantFault("wrap-rejected", "wrapped-for-another-key-or-tampered")
    if len(material) != KEY_BYTES:
        wipe(material)
        return GrantFault("malformed", "wrong-key-length")
    return OpenedGrant(
        key=DataKey(material),
        scope=Scope(tuple(derivation.tables), tuple(derivation.record_ids)),
        version=derivation.version,
        issued_at=parse_instant(grant.issued_at) or 0,
        expires_at=parse_instant(grant.expires_at) or 0,
        exposure=grant.exposure or None,
    )


def signed_grant(
    raw: object, grantee: Grantee, issuers: Mapping[str, Ed25519PublicKey], now: int
) -> SignedGrant | GrantFault:
    """What one of these issuers granted this user's mission, at `now` (ns); never a v1 grant."""
    grant = checked_grant(raw, grantee, Trust(issuers=issuers), now)
    if isinstance(grant, GrantFault):
        return grant
    derivation = grant.derivation
    scope = Scope(tuple(derivation.tables), tuple(derivation.record_ids))
    return SignedGrant(derivation, scope, parse_instant(grant.issued_at) or 0)


def grant_status(text: str | None, mission_id: str, now: int) -> tuple[GrantStatus, int | None]:
    """How a mission's stored grant (JSON) stands at `now`, and its end where it has one (ns)."""
    try:
        raw: object = None if text is None else msgspec.json.decode(text)
    except (msgspec.MsgspecError, RecursionError):  # a number or a depth that no grant has
        return "unreadable", None
    if raw is None:
        return "none", None
    expires_at, grant = _expiry(raw), _read(raw)
    if expires_at is not None and expires_at < now:
        return "expired", expires_at
    if grant is None or grant.derivation.mission_id != mission_id or _term_fault(grant, now):
        return "unreadable", expires_at
    return "active", expires_at


def checked_grant(raw: object, grantee: Grantee, trust: Trust, now: int) -> Grant | GrantFault:
    """A living grant that was made for this user and mission by one of the issuers, at `now` (ns).

    Whether the key holder can unwrap its key is not asked.
    """
    expires_at = _expiry(raw)
    if expires_at is None or expires_at < now:
        return GrantFault("expired", "expired" if expires_at else "no-expiry")
    grant = _read(raw)
    if grant is None:
        return GrantFault("malformed", "not-a-grant")
    detail = _fault(grant, grantee, trust, now)
    return grant if detail is None else GrantFault("malformed", detail)


def _expiry(raw: object) -> int | None:
    text = cast("dict[str, Any]", raw).get("expiresAt") if isinstance(raw, dict) else None
    return parse_instant(text) if isinstance(text, str) else None


def _read(raw: object) -> Grant | None:
    try:
        return msgspec.convert(raw, Grant)
    except (msgspec.ValidationError, UnicodeEncodeError):  # the latter: a lone surrogate
        return None


def _fault(grant: Grant, grantee: Grantee, trust: Trust, now: int) -> str | None:
    """What is wrong with it, found before anything is decrypted."""
    if grant.derivation.mission_id != grantee.mission_id:
        return "other-mission"
    if (fault := _term_fault(grant, now)) is not None:
        return fault
    if grant.derivation.version == "v1":
        return None if trust.accept_v1 else "v1-not-accepted"
    if grant.derivation.version != "v2":
        return "unknown-version"
    if grant.derivation.user_id != grantee.user_id:
        return "other-user"
    return _signature_fault(grant, trust) or _scope_fault(grant.derivation)


def _term_fault(grant: Grant, now: int) -> str | None:
    issued_at, expires_at = parse_instant(grant.issued_at), parse_instant(grant.expires_at)
    if issued_at is None or expires_at is None:
        return "no-issue-date"
    if issued_at > now + SKEW_NS:
        return "issued-in-future"
    if not 0 <= expires_at - issued_at <= LONGEST_MS * NS_PER_MS + SKEW_NS:
        return "lives-too-long"
    return None


def _signature_fault(grant: Grant, trust: Trust) -> str | None:
    from cryptography.exceptions import InvalidSignature

    issuer = trust.issuers.get(grant.issuer_key_id or "")
    signature = forgiving_base64.decoded(grant.signature or "")
    if issuer is None or not signature:
        return "unknown-issuer" if issuer is None else "unsigned"
    try:
        issuer.verify(signature, _signed_bytes(grant))
    except (InvalidSignature, UnicodeEncodeError):
        return "signature-rejected"
    return None


def _scope_fault(derivation: Derivation) -> str | None:
    """A signed scope is checked as well: its issuer may run an older release with fewer rules."""
    try:
        scope = scopes.granted_scope(derivation.tables, derivation.record_ids)
    except ScopeRefused:
        return "bad-scope"
    as_listed = Scope(tuple(derivation.tables), tuple(derivation.record_ids))
    return None if scope == as_listed else "bad-scope"
