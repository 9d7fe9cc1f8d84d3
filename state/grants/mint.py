"""The mint of grants: what a request may ask for, and the grant that it gets.

Callers check in this order, and clients rely on which refusal they see first: `read_request`,
whether there is a runner key, `checked_scope`, the caller's vault, `minted_grant`.
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
from state.grants.vault import RefusalCode
from state.log.stamps import NS_PER_MS, format_instant
from state.rules.exposure import Exposure
from state.sealing import key_pairs

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

DEFAULT_MS = 604_800_000
SHORTEST_MS = 3_600_000


class MintRefused(StateError, TerminalError):
    """A grant that is not minted; the message holds no ids."""

    def __init__(self, code: RefusalCode, message: str) -> None:
        super().__init__(code, message)
        self.code: RefusalCode = code
        self.message = message

    def __str__(self) -> str:
        return self.message


class MintRequest(msgspec.Struct, frozen=True):
    """What a client asks for, with a lifetime `ttl_ms` that is in bounds already."""

    mission_id: str
    tables: tuple[str, ...]
    record_ids: tuple[str, ...]
    ttl_ms: int


class Issuer(msgspec.Struct, frozen=True):
    """The keys that mint: the runner's public key, and ours to sign with; without it v1 grants."""

    runner_key: RSAPublicKey
    signing_key: Ed25519PrivateKey | None


def bad_request(message: str) -> MintRefused:
    """The request itself is wrong."""
    return MintRefused("BAD_REQUEST", message)


def not_configured() -> MintRefused:
    """This server has no runner key to wrap for."""
    return MintRefused("GRANT_NOT_CONFIGURED", "mission grants are not configured here")


def read_request(body: object) -> MintRequest:
    """A decoded JSON body as a request, of which only types are checked; raises MintRefused."""
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
    """The scope to grant, well formed and each entry once; raises MintRefused."""
    if any("\ud800" <= c <= "\udfff" for c in request.mission_id):
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

    One scope always gives one data key, so that a new grant opens what was sealed under the last.
    Raises MintRefused, and DerivationRefused for a master key of a wrong length.
    """
    scope = checked_scope(request)
    is_signed = issuer.signing_key is not None
    derivation = Derivation(
        version="v2" if is_signed else "v1",
        mission_id=request.mission_id,
        tables=list(scope.tables),
        record_ids=list(scope.record_ids),
        user_id=user_id if is_signed else UNSET,
    )
    with derived_key(master_key, user_id, derivation) as key:
        wrapped_key = key_pairs.wrapped(key.material, issuer.runner_key, derivation.version)
    whole_ms = now - now % NS_PER_MS
    grant = Grant(
        wrapped_key=wrapped_key,
        derivation=derivation,
        issued_at=format_instant(whole_ms),
        expires_at=format_instant(whole_ms + request.ttl_ms * NS_PER_MS),
        exposure=exposure if is_signed else UNSET,
    )
    if issuer.signing_key is not None:
        grant = signed(grant, issuer.signing_key)
    return msgspec.to_builtins(grant)


def _texts(fields: dict[str, Any], name: str) -> tuple[str, ...]:
    raw = fields.get(name)
    if not isinstance(raw, list):
        raise bad_request(f"{name} must be a list of texts")
    entries = cast("Sequence[object]", raw)
    texts = tuple(entry for entry in entries if isinstance(entry, str))
    if len(texts) != len(entries):
        raise bad_request(f"{name} must be a list of texts")
    return texts
