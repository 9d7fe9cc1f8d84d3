"""Suite `prompt`: texts that prompts hold, the whole runs among them on a real Postgres."""

from pathlib import Path
from typing import Any

import pytest

from tests.vectors.__main__ import load
from tests.vectors.overrides import OVERRIDES
from tests.vectors.suites import SUITES
from tests.vectors.verdict import Case

pytestmark = pytest.mark.one_postgres

CASES = load(Path(__file__).parents[1] / "vectors" / "prompt.json")
AT = "2026-04-15T10:00:00.000Z"


def run(*notes: dict[str, Any], **mission: Any) -> dict[str, Any]:
    whole: dict[str, Any] = {
        "title": "Titel", "objective": "Ziel", "conceptMarkdown": "", "state": "active",
        "inputs": [], "nextRunAt": AT, "iterations": [], "cadence": {"kind": "manual"},
        "agentId": "a1",
    }  # fmt: skip
    agent = {"name": "NAME-Q", "role": "enc:1:ROLE", "state": "active", "memory": "enc:1:M"}
    records = ("aiMissions", "m1", whole | mission), ("agents", "a1", agent)
    rows = [
        {
            "app_id": "ai", "table_name": table, "record_id": id_, "user_id": "u1",
            "op": "insert", "data": data, "field_meta": {}, "created_at": AT,
        }
        for table, id_, data in records
    ]  # fmt: skip
    written = {**rows[0], "app_id": "notes", "table_name": "notes"}
    rows += [{**written, "record_id": note["id"], "data": note} for note in notes]
    return {"fn": "run", "rows": rows}


NEWS = {"feeds": [], "articles": [{"url": "https://a.example/1", "title": "T"}]}
LIKE_THEM = {
    "unreadable": run(objective="enc:1:AAAA.BBBB"),
    "identity": run(),
    "not-blind": run(
        {"id": "n1", "title": "enc:1:AAAA.BBBB"},
        grant={"wrappedKey": "x"},
        inputs=[{"module": "notes", "table": "notes", "id": "n1"}],
    ),
    "no-web-yet": run(objective="Finde Neues") | {"news": NEWS},
}


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_every_golden_prompt_passes_or_is_overridden_by_a_rule(case: Case):
    outcome = SUITES["prompt"](case)
    assert outcome.status in ("passed", "overridden"), outcome.difference


@pytest.mark.parametrize(("name", "given"), LIKE_THEM.items(), ids=LIKE_THEM)
def test_each_override_fits_an_input_like_theirs_and_we_give_its_value(
    name: str, given: dict[str, Any]
):
    override = next(one for one in OVERRIDES["prompt"] if one.name == name)
    assert override.applies(given)
    case = {"name": name, "input": given, "expected": override.value(given)}
    outcome = SUITES["prompt"](case)
    assert outcome.status == "passed", outcome.difference


def test_every_override_is_used():
    assert {one.name for one in OVERRIDES["prompt"]} == set(LIKE_THEM)
