"""People who sign in here: real HTTP, a real database, no other auth service."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.owners import House, open_house
from tests.postgres import Database

pytestmark = pytest.mark.one_postgres

NO_SERVICE: dict[str, Any] = {"auth_url": None}


@pytest.fixture
async def house(database: Database, tmp_path: Path) -> AsyncIterator[House]:
    async with open_house(database, tmp_path, **NO_SERVICE) as opened:
        await added(opened, "anna")
        yield opened


async def added(house: House, user: str) -> None:
    answer = await house.operator("POST", "/people", {"user": user})
    assert answer.status_code == 201, answer.text


async def asked(house: House, token: str, path: str = "/api/v1/me") -> httpx2.Response:
    return await house.client.get(path, headers={"Authorization": f"Bearer {token}"})


async def operators_token(house: House, user: str = "anna") -> str:
    answer = await house.operator("POST", f"/people/{user}/token")
    assert answer.status_code == 201, answer.text
    return answer.json()["accessToken"]


async def personal_token(house: House, *scopes: str, user: str = "anna") -> str:
    body = {"name": "laptop", "scopes": scopes}
    answer = await house.operator("POST", f"/people/{user}/tokens", body)
    assert answer.status_code == 201, answer.text
    return answer.json()["token"]


async def test_an_operator_acts_in_a_persons_place_and_leaves_a_row(house: House):
    answer = await asked(house, await operators_token(house))
    assert answer.status_code == 200
    assert answer.json() == {
        "user": "anna",
        "displayName": "anna",
        "scopes": ["read", "write", "approve", "account"],
        "spaces": [],
        "signedInBy": "operator",
        "timeZone": house.settings.agent.time_zone,
        "zoneIsOwn": False,
    }
    rows = await house.sql("SELECT action, done_by FROM mana_ai.people_trail ORDER BY id")
    assert [tuple(row) for row in rows] == [("added", "operator"), ("operator-acts", "operator")]


async def test_an_operator_never_gets_at_what_opens_encrypted_records(house: House):
    path = "/api/v1/me/encryption-vault/key"
    answer = await asked(house, await operators_token(house), path)
    assert (answer.status_code, answer.json()["scope"]) == (403, "keys")


async def test_nobody_acts_for_somebody_who_is_not_there(house: House):
    for user in ("bert", "an%20na", "x" * 200):
        answer = await house.operator("POST", f"/people/{user}/token")
        assert answer.status_code == 404


async def test_a_personal_token_may_do_what_it_lists_and_nothing_else(house: House):
    token = await personal_token(house, "read")
    assert (await asked(house, token)).json()["scopes"] == ["read"]
    answer = await house.client.post(
        "/api/v1/me/ai-mission-grant/consent", headers={"Authorization": f"Bearer {token}"}
    )
    assert answer.status_code == 403
    assert answer.json() == {
        "error": "this needs the scope keys, which your token does not have",
        "code": "SCOPE_LACKING",
        "scope": "keys",
    }


async def test_of_what_lets_somebody_in_only_the_hash_is_stored(house: House):
    token = await personal_token(house, "read")
    link = (await house.operator("POST", "/people/anna/link")).json()["link"]
    for table in ("people", "sign_in_links", "sign_ins", "personal_tokens", "people_trail"):
        rows = await house.sql(f"SELECT t::text AS row FROM mana_ai.{table} AS t")
        assert not [row for row in rows if token in row["row"] or link in row["row"]]


async def test_who_was_removed_gets_in_by_nothing(house: House):
    tokens = [await operators_token(house), await personal_token(house, "read")]
    for token in tokens:
        assert (await asked(house, token)).status_code == 200
    assert (await house.operator("DELETE", "/people/anna")).status_code == 200
    for token in tokens:
        assert (await asked(house, token)).status_code == 401


async def test_a_person_reads_what_was_done_about_them_page_by_page(house: House):
    await added(house, "bert")
    token = await operators_token(house)
    await personal_token(house, "read")
    path, seen = "/api/v1/me/trail?limit=1", list[str]()
    while path:
        told = (await asked(house, token, path)).json()
        seen += [f"{row['action']} by {row['by']}" for row in told["items"]]
        path = f"/api/v1/me/trail?limit=1&after={told['after']}" if told["after"] else ""
    assert seen == ["token-made by operator", "operator-acts by operator", "added by operator"]
    told = (await house.operator("GET", "/people/anna/trail")).json()
    assert [row["action"] for row in told["items"]] == ["token-made", "operator-acts", "added"]


async def test_who_sets_a_zone_moves_what_runs_by_the_clock_and_nothing_else(house: House):
    token = await operators_token(house)

    async def sent(verb: str, path: str, body: dict[str, Any]) -> httpx2.Response:
        headers = {"Authorization": f"Bearer {token}"}
        return await house.client.request(verb, path, json=body, headers=headers)

    async def next_run(mission: str) -> str:
        return (await asked(house, token, f"{missions}/{mission}")).json()["nextRunAt"]

    missions = "/api/v1/me/missions"
    made = {
        every: (await sent("POST", missions, {"title": every, "every": every})).json()["id"]
        for every in ("daily 07:00", "30 minutes")
    }
    before = {every: await next_run(id_) for every, id_ in made.items()}
    answer = await sent("PATCH", "/api/v1/me", {"timeZone": "Asia/Kolkata"})
    assert (answer.status_code, answer.json()["timeZone"]) == (200, "Asia/Kolkata")
    assert (await next_run(made["daily 07:00"]))[11:16] == "01:30", "seven there"
    assert await next_run(made["30 minutes"]) == before["30 minutes"]
    answer = await sent("PATCH", "/api/v1/me", {"timeZone": "Asia/Kolkatta"})
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "timeZone")
    assert "did you mean Asia/Kolkata?" in answer.text
    answer = await sent("PATCH", "/api/v1/me", {"timeZone": None})
    assert (answer.json()["zoneIsOwn"], await next_run(made["daily 07:00"])) == (
        False,
        before["daily 07:00"],
    )
