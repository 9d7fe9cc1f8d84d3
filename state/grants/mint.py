"""Minting a grant: what a request may ask, and what it gets (grants-auth §1).

Checks run in the order of that table: `read_request`, then whether a runner key is configured,
then `checked_scope`, then the caller's vault, then `mint`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

import msgspec
from msgspec import UNSET

from state.errors import StateError, TerminalError
from state.grants import scopes
from state.grants.grant import LONGEST_MS, Derivation, Grant, derived_key, signed
from state.grants.scopes import Scope, ScopeRefused
from state.log.stamps import NS_PER_MS, format_instant
from state.rules.exposure import Exposure
from state.sealing import key_pairs

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

DEFAULT_MS = 604_800_000
SHORTEST_MS = 3_600_000


class MintRefused(StateError, TerminalError):
    """A grant that is not minted: HTTP status, code of grants-auth §1, and a text without ids."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(status, code, message)
        self.status, self.code, self.message = status, code, message

    def __str__(self) -> str:
        return self.message


class MintRequest(msgspec.Struct, frozen=True):
    """What a client asks for; `ttl_ms` is clamped already."""

    mission_id: str
    tables: tuple[str, ...]
    record_ids: tuple[str, ...]
    ttl_ms: int


class Issuer(msgspec.Struct, frozen=True):
    """The keys that mint: the runner's public key, and our signing key; None mints v1 (D-41)."""

    runner_key: RSAPublicKey
    signing_key: Ed25519PrivateKey | None


def bad_request(message: str) -> MintRefused:
    """400: the request itself is wrong."""
    return MintRefused(400, "BAD_REQUEST", message)


def not_configured() -> MintRefused:
    """503: this server has no runner key to wrap for."""
    return MintRefused(503, "GRANT_NOT_CONFIGURED", "mission grants are not configured here")


def vault_missing() -> MintRefused:
    """404: the caller has no vault."""
    return MintRefused(404, "VAULT_NOT_INITIALISED", "the vault is not initialised")


def zero_knowledge() -> MintRefused:
    """409: the server has no key that it could use."""
    return MintRefused(409, "ZK_ACTIVE", "zero-knowledge mode: the server cannot make this grant")


def read_request(body: object) -> MintRequest:
    """A decoded JSON body as a request, its types checked and nothing else; raises MintRefused."""
    if not isinstance(body, dict):
        raise bad_request("the body must be an object")
    fields = cast("dict[str, Any]", body)
    mission_id = fields.get("missionId")
    if not isinstance(mission_id, str) or not mission_id:
        raise bad_request("missionId must be a non-empty text")
    return MintRequest(
        mission_id,
        _texts(fields, "tables"),
        _texts(fields, "recordIds"),
        clamped_ttl_ms(fields.get("ttlMs")),
    )


def clamped_ttl_ms(raw: object) -> int:
    """A lifetime from one hour to thirty days; anything but a number gives seven days."""
    if isinstance(raw, bool) or not isinstance(raw, int | float):
        return DEFAULT_MS
    return int(min(max(raw, SHORTEST_MS), LONGEST_MS)) if raw == raw else DEFAULT_MS  # noqa: PLR0124 - NaN


def checked_scope(request: MintRequest) -> Scope:
    """The scope a grant may have (D-48), each entry once; raises MintRefused."""
    if not _is_text(request.mission_id):
        raise bad_request("missionId must be text without lone surrogates")
    try:
        return scopes.granted_scope(request.tables, request.record_ids)
    except ScopeRefused as exc:
        raise bad_request(str(exc)) from None


def minted_grant(
    request: MintRequest,
    *,
    user_id: str,
    master_key: bytearray | bytes,
    issuer: Issuer,
    now: int,
    exposure: Exposure = "local",
) -> dict[str, Any]:
    """The grant as the client stores it in its mission; `now` is ns.

    The same scope gives the same data key, so what is sealed stays readable. Raises MintRefused
    and, for a master key of a wrong length, DerivationRefused.
    """
    scope = checked_scope(request)
    derivation = _derivation(request.mission_id, user_id, scope, issuer)
    with derived_key(master_key, user_id, derivation) as key:
        wrapped_key = key_pairs.wrapped(key.material, issuer.runner_key, derivation.version)
    whole_ms = now - now % NS_PER_MS
    grant = Grant(
        wrapped_key=wrapped_key,
        derivation=derivation,
        issued_at=format_instant(whole_ms),
        expires_at=format_instant(whole_ms + request.ttl_ms * NS_PER_MS),
    )
    return msgspec.to_builtins(_finished(grant, issuer, exposure))


def _derivation(mission_id: str, user_id: str, scope: Scope, issuer: Issuer) -> Derivation:
    return Derivation(
        version="v2" if issuer.signing_key else "v1",
        mission_id=mission_id,
        tables=list(scope.tables),
        record_ids=list(scope.record_ids),
        user_id=user_id if issuer.signing_key else UNSET,
    )


def _finished(grant: Grant, issuer: Issuer, exposure: Exposure) -> Grant:
    if issuer.signing_key is None:
        return grant
    consented = msgspec.structs.replace(grant, exposure=exposure)
    return signed(consented, issuer.signing_key)


def _texts(fields: dict[str, Any], name: str) -> tuple[str, ...]:
    raw = fields.get(name)
    if not isinstance(raw, list):
        raise bad_request(f"{name} must be a list of texts")
    entries = cast("Sequence[object]", raw)
    texts = tuple(entry for entry in entries if isinstance(entry, str))
    if len(texts) != len(entries):
        raise bad_request(f"{name} must be a list of texts")
    return texts


def _is_text(text: str) -> bool:
    return not any("\ud800" <= c <= "\udfff" for c in text)
