"""The key for derived text over real HTTP: each person's own, checked, changes on record."""

import base64
import json
from pathlib import Path
from typing import Any

import asyncpg
import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from mana_actors.client.owner.grants import MissionGrants
from mana_actors.client.owner.sealing import OwnerKeys
from state.sealing.key_pairs import key_id
from supervisor.gateway.people.rate import Pacing
from supervisor.node.settings import AGENT
from tests.owners import PAGE, House, open_house
from tests.postgres import Database

pytestmark = pytest.mark.one_postgres

PATH = "/api/v1/me/ai-derived-key"
CONSENT = "/api/v1/me/ai-mission-grant/consent"
WANTED: dict[str, Any] = {
    "missionId": "m-1",
    "tables": ["tasks", "notes"],
    "recordIds": ["tasks:t-1", "notes:n-1", "notes:n-1"],
    "exposure": "any",
}


def public(number: int = 1) -> bytes:
    return X25519PrivateKey.from_private_bytes(bytes([number] * 32)).public_key().public_bytes_raw()


def text(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


async def put(house: House, raw: Any, user: str = "u1") -> tuple[int, Any]:
    told = await house.desk(user).ask("PUT", PATH, json={"publicKey": raw})
    return told.status_code, told.json()


async def got(house: House, user: str = "u1") -> Any:
    told = await house.desk(user).ask("GET", PATH)
    assert told.status_code == 200, told.text
    return told.json()


async def test_a_registered_key_is_shown_to_its_owner_alone(house: House):
    assert await got(house) == {"keyId": None, "createdAt": None, "changes": []}
    status, told = await put(house, text(public()))
    assert (status, told["keyId"]) == (200, key_id(public()))
    seen = await got(house)
    assert (seen["keyId"], seen["createdAt"]) == (told["keyId"], told["createdAt"])
    assert (await got(house, "u2"))["changes"] == []
    (row,) = await house.sql("SELECT * FROM mana_ai.owner_keys")
    assert (row["user_id"], row["public_key"]) == ("u1", public())


async def test_each_change_leaves_a_trace_and_the_same_key_again_is_none(house: House):
    desk = house.desk()
    for number in (1, 1, 2):
        told = await desk.ask(
            "PUT", PATH, json={"publicKey": text(public(number))},
            headers={"X-Forwarded-For": "203.0.113.9", "User-Agent": "browser"},
        )  # fmt: skip
        assert told.status_code == 200
    for _ in range(2):
        assert (await desk.ask("DELETE", PATH)).json() == {"ok": True}
    one, two = key_id(public(1)), key_id(public(2))
    changes = (await got(house))["changes"]
    assert [(change["keyId"], change["action"]) for change in changes] == [
        (two, "removed"),
        (two, "registered"),
        (one, "registered"),
    ]
    assert (changes[-1]["address"], changes[-1]["userAgent"]) == ("203.0.113.9", "browser")
    assert (await got(house))["keyId"] is None


@pytest.mark.parametrize("raw", [None, 7, "", "x", text(bytes(32)), text(b"\xff" * 32)])
async def test_a_key_that_seals_nothing_is_refused_by_name(house: House, raw: Any):
    status, told = await put(house, raw)
    assert (status, told["code"]) == (400, "BAD_REQUEST")
    assert told["error"].startswith("publicKey")
    assert await house.sql("SELECT * FROM mana_ai.owner_keys") == []


async def test_a_stranger_changes_nothing(house: House):
    for verb in ("GET", "PUT", "DELETE"):
        assert (await house.client.request(verb, PATH)).status_code == 401


async def test_a_page_may_put_and_delete(house: House):
    asked = {"Origin": PAGE, "Access-Control-Request-Method": "PUT"}
    told = await house.client.request("OPTIONS", PATH, headers=asked)
    assert {"PUT", "DELETE"} <= set(told.headers["access-control-allow-methods"].split(", "))


async def test_keys_are_not_changed_without_end(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("supervisor.gateway.people.owners.Pacing", lambda: Pacing(2, 0.001))
    async with open_house(database, tmp_path) as house:
        statuses = [(await put(house, text(public(n))))[0] for n in (1, 2, 3)]
        assert statuses == [200, 200, 429]
        assert (await house.desk().ask("DELETE", PATH)).status_code == 429


async def test_the_gateway_writes_keys_through_its_functions_only(house: House):
    await put(house, text(public()))
    gateway = await house.database.connect("mana_gateway")
    try:
        for attempt in (
            "DELETE FROM mana_ai.owner_keys",
            "UPDATE mana_ai.owner_key_changes SET action = 'removed'",
            "DELETE FROM mana_ai.owner_key_changes",
        ):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await gateway.execute(attempt)
        assert await gateway.fetch("SELECT * FROM mana_ai.owner_keys") == []
        assert await gateway.fetch("SELECT * FROM mana_ai.owner_key_changes") == []
    finally:
        await gateway.close()


# --- the words of a consent -----------------------------------------------------------------------


async def told_of(house: House, user: str = "u1", **changed: Any) -> tuple[int, Any]:
    told = await house.desk(user).ask("POST", CONSENT, json=WANTED | changed)
    return told.status_code, told.json()


@pytest.mark.one_postgres
async def test_the_consent_is_about_that_grant_and_this_server(database: Database, tmp_path: Path):
    agent = msgspec.structs.replace(AGENT, exposure="eu")
    async with open_house(database, tmp_path, agent=agent) as house:
        await house.mission(record=json.dumps({"id": "m-1"}))
        status, told = await told_of(house)
        assert (status, told["exposure"], told["derivedText"]) == (200, "eu", "plain")
        said = "\n".join(told["lines"])
        assert "2 verschlüsselte Einträge (Notizen, Aufgaben)" in said
        assert "reicht weiter (any)" in said
        assert "kein Schlüssel" in said


@pytest.mark.one_postgres
async def test_the_consent_says_that_output_is_sealed_once_there_is_a_key(house: House):
    await house.mission()
    owner = MissionGrants(house.client, house.auth.token("u1"), OwnerKeys("u1", bytes(32)))
    key = await owner.register_key(public())
    told = await owner.consent_text("m-1", ["notes:n-1"])
    assert (told["derivedText"], told["exposure"]) == ("sealed", "local")
    assert key in told["lines"][-1]


@pytest.mark.one_postgres
async def test_a_consent_without_signature_names_the_servers_own_exposure(
    database: Database, tmp_path: Path
):
    async with open_house(database, tmp_path, grant_issuer=False) as house:
        await house.mission()
        assert (await told_of(house, exposure="local"))[1]["exposure"] == "any"


@pytest.mark.parametrize(
    ("changed", "status"),
    [
        ({"missionId": ""}, 400),
        ({"recordIds": ["notes"]}, 400),
        ({"exposure": "moon"}, 400),
        ({"missionId": "m-2"}, 404),
    ],
)
@pytest.mark.one_postgres
async def test_no_consent_is_worded_for_what_would_not_be_granted(
    house: House, changed: Any, status: int
):
    await house.mission()
    await house.mission("u2", "m-2")
    assert (await told_of(house, **changed))[0] == status
