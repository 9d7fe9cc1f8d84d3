"""The worked examples of docs/protocol, against the real gateway and the real merge."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest

from state.log import merge
from state.log.merge import Change
from state.log.stamps import NS_PER_US, parse_instant
from tests.integration.support import Json
from tests.owners import House
from tests.sync_parts import EPOCH, SyncDevice

pytestmark = pytest.mark.one_postgres
PAGES = Path(__file__).parents[2] / "docs/protocol"
EXAMPLES = {path.stem: json.loads(path.read_text("utf-8")) for path in PAGES.rglob("*.json")}
SPOKEN = [name for name, example in EXAMPLES.items() if "steps" in example]
CASES = [case for example in EXAMPLES.values() for case in example.get("cases", ())]
ROWS = (
    "SELECT id::text, created_at, op, data, field_meta, user_id FROM public.sync_changes"
    " WHERE user_id = $1 AND app_id = $2 AND table_name = $3 AND record_id = $4"
    " ORDER BY created_at, id"
)


def differs(wanted: Any, found: Any, at: str = "answer") -> list[str]:
    """Where an answer is not as the example has it; `"*"` is anything, objects may hold more."""
    if wanted == "*":
        return []
    if isinstance(wanted, dict) and isinstance(found, dict):
        here, there = cast("Json", wanted), cast("Json", found)
        return [
            fault
            for name, value in here.items()
            for fault in (
                differs(value, there[name], f"{at}.{name}")
                if name in there
                else [f"{at}.{name} is missing"]
            )
        ]
    if isinstance(wanted, list) and isinstance(found, list):
        these, those = cast("list[Any]", wanted), cast("list[Any]", found)
        if len(these) != len(those):
            return [f"{at} has {len(those)} entries, not {len(these)}"]
        pairs = enumerate(zip(these, those, strict=True))
        return [fault for n, pair in pairs for fault in differs(*pair, f"{at}[{n}]")]
    return [] if wanted == found else [f"{at} is {found!r}, not {wanted!r}"]


def changes_of(rows: list[Json]) -> list[Change]:
    return [
        merge.read_change(
            row["id"],
            row["created_at"],
            row["op"],
            row["data"],
            row["field_meta"],
            user_id=row.get("user_id", "u1"),
        )
        for row in rows
    ]


@pytest.mark.parametrize("name", SPOKEN)
async def test_a_conversation_goes_as_written(house: House, name: str):
    example = EXAMPLES[name]
    reached: dict[tuple[str, str], str] = {}
    for number, step in enumerate(example["steps"]):
        who = step["as"], step["client"]
        since = reached.get(who, EPOCH) if step.get("since", "<last>") == "<last>" else EPOCH
        device = SyncDevice(house, *who)
        if step["do"] == "push":
            body = {**step["body"], "since": since}
            answered = await house.client.post(
                f"/sync/{step['app']}", json=body, headers=device.headers
            )
        else:
            answered = await house.client.get(
                f"/sync/{step['app']}/pull",
                params={"collection": step["collection"], "since": since},
                headers=device.headers,
            )
        assert answered.status_code == step["status"], (number, answered.text)
        if "text" in step:
            assert answered.text == step["text"], number
        if answered.status_code == 200:
            told = answered.json()
            assert differs(step.get("answer", {}), told) == [], number
            reached[who] = told["syncedUntil"]
    for wanted in example.get("records", ()):
        place = wanted["as"], wanted["app"], wanted["table"], wanted["id"]
        rows = [dict(row.items()) for row in await house.sql(ROWS, *place)]
        epoch = datetime(1970, 1, 1, tzinfo=UTC)
        for row in rows:
            row["created_at"] = (row["created_at"] - epoch) // timedelta(microseconds=1)
        record = merge.fold(None, changes_of(rows))
        assert (record.fields, record.stamps) == (wanted["fields"], wanted["stamps"])


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_rows_make_the_record_that_is_written(case: Json):
    rows: list[Json] = []
    for row in case["rows"]:
        at = parse_instant(row["created_at"])
        assert at is not None
        texts = {name: json.dumps(row[name]) for name in ("data", "field_meta")}
        rows.append({**row, **texts, "created_at": at // NS_PER_US})
    record = merge.fold(None, changes_of(rows))
    assert (record.fields, record.stamps) == (case["record"], case["stamps"])
    assert merge.hidden(record) == case["hidden"]


def test_every_example_is_run():
    assert len(SPOKEN) >= 6
    assert len(SPOKEN) + 1 == len(EXAMPLES)
    assert len(CASES) >= 10
