"""The page on which people see every look at their records: their own rows, in order, whole."""

import base64
import json
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from supervisor.gateway.people.audit import limit_of
from tests.owners import PAGE, House

pytestmark = pytest.mark.one_postgres

PATH = "/api/v1/me/ai-audit"
ADD = """
INSERT INTO mana_ai.decrypt_audit
  (user_id, mission_id, iteration_id, table_name, record_id, status, reason, ts)
SELECT $1, $2, $3, 'notes', 'n-' || n, $4, $5,
       timestamptz '2026-04-26 10:00:00Z' + (n / 3) * interval '1 s'
  FROM generate_series(1, $6::int) AS n
"""


RELEASE = """
INSERT INTO mana_ai.key_releases
  (release_id, user_id, agent_id, mission_id, run_id, attempt, outcome, reason, record_ids, ts)
VALUES ($1, $2, 'a-1', 'm-1', $3, 1, $4, $5, $6, $7)
"""
TOLD = """
INSERT INTO mana_ai.decrypt_audit (user_id, mission_id, iteration_id, table_name, record_id, status,
                                   run_id, attempt, release_id, ts)
SELECT user_id, mission_id, 'i-1', 'notes', 'n-1', 'ok', run_id, attempt, release_id, ts
  FROM mana_ai.key_releases WHERE release_id = $1
"""


def _cursor_of(at: str, key: object) -> str:
    return base64.urlsafe_b64encode(json.dumps([at, key]).encode()).decode()


async def _page(house: House, user: str = "u1", **query: Any) -> dict[str, Any]:
    answered = await house.desk(user).ask("GET", PATH, params=query)
    assert answered.status_code == 200, answered.text
    return answered.json()


async def test_a_row_has_the_originals_shape(house: House):
    await house.sql(ADD, "u1", "m-1", None, "failed", "decrypt-failed", 1)
    (row,) = (await _page(house))["rows"]
    assert int(row["id"]) > 0
    original = {
        "missionId": "m-1",
        "iterationId": None,
        "tableName": "notes",
        "recordId": "n-1",
        "status": "failed",
        "reason": "decrypt-failed",
        "ts": "2026-04-26T10:00:00.000Z",
    }
    assert row | original == row


async def test_people_see_their_own_rows_and_one_mission_if_they_ask(house: House):
    for user, mission in (("u1", "m-1"), ("u1", "m-2"), ("u2", "m-1")):
        await house.sql(ADD, user, mission, None, "ok", None, 2)
    assert len((await _page(house))["rows"]) == 4
    rows = (await _page(house, missionId="m-2"))["rows"]
    assert [row["missionId"] for row in rows] == ["m-2", "m-2"]
    assert (await _page(house, "u3"))["rows"] == []
    assert len((await _page(house, missionId=""))["rows"]) == 4


async def _release(
    house: House, at: datetime, *, user: str = "u1", reason: str | None = None, told: bool = False
) -> str:
    release = uuid.uuid4()
    outcome = "refused" if reason else "released"
    records = [] if reason else ["notes:n-1", "notes:n-2"]
    await house.sql(RELEASE, release, user, uuid.uuid4(), outcome, reason, records, at)
    if told:
        await house.sql(TOLD, release)
    return str(release)


async def test_a_key_that_left_without_a_word_is_seen_and_so_is_a_refusal(house: House):
    now = datetime(2026, 4, 26, 10, tzinfo=UTC)
    told = await _release(house, now, told=True)
    silent = await _release(house, now + timedelta(seconds=1))
    refused = await _release(house, now + timedelta(seconds=2), reason="expired")
    await _release(house, now, user="u2")
    first, second, third = (await _page(house))["rows"]
    assert (first["id"], first["status"], first["reason"]) == (refused, "refused", "expired")
    assert (second["id"], second["status"]) == (silent, "released")
    assert second["reason"] == "no-outcome-recorded"
    assert (third["releaseId"], third["status"], third["recordId"]) == (told, "ok", "n-1")
    assert third["granted"] == second["granted"] == ["notes:n-1", "notes:n-2"]
    assert (third["agentId"], third["attempt"], third["iterationId"]) == ("a-1", 1, "i-1")
    assert len({row["runId"] for row in (first, second, third)}) == 3
    runs = await house.sql(
        "SELECT run_id FROM mana_ai.key_releases WHERE release_id::text = $1", told
    )
    assert third["runId"] == str(runs[0]["run_id"])
    assert third["releasedAt"] == "2026-04-26T10:00:00.000Z"


async def test_a_release_of_another_person_never_lends_its_facts(house: House):
    release = await _release(house, datetime(2026, 4, 26, 10, tzinfo=UTC), user="u2")
    await house.sql(ADD, "u1", "m-1", None, "ok", None, 1)
    await house.sql("UPDATE mana_ai.decrypt_audit SET release_id = $1", uuid.UUID(release))
    (row,) = (await _page(house))["rows"]
    assert (row["agentId"], row["granted"]) == (None, [])


async def test_pages_follow_each_other_without_gap_or_repeat(house: House):
    await house.sql(ADD, "u1", "m-1", None, "ok", None, 50)
    await house.sql(ADD, "u2", "m-1", None, "ok", None, 50)
    for n in range(20):
        at = datetime(2026, 4, 26, 10, 0, n // 2, tzinfo=UTC)
        await _release(house, at, reason="expired" if n % 3 else None, told=not n % 4)
    whole = (await _page(house))["rows"]
    seen: list[dict[str, Any]] = []
    page = await _page(house, limit=7)
    while True:
        seen += page["rows"]
        if page["before"] is None:
            break
        page = await _page(house, limit=7, before=page["before"])
    assert seen == whole
    assert len({row["id"] for row in seen}) == len(seen) == 70
    assert [row["ts"] for row in seen] == sorted((row["ts"] for row in seen), reverse=True)


@pytest.mark.parametrize(
    ("text", "limit"),
    [(None, 200), ("", 200), ("abc", 200), ("nan", 200), ("0", 1), ("-7", 1), ("1", 1),
     ("5.9", 5), ("1000", 1000), ("1001", 1000), ("1e9", 1000), ("inf", 1000)],
)  # fmt: skip
def test_a_limit_is_clamped_and_nonsense_is_the_default(text: str | None, limit: int):
    assert limit_of(text) == limit


@pytest.mark.parametrize(
    "query",
    [
        {"before": "x"},
        {"before": "W10="},
        {"before": _cursor_of("2026-01-01T00:00:00", "1")},  # without a zone
        {"before": _cursor_of("2026-01-01T00:00:00Z", "a\0b")},
        {"before": _cursor_of("2026-01-01T00:00:00Z", "\ud800")},
        {"before": _cursor_of("2026-01-01T00:00:00Z", "1" * 65)},
        {"before": _cursor_of("2026-01-01T00:00:00Z", 1)},
        {"missionId": "a\0b"},
        {"missionId": "m" * 513},
    ],
    ids=range(9),
)
async def test_a_wrong_cursor_or_filter_is_400(house: House, query: dict[str, str]):
    answered = await house.desk().ask("GET", PATH, params=query)
    assert answered.status_code == 400


async def test_no_switch_lets_anybody_in_without_a_token(
    house: House, monkeypatch: pytest.MonkeyPatch
):
    """The original had one for development."""
    for name, value in (("NODE_ENV", "development"), ("DEV_BYPASS_AUTH", "true"),
                        ("DEV_USER_ID", "u1")):  # fmt: skip
        monkeypatch.setenv(name, value)
    for path in (PATH, "/api/v1/me/ai-budget"):
        assert (await house.client.get(path)).status_code == 401


async def test_a_page_elsewhere_can_ask_and_read_the_refusal_too(house: House):
    asked = {"Origin": PAGE, "Access-Control-Request-Method": "GET"}
    told = await house.client.options(PATH, headers=asked)
    assert (told.status_code, told.headers["access-control-allow-origin"]) == (204, PAGE)
    refused = await house.client.get(PATH, headers={"Origin": PAGE})
    assert (refused.status_code, refused.text) == (401, "missing bearer token")
    assert refused.headers["content-type"].startswith("text/plain")
    assert refused.headers["access-control-allow-origin"] == PAGE


async def test_while_the_database_is_away_the_answer_is_503(house: House):
    await house.sql("ALTER ROLE mana_gateway NOLOGIN")
    try:
        answered = await house.desk().ask("GET", PATH)
    finally:
        await house.sql("ALTER ROLE mana_gateway LOGIN")
    assert answered.status_code == 503
