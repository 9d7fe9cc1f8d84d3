"""Only sealed records are taken, for a mission of one's own with a living grant."""

import json
from typing import Any

import pytest

from tests.integration.key_scene import DAY_S, minted
from tests.owners import House

pytestmark = pytest.mark.one_postgres

PATH = "/api/v1/me/ai-sealed-copies"
SEALED = "enc:1:AAECAwQFBgcICQoL.lQX/Q5vOjiOXfRD4KUAu2zaR"
COPY: dict[str, Any] = {"table": "notes", "id": "n1", "fields": {"id": "n1", "content": SEALED}}


async def asked(house: House, *copies: Any, user: str = "u1") -> tuple[int, Any]:
    body = {"missionId": "m-1", "copies": list(copies)}
    told = await house.desk(user).ask("PUT", PATH, json=body)
    return told.status_code, told.json().get("code")


async def granted(house: House, user: str = "u1", **minting: Any) -> None:
    grant = minted("m-1", user, **minting)
    await house.mission(user, record=json.dumps({"id": "m-1", "grant": grant}))


async def test_copies_are_kept_until_the_grant_ends(house: House):
    await granted(house)
    assert await asked(house, COPY) == (200, None)
    (row,) = await house.sql("SELECT *, expires_at - now() AS left FROM mana_ai.sealed_copies")
    assert (row["user_id"], row["mission_id"], row["record_id"]) == ("u1", "m-1", "n1")
    assert 6 < row["left"].total_seconds() / DAY_S < 7


@pytest.mark.parametrize(
    "copy",
    [
        {**COPY, "fields": {"content": SEALED, "title": "plain"}},
        {**COPY, "fields": {"id": "n1"}},
        {**COPY, "id": "a,b"},
        {**COPY, "table": "no table"},
        {**COPY, "source": "A" * 64},
        {**COPY, "source": "0" * 63},
        {"table": "notes"},
        "n1",
    ],
)
async def test_what_is_not_sealed_or_not_a_record_is_refused(house: House, copy: Any):
    await granted(house)
    assert await asked(house, copy) == (400, "BAD_REQUEST")
    assert await house.sql("SELECT * FROM mana_ai.sealed_copies") == []


async def test_a_copy_is_kept_with_what_it_was_made_of(house: House):
    await granted(house)
    assert await asked(house, {**COPY, "source": "0f" * 32}) == (200, None)
    assert await asked(house, {**COPY, "id": "n2"}) == (200, None)
    rows = await house.sql("SELECT source FROM mana_ai.sealed_copies ORDER BY record_id")
    assert [row["source"] for row in rows] == ["0f" * 32, None]


async def test_nobody_puts_copies_without_a_living_grant_of_their_own(house: House):
    await granted(house, "u2")
    assert await asked(house, COPY) == (409, "NO_GRANT")
    await house.mission("u1")
    assert await asked(house, COPY) == (409, "NO_GRANT")
    await house.sql("DELETE FROM mana_ai.mission_snapshots WHERE user_id = 'u1'")
    await granted(house, age_s=8 * DAY_S)
    assert await asked(house, COPY) == (409, "NO_GRANT")


async def test_a_stranger_is_refused(house: House):
    assert (await house.client.put(PATH, json={})).status_code == 401
