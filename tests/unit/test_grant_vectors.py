"""The golden cases of grants and sealed values, and an example of each override."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from tests.vectors.__main__ import load, run
from tests.vectors.overrides import OVERRIDES
from tests.vectors.suites import SUITES

FOLDER = Path(__file__).parents[1] / "vectors"
KEY = bytes(range(32))
ROW = {"op": "insert", "field_meta": None, "created_at": "2026-04-15T10:00:00.000Z"}


def case(suite: str, name: str) -> dict[str, Any]:
    return next(one["input"] for one in load(FOLDER / f"{suite}.json") if one["name"] == name)


def unwrap(**fields: Any) -> dict[str, Any]:
    given = case("grant", "unwrap: ok")
    return given | {"grant": given["grant"] | fields}


def minting(**fields: Any) -> dict[str, Any]:
    given = case("grant", "mint: default lifetime, scope gets sorted")
    return given | {"body": given["body"] | fields}


def resolving(data: dict[str, Any]) -> dict[str, Any]:
    return {
        "fn": "resolve",
        "module": "notes",
        "ref": {"module": "notes", "table": "notes", "id": "n1"},
        "grant": {"keyHex": KEY.hex(), "recordIds": ["notes:n1"]},
        "rows": [ROW | {"data": data}],
    }


def wire(plain: bytes) -> str:
    parts = bytes(12), AESGCM(KEY).encrypt(bytes(12), plain, None)
    return "enc:1:" + ".".join(base64.b64encode(part).decode() for part in parts)


BAD_UTF8 = wire(b'"a\xff"')
EXAMPLES: list[tuple[str, str, dict[str, Any]]] = [
    ("grant", "grant-claims", unwrap(expiresAt="2030-01-01T00:00:00.000Z")),
    ("grant", "grant-claims", unwrap(issuedAt="2026-04-21T00:00:00.000Z")),
    ("grant", "grant-claims", unwrap(issuedAt=None)),
    ("grant", "grant-claims", unwrap(wrappedKey=None)),
    ("grant", "grant-claims", unwrap(derivation={"version": "v3", "missionId": "mission-abc",
                                                 "tables": ["a"], "recordIds": ["a:b"]})),
    ("grant", "grant-claims", unwrap(derivation={"version": "v1", "missionId": "mission-abc",
                                                 "tables": None, "recordIds": ["a:b"]})),
    ("grant", "scope-validated", minting(recordIds=["notes:a,notes:b"])),
    ("grant", "scope-validated", minting(recordIds=["events:e1"])),
    ("grant", "scope-validated", minting(recordIds=["notes"])),
    ("grant", "scope-validated", minting(tables=["no:tes"], recordIds=["no:tes:1"])),
    ("grant", "scope-deduplicated", minting(recordIds=["notes:n1", "tasks:t1", "notes:n1"])),
    ("aesgcm", "bad-utf8", {"fn": "value", "keyHex": KEY.hex(), "value": BAD_UTF8}),
    ("aesgcm", "bad-utf8", {"fn": "record", "keyHex": KEY.hex(), "record": {"title": BAD_UTF8}}),
    ("aesgcm", "bad-utf8", resolving({"content": BAD_UTF8})),
    ("aesgcm", "audit-ciphertext-only", resolving({"title": "T", "content": "offen"})),
]  # fmt: skip


@pytest.mark.parametrize("suite", ["grant", "aesgcm"])
def test_every_golden_case_passes_or_is_overridden_by_a_rule(suite: str):
    results = run(suite, FOLDER / f"{suite}.json")
    assert [(name, found.difference) for name, found in results if found.status == "failed"] == []
    assert len(results) == {"grant": 77, "aesgcm": 70}[suite]


@pytest.mark.parametrize(("suite", "name", "given"), EXAMPLES)
def test_each_override_fits_its_example_and_we_give_its_value(
    suite: str, name: str, given: dict[str, Any]
):
    matching = [one for one in OVERRIDES[suite] if one.applies(given)]
    assert [one.name for one in matching] == [name]
    outcome = SUITES[suite]({"name": name, "input": given, "expected": matching[0].value(given)})
    assert outcome.status == "passed", outcome.difference


def test_every_override_has_an_example():
    known = {(suite, one.name) for suite in ("grant", "aesgcm") for one in OVERRIDES[suite]}
    assert known == {(suite, name) for suite, name, _ in EXAMPLES}
