"""docs/security.md promises tests: each is there, under the name it gives."""

import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOC = (ROOT / "docs/security.md").read_text("utf-8")
NAMED = re.compile(r"`(?:tests/\w+/)?(test_\w+\.py)(?:::(test_\w+))?`")
REFUSED = DOC.partition("\n## Refused\n")[2].partition("\n## Outside\n")[0]
ROWS = [
    [cell.strip() for cell in line.strip("|").split(" | ")]
    for line in REFUSED.splitlines()
    if line.startswith("| ") and not line.startswith("| Attempt ")
]


@cache
def defined(file: str) -> set[str]:
    """Names of the tests in the files of this name, wherever they lie."""
    texts = [path.read_text("utf-8") for path in (ROOT / "tests").rglob(file)]
    return {name for text in texts for name in re.findall(r"(?m)^(?:async )?def (test_\w+)", text)}


@pytest.mark.parametrize(("file", "name"), sorted(set(NAMED.findall(DOC))))
def test_every_test_that_the_document_names_is_there(file: str, name: str) -> None:
    assert defined(file)
    assert not name or name in defined(file)


def test_every_attempt_says_what_refuses_it_and_which_test_shows_it() -> None:
    assert len(ROWS) > 40
    assert [row for row in ROWS if len(row) != 3 or not all(row)] == []
    assert [row[0] for row in ROWS if not NAMED.search(row[2])] == []


ATTACKS = {
    "other users' rows": "other users' rows in any table",
    "forged, swapped and expired": "forged, expired, swapped",
    "expiring inside a transaction": "ran out inside a transaction",
    "other grants": "grant of another mission",
    "revoked grants": "revoked grant is presented from the log",
    "LOCK TABLE": "`LOCK TABLE`",
    "ALTER ROLE": "`ALTER ROLE`",
    "session termination": "end or read sessions",
    "temporary tables": "temporary tables",
    "planted search_path": "plant a `search_path`",
    "audit deletion": "delete or change the audit",
    "COPY": "`COPY`",
    "sequences": "sequences",
    "the postgres login": "`postgres` login",
    "published methods": "bind a process a second time",
}


@pytest.mark.parametrize("words", ATTACKS.values(), ids=ATTACKS)
def test_every_kind_of_attack_is_in_the_tables(words: str) -> None:
    assert any(words in row[0] for row in ROWS)


def test_what_is_outside_begins_with_code_inside_ray() -> None:
    outside = DOC.partition("\n## Outside\n")[2]
    assert "**Code execution inside Ray" in outside[:200]
