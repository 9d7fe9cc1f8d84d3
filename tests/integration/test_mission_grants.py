"""Minting over real HTTP: every status in its order, and what the key holder then opens."""

import asyncio
import base64
import copy
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx2
import pytest
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from state.grants.grant import (
    Derivation,
    Grantee,
    GrantFault,
    OpenedGrant,
    Trust,
    derived_key,
    opened_grant,
)
from state.log.stamps import NS_PER_MS, parse_instant
from state.sealing import key_pairs
from state.store.owner import OwnerView
from supervisor.custody.key_folder import KINDS, add_key, key_folder
from supervisor.gateway.people.rate import Pacing
from supervisor.node.settings import SettingsError
from tests.gateway_parts import KEY
from tests.integration.support import open_world
from tests.owners import RUNNER, SIGNING, House, open_house
from tests.postgres import Database

pytestmark = pytest.mark.one_postgres

PATH = "/api/v1/me/ai-mission-grant"
WANTED: dict[str, Any] = {
    "missionId": "m-1",
    "tables": ["tasks", "notes"],
    "recordIds": ["tasks:t-1", "notes:n-1"],
}
TRUST = Trust((RUNNER,), {key_pairs.issuer_key_id(SIGNING.public_key()): SIGNING.public_key()})
DAY_MS = 86_400_000


@pytest.fixture
async def house(database: Database, tmp_path: Path) -> AsyncIterator[House]:
    async with open_house(database, tmp_path) as opened:
        await opened.mission()
        yield opened


async def _asked(house: House, user: str = "u1", **changed: Any) -> httpx2.Response:
    body = {name: value for name, value in {**WANTED, **changed}.items() if value is not ...}
    return await house.desk(user).ask("POST", PATH, json=body)


async def _minted(house: House, **changed: Any) -> dict[str, Any]:
    answered = await _asked(house, **changed)
    assert answered.status_code == 200, answered.text
    return answered.json()


def _opened(grant: object, user: str = "u1", mission: str = "m-1") -> OpenedGrant | GrantFault:
    return opened_grant(grant, Grantee(user, mission), TRUST, time.time_ns())


async def test_the_key_holder_opens_a_minted_grant_to_the_derived_key(house: House):
    master = await house.desk().key()
    grant = await _minted(house)
    opened = _opened(grant)
    assert isinstance(opened, OpenedGrant)
    derivation = Derivation("v2", "m-1", ["notes", "tasks"], ["notes:n-1", "tasks:t-1"], "u1")
    with opened.key as key, derived_key(master, "u1", derivation) as expected:
        assert key.material == expected.material
    assert (opened.scope.tables, opened.scope.record_ids, opened.exposure) == (
        ("notes", "tasks"),
        ("notes:n-1", "tasks:t-1"),
        "local",
    )
    assert base64.b64encode(master).decode() not in repr(grant)
    assert (await house.trail())[-1] == ("fetch", 200, "ai-mission-grant mission=m-1")


async def test_renewing_gives_the_same_key_in_another_wrap(house: House):
    await house.desk().key()
    one, two = await _minted(house), await _minted(house)
    assert one["wrappedKey"] != two["wrappedKey"]
    keys = [
        opened.key.material
        for grant in (one, two)
        if isinstance(opened := _opened(grant), OpenedGrant)
    ]
    assert keys[0] == keys[1]


@pytest.mark.parametrize(
    "part", ["expiresAt", "issuedAt", "exposure", "tables", "recordIds", "userId"]
)
async def test_a_grant_edited_by_its_holder_opens_nothing(house: House, part: str):
    await house.desk().key()
    grant = await _minted(house)
    edited = copy.deepcopy(grant)
    values = {
        "expiresAt": grant["expiresAt"].replace("20", "21", 1),
        "issuedAt": grant["issuedAt"].replace("Z", "1Z"),
        "exposure": "any",
        "tables": ["notes", "tasks", "events"],
        "recordIds": ["notes:n-1", "notes:n-2", "tasks:t-1"],
        "userId": "u2",
    }
    (edited if part in edited else edited["derivation"])[part] = values[part]
    assert isinstance(_opened(edited), GrantFault)
    assert isinstance(_opened(grant, user="u2"), GrantFault)
    assert isinstance(_opened(grant, mission="m-2"), GrantFault)


LIFETIMES: list[tuple[Any, int]] = [
    (..., 7 * DAY_MS),
    ("1", 7 * DAY_MS),
    (True, 7 * DAY_MS),
    (None, 7 * DAY_MS),
    (-5, 3_600_000),
    (0, 3_600_000),
    (10**30, 30 * DAY_MS),
    (1e300, 30 * DAY_MS),
    (2 * DAY_MS, 2 * DAY_MS),
]


async def test_a_lifetime_is_seven_days_or_clamped(house: House):
    await house.desk().key()
    for ttl, ms in LIFETIMES:
        grant = await _minted(house, ttlMs=ttl)
        issued, expires = parse_instant(grant["issuedAt"]), parse_instant(grant["expiresAt"])
        assert issued is not None
        assert expires == issued + ms * NS_PER_MS, ttl


NOBODY_MAY: list[dict[str, Any]] = [
    {"missionId": ...},
    {"missionId": ""},
    {"missionId": 7},
    {"missionId": "a\0b"},
    {"missionId": "m" * 513},
    {"tables": ...},
    {"tables": "notes"},
    {"tables": [1]},
    {"tables": []},
    {"tables": ["no tes"], "recordIds": ["no tes:1"]},
    {"recordIds": ...},
    {"recordIds": [None]},
    {"recordIds": []},
    {"recordIds": ["n-1"]},
    {"recordIds": ["notes:"]},
    {"recordIds": [":n-1"]},
    {"recordIds": ["events:e-1"]},
    {"recordIds": ["notes:a,notes:b"]},
    {"recordIds": [f"notes:{n}" for n in range(1001)]},
    {"exposure": "everywhere"},
    {"exposure": None},
    {"exposure": ["any"]},
]


async def test_a_scope_that_nobody_may_grant_is_400(house: House):
    await house.desk().key()
    for changed in NOBODY_MAY:
        answered = await _asked(house, **changed)
        assert (answered.status_code, answered.json()["code"]) == (400, "BAD_REQUEST"), changed
    assert [row[0] for row in await house.trail()] == ["init"]


async def test_the_cap_of_a_scope_is_named_and_a_thousand_records_fit(house: House):
    await house.desk().key()
    answered = await _asked(house, recordIds=[f"notes:{n}" for n in range(1001)])
    assert "1000" in answered.json()["error"]
    ids = [f"notes:00000000-0000-4000-8000-{n:012}" for n in range(1000)]
    opened = _opened(await _minted(house, recordIds=ids))
    assert isinstance(opened, OpenedGrant)
    assert len(opened.scope.record_ids) == 1000


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff"])
async def test_a_body_that_is_no_object_is_400(house: House, body: bytes):
    answered = await house.desk().ask("POST", PATH, content=body)
    assert (answered.status_code, answered.json()["code"]) == (400, "BAD_REQUEST")


async def test_an_exposure_is_consented_to_and_signed(house: House):
    await house.desk().key()
    for exposure in ("local", "eu", "any"):
        opened = _opened(await _minted(house, exposure=exposure))
        assert isinstance(opened, OpenedGrant)
        assert opened.exposure == exposure


async def test_without_a_token_nothing_else_is_looked_at(house: House):
    for headers in ({}, {"Authorization": "Bearer x"}):
        answered = await house.client.post(PATH, content=b"{", headers=headers)
        assert answered.status_code == 401
        assert answered.json()["statusCode"] == 401


async def test_without_a_vault_404_and_in_zero_knowledge_409(house: House):
    answered = await _asked(house)
    assert (answered.status_code, answered.json()["code"]) == (404, "VAULT_NOT_INITIALISED")
    desk = house.desk()
    await desk.key()
    await desk.vault("POST", "recovery-wrap", {"recoveryWrappedMk": "AAAA", "recoveryIv": "BBBB"})
    await desk.vault("POST", "zero-knowledge", {"enable": True})
    answered = await _asked(house, missionId="not-mine")
    assert (answered.status_code, answered.json()["code"]) == (409, "ZK_ACTIVE")
    purpose = "ai-mission-grant mission=not-mine ZK_ACTIVE"
    assert (await house.trail())[-1] == ("failed_fetch", 409, purpose)


async def test_a_mission_must_exist_and_be_the_callers_and_not_deleted(house: House):
    await house.desk().key()
    await house.mission("u2", "theirs")
    await house.mission("u1", "deleted", hidden=True)
    await house.mission("u1", "fragment", complete=False)
    for mission in ("nowhere", "theirs", "deleted", "fragment"):
        answered = await _asked(house, missionId=mission)
        assert (answered.status_code, answered.json()["code"]) == (404, "MISSION_NOT_FOUND")
    assert {row[:2] for row in (await house.trail())[1:]} == {("failed_fetch", 404)}


async def test_a_mission_pushed_just_now_is_waited_for(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    looked, look = asyncio.Event(), OwnerView.has_mission

    async def seen(self: OwnerView, user: str, mission: str) -> bool:
        found = await look(self, user, mission)
        looked.set()
        return found

    monkeypatch.setattr(OwnerView, "has_mission", seen)
    async with open_house(database, tmp_path) as house, open_world(database) as world:
        await house.desk().key()
        await (await world.client()).mission("m-1")
        pending = asyncio.create_task(house.desk().ask("POST", PATH, json=WANTED))
        await asyncio.wait_for(looked.wait(), 10)
        await world.store.fold(limit=100)
        assert (await pending).status_code == 200


@pytest.mark.parametrize(
    "missing",
    [
        {"ai_public_key_file": None},
        {"grant_signing_key_file": None},
        {"kek_file": None},
        {"grant_issuer": False},
    ],
    ids=range(4),
)
async def test_without_any_of_its_keys_or_switched_off_it_mints_nothing(
    database: Database, tmp_path: Path, missing: dict[str, Any]
):
    async with open_house(database, tmp_path, **missing) as house:
        no_tables: dict[str, Any] = {**WANTED, "tables": []}
        for body, status in (({}, 400), (no_tables, 503), (WANTED, 503)):
            answered = await house.desk().ask("POST", PATH, json=body)
            assert answered.status_code == status
        assert answered.json()["code"] == "GRANT_NOT_CONFIGURED"


async def test_the_keys_that_mana_keys_made_mint_where_no_others_are_named(
    database: Database, tmp_path: Path
):
    keys = tmp_path / "keys"
    for day in (1, 2):
        for kind in KINDS:
            add_key(keys, kind, datetime(2026, 1, day, tzinfo=UTC))
    made = key_folder(keys)
    private = tuple(key_pairs.runner_private_key(path.read_text()) for path in made.runner_private)
    issuer = key_pairs.issuer_public_key(made.issuer_public[0].read_text())
    trust = Trust(private[:1], {key_pairs.issuer_key_id(issuer): issuer})
    unnamed = {"ai_public_key_file": None, "grant_signing_key_file": None}
    async with open_house(database, tmp_path, keys_dir=str(keys), **unnamed) as house:
        await house.desk().key()
        await house.mission()
        grant = await _minted(house)
    opened = opened_grant(grant, Grantee("u1", "m-1"), trust, time.time_ns())
    assert isinstance(opened, OpenedGrant)


async def test_the_runners_public_key_is_told_to_services(database: Database, tmp_path: Path):
    path = "/internal/ai-runner-pubkey"
    async with open_house(database, tmp_path, grant_issuer=False) as house:
        assert (await house.client.get(path)).status_code == 401
        told = (await house.client.get(path, headers={"X-Service-Key": KEY})).json()
    assert load_pem_public_key(told["publicKeyPem"].encode()) == RUNNER.public_key()
    assert told["issuerPublicKeyPem"] is None
    folder = tmp_path / "minting"
    folder.mkdir()
    async with open_house(database, folder) as house:
        told = (await house.client.get(path, headers={"X-Service-Key": KEY})).json()
    assert load_pem_public_key(told["issuerPublicKeyPem"].encode()) == SIGNING.public_key()
    assert told["issuerKeyId"] == key_pairs.issuer_key_id(SIGNING.public_key())


async def test_one_person_asking_too_often_is_told_when_to_come_back(house: House):
    await house.desk("u1").key()
    await house.desk("u2").key()
    await house.mission("u2")
    answers = [await _asked(house) for _ in range(21)]
    assert {one.status_code for one in answers[:20]} == {200}
    told = answers[-1]
    assert (told.status_code, told.json()["code"]) == (429, "RATE_LIMITED")
    assert int(told.headers["retry-after"]) >= 1
    assert (await _asked(house, "u2")).status_code == 200


def test_pacing_gives_back_what_time_brings_and_forgets_the_longest_unseen():
    now = 0.0
    pacing = Pacing(burst=2, per_minute=60, clock=lambda: now)
    assert [pacing.wait_s("a") for _ in range(3)] == [0, 0, 1]
    now = 1.0
    assert [pacing.wait_s("a"), pacing.wait_s("a")] == [0, 1]
    for number in range(10_000):
        pacing.wait_s(str(number))
    assert [pacing.wait_s("a") for _ in range(3)] == [0, 0, 1]


@pytest.mark.parametrize(
    ("field", "content", "variable"),
    [
        ("kek_file", b"AAAA", "MANA_AUTH_KEK_FILE"),
        ("kek_file", base64.b64encode(bytes(32)), "MANA_AUTH_KEK_FILE"),
        ("kek_file", b"", "MANA_AUTH_KEK_FILE"),
        ("ai_public_key_file", b"no key", "MANA_AI_PUBLIC_KEY_FILE"),
        ("grant_signing_key_file", b"no key", "MANA_GRANT_SIGNING_KEY_FILE"),
    ],
)
async def test_a_wrong_key_file_stops_the_start_and_is_named(
    database: Database, tmp_path: Path, field: str, content: bytes, variable: str
):
    wrong = tmp_path / "wrong"
    wrong.write_bytes(content)
    with pytest.raises(SettingsError, match=f"^{variable}: ") as caught:
        async with open_house(database, tmp_path, **{field: str(wrong)}):
            pass
    assert "\n" not in str(caught.value)
