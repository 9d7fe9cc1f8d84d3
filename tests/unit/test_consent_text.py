"""The words an owner agrees to are those of this very grant, and true of this server."""

from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from state.grants.consent import DAY_MS, HOUR_MS, ConsentText, GrantAsked, consent_text
from state.rules.exposure import Exposure

ENDS = datetime(2026, 11, 30, 9, 5, tzinfo=UTC)


def told(**changed: Any) -> ConsentText:
    known: dict[str, Any] = {
        "tables": ("notes", "tasks"),
        "records": 3,
        "ends_at": ENDS,
        "ttl_ms": 7 * DAY_MS,
        "exposure": "local",
        "deployment": "any",
        "key_id": None,
    }
    return consent_text(GrantAsked(**known | changed))


def whole(**changed: Any) -> str:
    return "\n".join(told(**changed).lines)


def test_the_end_is_said_on_its_owners_clock():
    assert "30.11.2026, 10:05 Uhr (Europe/Berlin)" in whole(zone=ZoneInfo("Europe/Berlin"))


def test_it_reads_like_this():
    scope, lifetime, logged, revocable, readers, output = told().lines
    assert scope == (
        "Diese Mission darf 3 verschlüsselte Einträge (Notizen, Aufgaben) lesen, und nur diese. "
        "Entschlüsselt wird auf dem Server, während sie läuft."
    )
    assert lifetime == (
        "Der Zugriff gilt 7 Tage ab der Erteilung, jetzt erteilt also bis 30.11.2026, 09:05 Uhr "
        "(UTC). Er verlängert sich nicht von selbst; danach musst du ihn neu erteilen."
    )
    assert logged == (
        "Jeder Zugriff wird protokolliert; du siehst ihn unter Workbench → Datenzugriff."
    )
    assert revocable == (
        "Du kannst den Zugriff jederzeit zurückziehen. Was ein Sprachmodell bis dahin gelesen hat, "
        "lässt sich nicht zurückholen."
    )
    assert readers == (
        "Den Text lesen nur Sprachmodelle, die der Betreiber selbst betreibt (local)."
    )
    assert output == (
        "Was daraus entsteht (Plan, Begründungen, Zusammenfassung), wird lesbar in deinem Konto "
        "gespeichert, weil dafür kein Schlüssel von dir registriert ist."
    )
    assert (told().exposure, told().derived_text) == ("local", "plain")
    assert told().expires_at == "2026-11-30T09:05:00.000Z"


def test_one_record_is_said_as_one_and_an_unknown_table_by_its_name():
    assert "einen verschlüsselten Eintrag (receipts) lesen" in whole(
        records=1, tables=("receipts",)
    )


@pytest.mark.parametrize(
    ("ttl_ms", "words"),
    [
        (DAY_MS, "einen Tag"),
        (30 * DAY_MS, "30 Tage"),
        (HOUR_MS, "eine Stunde"),
        (36 * HOUR_MS, "36 Stunden"),
        (36 * HOUR_MS + 1, "höchstens 37 Stunden"),
    ],
)
def test_it_says_how_long(ttl_ms: int, words: str):
    assert f"gilt {words} ab" in whole(ttl_ms=ttl_ms)


@pytest.mark.parametrize(
    ("wanted", "deployment", "used", "words"),
    [
        ("local", "any", "local", "der Betreiber selbst betreibt"),
        ("eu", "any", "eu", "in der EU lesen"),
        ("any", "any", "any", "auch außerhalb der EU"),
        ("any", "local", "local", "der Betreiber selbst betreibt"),
        ("any", "eu", "eu", "in der EU lesen"),
        (None, "eu", "eu", "in der EU lesen"),
    ],
)
def test_it_says_who_reads_the_text_and_never_more_than_this_server_uses(
    wanted: Exposure | None, deployment: Exposure, used: Exposure, words: str
):
    assert told(exposure=wanted, deployment=deployment).exposure == used
    assert words in whole(exposure=wanted, deployment=deployment)


def test_consent_that_reaches_further_than_the_server_now_says_so():
    assert "reicht weiter (any)" in whole(exposure="any", deployment="local")
    assert "reicht weiter" not in whole(exposure="local", deployment="any")


def test_with_a_key_it_says_that_output_is_sealed_for_it_and_what_is_not():
    said = told(key_id="eedd883da0a94515")
    assert said.derived_text == "sealed"
    assert "für deinen Schlüssel eedd883da0a94515 versiegelt" in said.lines[-1]
    assert "Lesbar bleiben" in said.lines[-1]
