"""Looks at granted records in words: what came of one, why, and which are violations."""

from __future__ import annotations

from datetime import datetime, timedelta

from state.store.owner import AuditRow
from supervisor.gateway.pages.reader import Reader
from supervisor.gateway.pages.translations import translations_of

OUTCOMES = {
    "read": ("ok",),
    "not-opened": ("failed",),
    "outside": ("scope-violation",),
    "silent": ("released",),
    "no-key": ("refused",),
}
"""What a filter says, and the statuses of rows that it means."""
VIOLATIONS = (*OUTCOMES["outside"], *OUTCOMES["silent"])
WORD_WITHIN = timedelta(minutes=15)
"""A run tells what it read when it has read it; a key that is older and without a word stays so."""


def outcome_of(row: AuditRow) -> str:
    """The word of its outcome, as filters and states have it."""
    return next((word for word, known in OUTCOMES.items() if row.status in known), row.status)


def is_violation(row: AuditRow, now: datetime) -> bool:
    """Whether its owner has to look: outside of a grant, or a key that nobody told about."""
    if row.status in OUTCOMES["outside"]:
        return True
    return row.status in OUTCOMES["silent"] and now - row.ts > WORD_WITHIN


def reason_said(reason: str | None, reader: Reader) -> str:
    """Why, in words; one that is not known here as it is."""
    if not reason:
        return ""
    _ = translations_of(reader.language).gettext
    known = {
        "record-not-in-grant-allowlist": _("the grant does not list this record"),
        "ciphertext-malformed": _("its sealed text is damaged"),
        "ciphertext-tampered-or-wrong-key": _("it was changed, or sealed under another key"),
        "decrypt-failed": _("it could not be opened"),
        "no-outcome-recorded": _("a key was handed out, and nobody told what it opened"),
        "expired": _("the grant had ended"),
        "no-expiry": _("the grant says no end"),
        "no-grant": _("there was no grant"),
        "run-not-live": _("the run was over"),
        "other-mission": _("the grant was another mission's"),
        "other-user": _("the grant was another person's"),
        "unknown-issuer": _("nobody known here signed the grant"),
        "unsigned": _("the grant was not signed"),
        "signature-rejected": _("the grant was changed after it was signed"),
        "v1-not-accepted": _("the grant was of a kind that nobody signs"),
        "wrapped-for-another-key-or-tampered": _("the grant was made for another server's key"),
        "no-private-key": _("this server had no key that opens grants"),
        "lives-too-long": _("the grant said a later end than any may have"),
        "not-a-grant": _("the grant was damaged"),
    }
    return known.get(reason, reason)
