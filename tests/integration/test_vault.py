"""The vault over real HTTP: every status, the trail it leaves, and who can see what."""

import asyncio
import base64
import itertools
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from state.grants.vault import (
    KekUnusable,
    MasterKeyNotOpened,
    Wrap,
    new_vault,
    read_kek,
    unwrapped,
    wrapped,
)
from state.sealing.values import DataKey
from tests.gateway_parts import KEY
from tests.integration.steps import session
from tests.owners import PAGE, VAULT, House, open_house
from tests.postgres import SUPERUSER, Database

pytestmark = pytest.mark.one_postgres

RECOVERY = {"recoveryWrappedMk": "AAAA", "recoveryIv": "BBBB"}
ROUTES = [
    ("GET", "status"),
    ("POST", "init"),
    ("GET", "key"),
    ("POST", "rotate"),
    ("POST", "recovery-wrap"),
    ("DELETE", "recovery-wrap"),
    ("POST", "zero-knowledge"),
]

OF_ANOTHER = """
INSERT INTO auth.encryption_vault_audit (id, user_id, action, status)
VALUES ('x', 'u2', 'fetch', 200)
"""


async def test_a_first_key_is_random_stays_and_is_stored_only_wrapped(house: House):
    one, two = house.desk("u1"), house.desk("u2")
    key = await one.key()
    assert len(key) == 32
    assert await one.key() == key != await two.key()
    status, told = await one.vault("GET", "key")
    assert (status, told) == (
        200,
        {"masterKey": base64.b64encode(key).decode(), "formatVersion": 1, "kekId": "env-v1"},
    )
    (row,) = await house.sql("SELECT * FROM auth.encryption_vaults WHERE user_id = 'u1'")
    assert len(base64.b64decode(row["wrap_iv"])) == 12
    assert len(base64.b64decode(row["wrapped_mk"])) == 48
    stored = repr([tuple(r) for r in await house.sql("SELECT * FROM mana_ai.vault_key_checks")])
    for text in (told["masterKey"], key.hex()):
        assert text not in repr(tuple(row)) + stored
    assert await house.trail() == [("init", 200, None), ("init", 200, None), ("fetch", 200, None)]


async def test_many_first_requests_at_once_give_one_key(house: House):
    desk = house.desk()
    keys = await asyncio.gather(*(desk.key() for _ in range(8)))
    assert len(set(keys)) == 1
    assert len(await house.sql("SELECT FROM auth.encryption_vaults")) == 1


async def test_without_a_vault_the_refusals_stand_in_the_trail(house: House):
    desk = house.desk()
    missing = (404, "VAULT_NOT_INITIALISED")
    for verb, route, body in (
        ("GET", "key", None),
        ("POST", "recovery-wrap", RECOVERY),
        ("DELETE", "recovery-wrap", None),
        ("POST", "zero-knowledge", {"enable": True}),
        ("POST", "zero-knowledge", {"enable": False, "masterKey": "A" * 43}),
    ):
        status, told = await desk.vault(verb, route, body)
        assert (status, told["code"]) == missing, route
    assert [row[:2] for row in await house.trail()] == [
        ("failed_fetch", 404),
        ("recovery_set", 404),
        ("recovery_clear", 404),
        ("zk_enable", 404),
        ("zk_disable", 404),
    ]


async def test_the_status_tells_what_there_is_and_leaves_no_row(house: House):
    desk = house.desk()
    nothing = {
        "vaultExists": False,
        "hasRecoveryWrap": False,
        "zeroKnowledge": False,
        "recoverySetAt": None,
    }
    assert await desk.vault("GET", "status") == (200, nothing)
    assert await house.trail() == []
    await desk.key()
    await desk.vault("POST", "recovery-wrap", RECOVERY)
    _, told = await desk.vault("GET", "status")
    assert told.pop("recoverySetAt").endswith("Z")
    assert told == {"vaultExists": True, "hasRecoveryWrap": True, "zeroKnowledge": False}
    assert len(await house.trail()) == 2


async def test_rotating_makes_another_key_and_drops_the_recovery_wrap(house: House):
    desk = house.desk()
    before = await desk.key()
    await desk.vault("POST", "recovery-wrap", RECOVERY)
    status, told = await desk.vault("POST", "rotate")
    assert (status, told["kekId"]) == (200, "env-v1")
    assert base64.b64decode(told["masterKey"]) == await desk.key() != before
    _, told = await desk.vault("GET", "status")
    assert told["hasRecoveryWrap"] is False


async def test_rotating_makes_a_first_vault(house: House):
    status, told = await house.desk().vault("POST", "rotate")
    assert status == 200
    assert base64.b64decode(told["masterKey"]) == await house.desk().key()


async def test_a_recovery_wrap_is_replaced_and_cleared(house: House):
    desk = house.desk()
    await desk.key()
    for wrap in (RECOVERY, RECOVERY | {"recoveryWrappedMk": "CCCC"}):
        assert await desk.vault("POST", "recovery-wrap", wrap) == (200, {"ok": True})
    (row,) = await house.sql("SELECT recovery_wrapped_mk, recovery_iv FROM auth.encryption_vaults")
    assert tuple(row) == ("CCCC", "BBBB")
    assert await desk.vault("DELETE", "recovery-wrap") == (200, {"ok": True})
    (row,) = await house.sql("SELECT recovery_wrapped_mk, recovery_iv FROM auth.encryption_vaults")
    assert tuple(row) == (None, None)


async def _in_zero_knowledge(house: House) -> bytes:
    desk = house.desk()
    key = await desk.key()
    await desk.vault("POST", "recovery-wrap", RECOVERY)
    told = await desk.vault("POST", "zero-knowledge", {"enable": True})
    assert told == (200, {"ok": True, "zeroKnowledge": True})
    return key


async def test_in_zero_knowledge_the_server_has_no_key_to_give_away(house: House):
    desk, _ = house.desk(), await _in_zero_knowledge(house)
    (row,) = await house.sql(
        "SELECT wrapped_mk, wrap_iv, zero_knowledge FROM auth.encryption_vaults"
    )
    assert tuple(row) == (None, None, True)
    wrap = {"requiresRecoveryCode": True, "formatVersion": 1, **RECOVERY}
    assert await desk.vault("GET", "key") == (200, wrap)
    assert await desk.vault("POST", "init") == (200, wrap)
    again = await desk.vault("POST", "zero-knowledge", {"enable": True})
    assert again == (200, {"ok": True, "zeroKnowledge": True})
    status, told = await desk.vault("POST", "rotate")
    assert (status, told["code"]) == (409, "ZK_ROTATE_FORBIDDEN")
    status, told = await desk.vault("DELETE", "recovery-wrap")
    assert (status, told["code"]) == (409, "ZK_ACTIVE")
    assert (await house.trail())[-2:] == [
        ("rotate", 409, "ZK_ROTATE_FORBIDDEN"),
        ("recovery_clear", 409, "ZK_ACTIVE"),
    ]


async def test_zero_knowledge_needs_a_recovery_wrap(house: House):
    desk = house.desk()
    key = await desk.key()
    status, told = await desk.vault("POST", "zero-knowledge", {"enable": True})
    assert (status, told["code"]) == (400, "RECOVERY_WRAP_MISSING")
    assert await desk.key() == key


async def test_leaving_zero_knowledge_takes_the_vaults_own_key_and_no_other(house: House):
    desk, key = house.desk(), await _in_zero_knowledge(house)
    other = base64.b64encode(bytes(32)).decode()
    status, told = await desk.vault("POST", "zero-knowledge", {"enable": False, "masterKey": other})
    assert (status, told["code"]) == (400, "BAD_REQUEST")
    mine = {"enable": False, "masterKey": base64.b64encode(key).decode()}
    left = (200, {"ok": True, "zeroKnowledge": False})
    assert await desk.vault("POST", "zero-knowledge", mine) == left
    assert await desk.vault("POST", "zero-knowledge", mine) == left
    assert await desk.key() == key
    assert ("zk_disable", 400, "BAD_REQUEST") in await house.trail()


async def test_a_key_that_nobody_wrote_a_check_for_is_believed(house: House):
    desk, _ = house.desk(), await _in_zero_knowledge(house)
    await house.sql("UPDATE auth.encryption_vaults SET rotated_at = clock_timestamp()")
    other = base64.b64encode(bytes(range(1, 33))).decode()
    status, _ = await desk.vault("POST", "zero-knowledge", {"enable": False, "masterKey": other})
    assert status == 200
    assert await desk.key() == bytes(range(1, 33))


WRONG: list[tuple[str, Any]] = [
    ("zero-knowledge", {}),
    ("zero-knowledge", {"enable": "yes"}),
    ("zero-knowledge", {"enable": 1}),
    ("zero-knowledge", {"enable": False}),
    ("zero-knowledge", {"enable": False, "masterKey": "%%%"}),
    ("zero-knowledge", {"enable": False, "masterKey": "QUJD"}),
    ("zero-knowledge", {"enable": False, "masterKey": 7}),
    ("recovery-wrap", {}),
    ("recovery-wrap", {"recoveryWrappedMk": "AAAA"}),
    ("recovery-wrap", {"recoveryWrappedMk": "", "recoveryIv": ""}),
    ("recovery-wrap", {"recoveryWrappedMk": "%%%", "recoveryIv": "BBBB"}),
    ("recovery-wrap", {"recoveryWrappedMk": "A" * 5000, "recoveryIv": "BBBB"}),
    ("recovery-wrap", ["AAAA", "BBBB"]),
]


async def test_a_wrong_body_is_400_and_changes_nothing(house: House):
    desk = house.desk()
    await desk.key()
    before = await house.sql("SELECT * FROM auth.encryption_vaults")
    for route, body in WRONG:
        status, told = await desk.vault("POST", route, body)
        assert (status, told["code"]) == (400, "BAD_REQUEST"), body
    assert await house.sql("SELECT * FROM auth.encryption_vaults") == before


@pytest.mark.parametrize("body", [b"{", b"", b"\xff", b"[]", b"{" * 600_000])
async def test_a_body_that_is_no_json_object_is_refused(house: House, body: bytes):
    answered = await house.desk().ask("POST", f"{VAULT}/recovery-wrap", content=body)
    assert (answered.status_code, answered.json()["code"]) == (400, "BAD_REQUEST")


@pytest.mark.parametrize("column", ["wrapped_mk", "wrap_iv", "kek_id"])
async def test_a_changed_wrap_or_another_kek_is_an_error_that_stands_in_the_trail(
    house: House, column: str
):
    desk = house.desk()
    await desk.key()
    await house.sql(
        f"UPDATE auth.encryption_vaults SET {column} = translate({column}, 'Aev', 'eAx') || 'A'"
    )
    status, told = await desk.vault("GET", "key")
    assert (status, told) == (500, {"statusCode": 500, "message": "internal error"})
    assert (await house.trail())[-1] == ("failed_fetch", 500, "MASTER_KEY_NOT_OPENED")


async def test_another_kek_opens_nothing(house: House, tmp_path: Path, database: Database):
    await house.desk().key()
    folder = tmp_path / "other"
    folder.mkdir()
    kek = folder / "kek"
    kek.write_bytes(base64.b64encode(bytes(31) + b"x"))
    async with open_house(database, folder, kek_file=str(kek)) as other:
        assert (await other.desk().vault("GET", "key"))[0] == 500


async def test_a_key_whose_row_cannot_be_written_never_leaves(house: House):
    desk = house.desk()
    await desk.key()
    await house.sql("REVOKE INSERT ON auth.encryption_vault_audit FROM mana_issuer")
    status, told = await desk.vault("GET", "key")
    assert (status, "masterKey" in told) == (500, False)


async def test_nobody_is_let_in_without_a_token(house: House):
    wrong: list[dict[str, str]] = [{}, {"Authorization": "Bearer x"}, {"X-Service-Key": KEY}]
    for (verb, route), headers in itertools.product(ROUTES, wrong):
        answered = await house.client.request(verb, f"{VAULT}/{route}", headers=headers)
        assert (answered.status_code, answered.json()["statusCode"]) == (401, 401), route
        assert answered.headers["www-authenticate"] == "Bearer"
    assert await house.sql("SELECT FROM auth.encryption_vault_audit") == []


async def test_the_trail_says_from_where(house: House):
    desk = house.desk()
    for headers in (
        {"X-Forwarded-For": "203.0.113.9, 10.0.0.1", "X-Real-IP": "10.0.0.2", "User-Agent": "A\tB"},
        {"X-Real-IP": "10.0.0.2", "User-Agent": "x" * 5000},
    ):
        await desk.ask("POST", f"{VAULT}/init", headers=headers)
    rows = await house.sql(
        "SELECT ip_address, user_agent FROM auth.encryption_vault_audit ORDER BY created_at"
    )
    assert [tuple(row) for row in rows] == [("203.0.113.9", "AB"), ("10.0.0.2", "x" * 256)]


async def test_without_an_auth_service_other_tokens_let_nobody_in(
    database: Database, tmp_path: Path
):
    nothing = dict.fromkeys(("auth_url", "kek_file", "grant_signing_key_file"))
    async with open_house(database, tmp_path, **nothing) as closed:
        for verb, route in ROUTES:
            status, told = await closed.desk().vault(verb, route)
            assert (status, told["message"]) == (401, "unknown signing key")


async def test_without_a_kek_there_are_no_vaults(database: Database, tmp_path: Path):
    async with open_house(database, tmp_path, kek_file=None) as closed:
        for verb, route in ROUTES:
            status, told = await closed.desk().vault(verb, route)
            assert (status, told["code"]) == (503, "VAULT_NOT_CONFIGURED")


async def test_a_page_of_a_listed_origin_may_read_answers_and_errors(house: House):
    path = f"{VAULT}/status"
    asked = {"Access-Control-Request-Method": "GET"}
    told = await house.client.options(path, headers={"Origin": PAGE, **asked})
    assert told.status_code == 204
    assert told.headers["access-control-allow-origin"] == PAGE
    assert "authorization" in told.headers["access-control-allow-headers"].lower()
    for origin in ("https://mana.example.evil", "http://mana.example", "null", "*"):
        told = await house.client.options(path, headers={"Origin": origin, **asked})
        assert "access-control-allow-origin" not in told.headers
        answered = await house.desk().ask("GET", path, headers={"Origin": origin})
        assert "access-control-allow-origin" not in answered.headers
    for answered in (
        await house.desk().ask("GET", path),
        await house.desk().ask("GET", f"{VAULT}/key"),
        await house.client.get(path, headers={"Origin": PAGE}),
    ):
        assert answered.headers["access-control-allow-origin"] == PAGE
        assert answered.headers["vary"] == "Origin"
        assert "access-control-allow-credentials" not in answered.headers
        assert answered.headers["cache-control"] == "no-store"


async def test_the_issuers_login_sees_one_persons_vault_and_reads_no_trail(house: House):
    for user in ("u1", "u2"):
        await house.desk(user).key()
    act_as = "SELECT set_config('app.current_user_id', 'u1', true)"
    async with session(house.database, "mana_issuer") as issuer:
        assert await issuer.fetch("SELECT FROM auth.encryption_vaults") == []
        async with issuer.transaction():
            await issuer.execute(act_as)
            rows = await issuer.fetch("SELECT user_id FROM auth.encryption_vaults")
            assert [row["user_id"] for row in rows] == ["u1"]
            changed = await issuer.execute(
                "UPDATE auth.encryption_vaults SET kek_id = 'x' WHERE user_id = 'u2'"
            )
            assert changed == "UPDATE 0"
        for statement in (
            "SELECT * FROM auth.encryption_vault_audit",
            "UPDATE auth.encryption_vault_audit SET status = 200",
            "DELETE FROM auth.encryption_vault_audit",
            "DELETE FROM auth.encryption_vaults",
            "TRUNCATE auth.encryption_vaults",
            "SELECT * FROM mana_ai.mission_snapshots",
            "SELECT * FROM sync_changes",
        ):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await issuer.execute(statement)
        await issuer.execute("SELECT set_config('app.current_user_id', 'u1', false)")
        for statement in (
            OF_ANOTHER,
            "UPDATE auth.encryption_vaults SET user_id = 'u3'",
        ):
            with pytest.raises(asyncpg.InsufficientPrivilegeError, match="row-level security"):
                await issuer.execute(statement)


@pytest.mark.parametrize(
    "login", ["mana_agent", "mana_supervisor", "mana_keys", "mana_gateway", "mana_janitor"]
)
async def test_no_other_login_comes_near_a_vault(house: House, login: str):
    await house.desk().key()
    async with session(house.database, login) as other:
        for table in ("auth.encryption_vaults", "auth.encryption_vault_audit",
                      "mana_ai.vault_key_checks"):  # fmt: skip
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await other.fetch(f"SELECT * FROM {table}")


@pytest.mark.parametrize(
    ("change", "constraint"),
    [
        ("wrapped_mk = NULL, wrap_iv = NULL", "has_wrap"),
        ("wrap_iv = NULL", "wrap_iv_pair"),
        ("recovery_wrapped_mk = 'AAAA'", "wrap_iv_pair"),
        ("zero_knowledge = true", "zk_consistency"),
        ("zero_knowledge = true, recovery_wrapped_mk = 'A', recovery_iv = 'B'", "zk_consistency"),
        ("zero_knowledge = true, wrapped_mk = NULL, wrap_iv = NULL", "has_wrap|zk_consistency"),
    ],
)
async def test_a_row_that_nobody_could_open_is_refused(house: House, change: str, constraint: str):
    await house.desk().key()
    with pytest.raises(asyncpg.CheckViolationError, match=constraint):
        await house.sql(f"UPDATE auth.encryption_vaults SET {change}")


async def test_vault_tables_hold_to_row_security_for_their_owner_too(database: Database):
    async with session(database, SUPERUSER) as admin:
        rows = await admin.fetch(
            "SELECT relname, relrowsecurity AND relforcerowsecurity AS forced FROM pg_class"
            " WHERE relnamespace = 'auth'::regnamespace AND relkind = 'r'"
        )
    assert {row["relname"]: row["forced"] for row in rows} == {
        "encryption_vaults": True,
        "encryption_vault_audit": True,
    }


def test_a_wrap_opens_to_its_key_and_each_is_another():
    kek = read_kek(base64.b64encode(bytes(range(32))).decode())
    wraps = [wrapped(DataKey(bytearray(range(32))), kek, bytes([n] * 12)) for n in (1, 2)]
    assert wraps[0].wrapped_mk != wraps[1].wrapped_mk
    for wrap in wraps:
        vault = new_vault(wrap, datetime.now(UTC))
        assert unwrapped(vault, kek).material == bytearray(range(32))


def test_every_tampered_byte_of_a_wrap_is_refused():
    kek = read_kek(base64.b64encode(bytes(range(32))).decode())
    wrap = wrapped(DataKey(bytearray(range(32))), kek, bytes(12))
    for name in ("wrapped_mk", "iv"):
        raw = base64.b64decode(getattr(wrap, name))
        for at in range(len(raw)):
            changed = raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :]
            parts = {"wrapped_mk": wrap.wrapped_mk, "iv": wrap.iv}
            parts[name] = base64.b64encode(changed).decode()
            vault = new_vault(Wrap(**parts), datetime.now(UTC))
            with pytest.raises(MasterKeyNotOpened):
                unwrapped(vault, kek)


@pytest.mark.parametrize("text", ["", "x", base64.b64encode(bytes(32)).decode(), "QUJD", "A" * 60])
def test_a_kek_of_zeros_or_another_length_is_none(text: str):
    with pytest.raises(KekUnusable):
        read_kek(text)
