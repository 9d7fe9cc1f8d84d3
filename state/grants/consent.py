"""What a grant would allow, in the words its owner agrees to."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Literal

import msgspec

from state.log.stamps import format_instant, instant_of
from state.rules.exposure import Exposure, lower_of

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


class GrantAsked(msgspec.Struct, frozen=True, kw_only=True):
    """A grant that somebody thinks about giving.

    `exposure` is what they would consent to, None where the grant names none. `deployment` is the
    most that this server uses. `key_id` names the key that output is sealed for, None without one.
    """

    tables: Sequence[str]
    records: int
    ends_at: datetime
    ttl_ms: int
    exposure: Exposure | None
    deployment: Exposure
    key_id: str | None


class ConsentText(msgspec.Struct, frozen=True, rename="camel"):
    """The sentences, and the facts in them that a program may want."""

    lines: list[str]
    exposure: Exposure
    derived_text: Literal["sealed", "plain"]
    expires_at: str


def consent_text(asked: GrantAsked) -> ConsentText:
    """What the grant allows; `exposure` is never beyond the server's own."""
    wanted = asked.exposure or asked.deployment
    used = lower_of(wanted, asked.deployment)
    tables = ", ".join(_NAMES.get(table, table) for table in asked.tables)
    if asked.records == 1:
        what = f"einen verschlüsselten Eintrag ({tables}) lesen, und nur diesen"
    else:
        what = f"{asked.records} verschlüsselte Einträge ({tables}) lesen, und nur diese"
    until = asked.ends_at.strftime("%d.%m.%Y, %H:%M Uhr (UTC)")
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
    kept: Literal["sealed", "plain"] = "plain" if asked.key_id is None else "sealed"
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
    return ConsentText(lines, used, kept, format_instant(instant_of(asked.ends_at)))


def _duration(ttl_ms: int) -> str:
    if ttl_ms % DAY_MS == 0:
        return "einen Tag" if ttl_ms == DAY_MS else f"{ttl_ms // DAY_MS} Tage"
    hours = -(-ttl_ms // HOUR_MS)
    said = "eine Stunde" if hours == 1 else f"{hours} Stunden"
    return said if ttl_ms % HOUR_MS == 0 else f"höchstens {said}"
