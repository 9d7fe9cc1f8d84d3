"""How a mission's grant stands, as far as anybody without the runner's key can tell. Pure."""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal

import msgspec

from state.grants.grant import SKEW_NS, Grant, Grantee, GrantFault, Trust, checked_grant
from state.log.stamps import NS_PER_S, parse_instant
from state.rules.exposure import Exposure

SOON_NS = 24 * 3600 * NS_PER_S

Standing = Literal[
    "none",
    "revoked",
    "active",
    "ends-soon",
    "expired",
    "other-issuer",
    "other-key",
    "other-inputs",
    "broken",
]
"""`other-key`: the vault has another key since. `other-inputs`: more is needed than it lists."""


class GrantStanding(msgspec.Struct, frozen=True, kw_only=True):
    """A grant's standing; instants are ns.

    `records` are those it lists and `uncovered` those that are needed and not listed, both as
    `table:id`; `detail` says what is wrong with a broken one.
    """

    standing: Standing
    issued_at: int | None = None
    ends_at: int | None = None
    exposure: Exposure | None = None
    records: tuple[str, ...] = ()
    uncovered: tuple[str, ...] = ()
    detail: str = ""

    @property
    def opens(self) -> bool:
        """Whether a run gets at least some of its records by it."""
        return self.standing in ("active", "ends-soon", "other-inputs")


def grant_standing(
    raw: object,
    grantee: Grantee,
    trust: Trust,
    *,
    was_given: bool,
    needed: Collection[str],
    key_since: int | None,
    now: int,
) -> GrantStanding:
    """How the grant in a mission stands for the records that it needs now.

    `was_given`: the mission had a grant before. `key_since` is since when the owner's master key is
    the one, None where nobody here knows.
    """
    if raw is None:
        listed = tuple(sorted(needed))
        return GrantStanding(standing="revoked" if was_given else "none", uncovered=listed)
    found = checked_grant(raw, grantee, trust, now)
    if isinstance(found, GrantFault):
        return GrantStanding(
            standing="expired"
            if found.detail == "expired"
            else "other-issuer"
            if found.detail == "unknown-issuer"
            else "broken",
            ends_at=_end_of(raw),
            uncovered=tuple(sorted(needed)),
            detail=found.detail,
        )
    issued_at, ends_at = parse_instant(found.issued_at) or 0, parse_instant(found.expires_at) or 0
    uncovered = tuple(sorted(set(needed) - set(found.derivation.record_ids)))
    standing: Standing = "ends-soon" if ends_at - now < SOON_NS else "active"
    if uncovered:
        standing = "other-inputs"
    if key_since is not None and key_since > issued_at + SKEW_NS:
        standing = "other-key"
    return GrantStanding(
        standing=standing,
        issued_at=issued_at,
        ends_at=ends_at,
        exposure=_exposure_of(found),
        records=tuple(found.derivation.record_ids),
        uncovered=uncovered,
    )


def _end_of(raw: object) -> int | None:
    match raw:
        case {"expiresAt": str(text)}:
            return parse_instant(text)
        case _:
            return None


def _exposure_of(grant: Grant) -> Exposure | None:
    return grant.exposure or None
