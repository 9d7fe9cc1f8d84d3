"""What a grant would allow, in the words its owner agrees to."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Literal
from zoneinfo import ZoneInfo

import msgspec

from state.log.stamps import format_instant, instant_of
from state.rules.exposure import Exposure, lower_of
from state.runs.reasons import Language

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS

_NAMES = {
    "notes": "Notizen",
    "tasks": "Aufgaben",
    "events": "Termine",
    "journalEntries": "Journal",
    "kontextDoc": "Kontext-Dokument",
    "userContext": "Profil",
}
_READERS: dict[Exposure, str] = {
    "local": "Den Text lesen nur Sprachmodelle, die der Betreiber selbst betreibt (local).",
    "eu": "Den Text dürfen auch Anbieter von Sprachmodellen in der EU lesen (eu).",
    "any": (
        "Den Text dürfen Anbieter von Sprachmodellen überall lesen, auch außerhalb der EU (any)."
    ),
}

_ENGLISH_NAMES = {
    "notes": "notes",
    "tasks": "tasks",
    "events": "events",
    "journalEntries": "journal",
    "kontextDoc": "context document",
    "userContext": "profile",
}
_ENGLISH_READERS: dict[Exposure, str] = {
    "local": "Only language models that the operator runs themselves read the text (local).",
    "eu": "Providers of language models in the EU may read the text, too (eu).",
    "any": (
        "Providers of language models anywhere may read the text, also outside of the EU (any)."
    ),
}


class GrantAsked(msgspec.Struct, frozen=True, kw_only=True):
    """A grant that somebody thinks about giving.

    `exposure` is what they would consent to, None where the grant names none. `deployment` is the
    most that this server uses. `key_id` names the key that output is sealed for, None without one.
    `zone` is the owner's.
    """

    tables: Sequence[str]
    records: int
    ends_at: datetime
    ttl_ms: int
    exposure: Exposure | None
    deployment: Exposure
    key_id: str | None
    zone: ZoneInfo = ZoneInfo("UTC")


class ConsentText(msgspec.Struct, frozen=True, rename="camel"):
    """The sentences, and the facts in them that a program may want."""

    lines: list[str]
    exposure: Exposure
    derived_text: Literal["sealed", "plain"]
    expires_at: str


def consent_text(asked: GrantAsked, language: Language = "de") -> ConsentText:
    """What the grant allows; `exposure` is never beyond the server's own."""
    wanted = asked.exposure or asked.deployment
    used = lower_of(wanted, asked.deployment)
    kept: Literal["sealed", "plain"] = "plain" if asked.key_id is None else "sealed"
    lines = (_german if language == "de" else _english)(asked, wanted, used)
    return ConsentText(lines, used, kept, format_instant(instant_of(asked.ends_at)))


def _german(asked: GrantAsked, wanted: Exposure, used: Exposure) -> list[str]:
    tables = ", ".join(_NAMES.get(table, table) for table in asked.tables)
    if asked.records == 1:
        what = f"einen verschlüsselten Eintrag ({tables}) lesen, und nur diesen"
    else:
        what = f"{asked.records} verschlüsselte Einträge ({tables}) lesen, und nur diese"
    until = asked.ends_at.astimezone(asked.zone).strftime("%d.%m.%Y, %H:%M Uhr")
    until = f"{until} ({asked.zone.key})"
    lines = [
        f"Diese Mission darf {what}. Entschlüsselt wird auf dem Server, während sie läuft.",
        (
            f"Der Zugriff gilt {_duration(asked.ttl_ms)} ab der Erteilung, jetzt erteilt also bis "
            f"{until}. Er verlängert sich nicht von selbst; danach musst du ihn neu erteilen."
        ),
        "Jeder Zugriff wird protokolliert; du siehst ihn unter Workbench → Datenzugriff.",
        (
            "Du kannst den Zugriff jederzeit zurückziehen. Was ein Sprachmodell bis dahin gelesen "
            "hat, lässt sich nicht zurückholen."
        ),
        _READERS[used],
    ]
    if wanted != used:
        lines.append(
            f"Deine Zustimmung reicht weiter ({wanted}): Erlaubt der Betreiber später mehr, gilt "
            "sie auch dafür."
        )
    if asked.key_id is None:
        lines.append(
            "Was daraus entsteht (Plan, Begründungen, Zusammenfassung), wird lesbar in deinem "
            "Konto gespeichert, weil dafür kein Schlüssel von dir registriert ist."
        )
    else:
        lines.append(
            "Was daraus entsteht (Plan, Begründungen, Zusammenfassung), wird für deinen Schlüssel "
            f"{asked.key_id} versiegelt, solange er registriert ist; der Server kann es danach "
            "nicht lesen. Lesbar bleiben die Namen der vorgeschlagenen Aktionen, Zustände, Zeiten "
            "und das, was du selbst dazu schreibst."
        )
    return lines


def _english(asked: GrantAsked, wanted: Exposure, used: Exposure) -> list[str]:
    tables = ", ".join(_ENGLISH_NAMES.get(table, table) for table in asked.tables)
    if asked.records == 1:
        what = f"one encrypted record ({tables}), and only that"
    else:
        what = f"{asked.records} encrypted records ({tables}), and only those"
    until = asked.ends_at.astimezone(asked.zone).strftime("%d %b %Y, %H:%M")
    until = f"{until} ({asked.zone.key})"
    lines = [
        f"This mission may read {what}. They are decrypted on the server while it runs.",
        (
            f"It may do so for {_english_duration(asked.ttl_ms)} from when you grant it, granted "
            f"now until {until}. That does not renew itself; afterwards you grant it anew."
        ),
        "Each look is written down; you see it under Data access.",
        (
            "You can take the access back at any time. What a language model has read by then "
            "cannot be taken back."
        ),
        _ENGLISH_READERS[used],
    ]
    if wanted != used:
        lines.append(
            f"Your consent goes further ({wanted}): should the operator allow more later, it holds "
            "for that, too."
        )
    if asked.key_id is None:
        lines.append(
            "What is made of it (plan, reasons, summary) is kept readable in your account, because "
            "no key of yours is registered for it."
        )
    else:
        lines.append(
            f"What is made of it (plan, reasons, summary) is sealed for your key {asked.key_id} "
            "while that is registered; the server cannot read it afterwards. The names of proposed "
            "actions, states, times and what you write about them stay readable."
        )
    return lines


def _duration(ttl_ms: int) -> str:
    if ttl_ms % DAY_MS == 0:
        return "einen Tag" if ttl_ms == DAY_MS else f"{ttl_ms // DAY_MS} Tage"
    hours = -(-ttl_ms // HOUR_MS)
    said = "eine Stunde" if hours == 1 else f"{hours} Stunden"
    return said if ttl_ms % HOUR_MS == 0 else f"höchstens {said}"


def _english_duration(ttl_ms: int) -> str:
    if ttl_ms % DAY_MS == 0:
        return "one day" if ttl_ms == DAY_MS else f"{ttl_ms // DAY_MS} days"
    hours = -(-ttl_ms // HOUR_MS)
    said = "one hour" if hours == 1 else f"{hours} hours"
    return said if ttl_ms % HOUR_MS == 0 else f"at most {said}"
