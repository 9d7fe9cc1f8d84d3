"""A key leaves only to a live run, inside its owner's grant, after an audit row (P6, P7)."""

import asyncio
import uuid
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from mana_actors.keys.client import KeyHolderUnreachable, KeyWithheld
from mana_actors.keys.protocol import (
    MAX_REQUEST_BYTES,
    AskForKey,
    KeyRefused,
    decode_reply,
    frame,
    read_frame,
)
from mana_actors.keys.server import REQUEST_S
from state.sealing.values import opened, sealed
from state.store.agent import ReadRecord, note_outcomes
from state.store.connect import CapabilityInvalid, Refused, Superseded
from tests.integration.key_scene import DAY_S, HolderProcess, Scene, key_scene, minted, trust
from tests.integration.support import LEASE_OVER, World

pytestmark = pytest.mark.one_postgres


@pytest.fixture
async def scene(world: World, tmp_path: Path) -> AsyncGenerator[Scene]:
    async with key_scene(world, tmp_path) as opened_scene:
        yield opened_scene


async def withheld(scene: Scene, mission: str = "m1", **ask: Any) -> str:
    with pytest.raises(KeyWithheld) as caught:
        async with scene.data_key(mission, **ask):
            raise AssertionError("a key was released")
    return caught.value.reason


async def test_a_live_run_gets_the_key_that_sealed_its_records(scene: Scene):
    claim = await scene.mission(minted())
    async with scene.data_key() as held:
        text = sealed("Titel", held.key, bytes(12))
        assert (held.record_ids, held.tables, held.exposure) == ({"notes:n1"}, ("notes",), "local")
    async with scene.data_key() as again:
        assert opened(text, again.key) == "Titel"
    first, _ = await scene.releases()
    assert (first["release_id"], first["run_id"]) == (held.release_id, claim.run_id)
    assert (first["user_id"], first["mission_id"], first["attempt"]) == ("u1", "m1", 1)
    assert (first["outcome"], first["record_ids"]) == ("released", ["notes:n1"])
    with pytest.raises(ValueError, match="wiped"):
        _ = held.key.material
    assert await scene.holder.counts() == {"released": 2}


async def test_no_key_leaves_before_its_attempt_is_durable(scene: Scene, world: World):
    """The insert fails, so does everything after it."""
    await scene.mission(minted())
    await world.sql("ALTER TABLE mana_ai.key_releases ADD CONSTRAINT full_disk CHECK (false)")
    with pytest.raises(KeyHolderUnreachable):
        async with scene.data_key():
            raise AssertionError("a key was released")
    assert await scene.releases() == []


async def test_a_revoked_grant_is_gone_at_once_even_before_it_is_folded(scene: Scene, world: World):
    await scene.mission(minted())
    await (await world.client()).edit(grant=None)
    assert await withheld(scene) == "no-grant"
    assert await scene.outcomes() == [("refused", "no-grant")]


async def test_a_renewed_grant_counts_at_once(scene: Scene, world: World):
    await scene.mission(minted(age_s=8 * DAY_S))
    assert await withheld(scene) == "expired"
    await (await world.client()).edit(grant=minted())
    async with scene.data_key() as held:
        assert held.record_ids == {"notes:n1"}
    assert [outcome for outcome, _ in await scene.outcomes()] == ["refused", "released"]


async def test_a_deleted_missions_grant_is_worthless(scene: Scene, world: World):
    await scene.mission(minted())
    await (await world.client()).edit(deletedAt="2026-11-01T00:00:00.000Z")
    assert await withheld(scene) == "no-grant"


@pytest.mark.parametrize(
    ("grant", "reason", "detail"),
    [
        (lambda: minted(age_s=8 * DAY_S), "expired", "expired"),
        (lambda: minted(mission="m2"), "malformed", "other-mission"),
        (lambda: minted(user="u2"), "malformed", "other-user"),
        (lambda: minted() | {"expiresAt": "2099-01-01T00:00:00.000Z"}, "malformed",
         "lives-too-long"),
        (lambda: minted() | {"exposure": "any"}, "malformed", "signature-rejected"),
        (lambda: {k: v for k, v in minted().items() if k != "signature"}, "malformed", "unsigned"),
        (lambda: "enc:1:x.y", "expired", "no-expiry"),
    ],
)  # fmt: skip
async def test_a_grant_that_does_not_hold_is_refused_and_audited(
    scene: Scene, grant: Any, reason: str, detail: str
):
    await scene.mission(grant())
    assert await withheld(scene) == reason
    assert await scene.outcomes() == [("refused", detail)]
    assert await scene.holder.counts() == {reason: 1}


async def test_unsigned_grants_need_the_setting(world: World, tmp_path: Path):
    v1 = minted()
    v1["derivation"] = {k: v for k, v in v1["derivation"].items() if k != "userId"} | {
        "version": "v1"
    }
    async with key_scene(world, tmp_path, trust(accept_v1=True)) as scene:
        await scene.mission(v1)
        assert await withheld(scene) == "wrap-rejected"  # a signed one cannot be stripped


async def test_a_key_is_for_the_mission_of_the_run(scene: Scene):
    await scene.mission(minted())
    assert await withheld(scene, mission_id="m2") == "other-mission"
    assert await scene.outcomes() == [("refused", "other-mission")]


async def test_a_run_that_lost_its_lease_gets_no_key(scene: Scene, world: World):
    await scene.mission(minted())
    token = await scene.capability()
    await world.sql(LEASE_OVER)
    assert await withheld(scene, capability=token) == "run-not-live"
    assert await scene.outcomes() == [("refused", "run-not-live")]


async def test_an_attempt_that_was_passed_by_gets_no_key(scene: Scene, world: World):
    first = await scene.mission(minted())
    token = await scene.capability()
    await world.sql(LEASE_OVER)
    second = await scene.claim()
    assert (first.run_id, second.attempt) == (second.run_id, 2)
    assert await withheld(scene, capability=token, attempt=1) == "run-not-live"
    assert await withheld(scene, capability=token, attempt=2) == "capability-invalid"


async def test_a_closed_run_gets_no_key(scene: Scene, world: World):
    await scene.mission(minted())
    token = await scene.capability()
    await world.sql("UPDATE mana_ai.runs SET state = 'committed', closed_at = now()")
    assert await withheld(scene, capability=token) == "run-not-live"


async def test_another_users_run_cannot_be_named(scene: Scene):
    await scene.mission(minted())
    theirs = await scene.mission(minted("m2", "u2"), "m2", "u2")
    token = await scene.capability()
    reason = await withheld(scene, capability=token, run_id=theirs.run_id, mission_id="m2")
    assert reason == "capability-invalid"
    assert await scene.releases() == []


@pytest.mark.parametrize("token", ["", "x", "a.b", "\0", "x" * 9000])
async def test_a_forged_capability_is_refused(scene: Scene, token: str):
    await scene.mission(minted())
    assert await withheld(scene, capability=token or ".") in ("capability-invalid", "bad-request")
    assert await scene.releases() == []


async def test_a_capability_for_the_database_opens_no_key(scene: Scene, world: World):
    await scene.mission(minted())
    token = await world.driver.schedule.sign_capability("u1", "legacy:ai-default", (), (), 900)
    assert await withheld(scene, capability=token) == "capability-invalid"


async def test_a_capability_for_keys_opens_no_table(scene: Scene, world: World):
    await scene.mission(minted())
    store = await scene.store()
    token = await scene.capability()
    store._capability = lambda: token  # pyright: ignore[reportPrivateUsage]
    assert await store.mission("m1") is None
    with pytest.raises(CapabilityInvalid):
        await store.claim("m1", (await scene.world.snapshot())["next_run_at"], 1000, "h", "{}")


async def test_an_expired_capability_is_refused(scene: Scene, world: World):
    claim = await scene.mission(minted())
    token = await world.value(
        "SELECT mana_ai.sign_payload(jsonb_build_object('u', 'u1', 'a', 'legacy:ai-default', 'run',"
        " $1::text, 'attempt', 1, 'aud', 'keys', 'exp', 1))",
        str(claim.run_id),
    )
    assert await withheld(scene, capability=token) == "capability-invalid"


async def test_only_the_live_attempt_may_ask_for_leave(scene: Scene, world: World):
    await scene.mission(minted())
    await world.sql("UPDATE mana_ai.runs SET attempt = 2")
    with pytest.raises(Superseded):
        await scene.capability()


async def test_an_asker_without_a_key_gets_none(scene: Scene):
    claim = await scene.mission(minted())
    for public_key in (b"", bytes(31), bytes(32)):  # the last is a point that everybody can undo
        ask = AskForKey(await scene.capability(), claim.run_id, 1, "m1", public_key)
        assert await _sent(scene, frame(ask)) == KeyRefused("bad-request")
    assert await scene.releases() == []


async def test_a_run_cannot_flood_the_audit(scene: Scene, world: World):
    claim = await scene.mission(minted())
    await world.sql(
        "INSERT INTO mana_ai.key_releases (user_id, agent_id, mission_id, run_id, attempt, outcome)"
        " SELECT 'u1', 'a', 'm1', $1, 1, 'refused' FROM generate_series(1, 100)",
        claim.run_id,
    )
    assert await withheld(scene) == "too-many"
    assert len(await scene.releases()) == 100


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\x00\x00\x00\x05hello",
        b"\xff\xff\xff\xff",
        (MAX_REQUEST_BYTES + 1).to_bytes(4, "big"),
        b"\x00\x00\x00\x01\xc1",
        b"GET / HTTP/1.1\r\n\r\n",
    ],
)
async def test_nonsense_costs_one_connection(scene: Scene, raw: bytes):
    await scene.mission(minted())
    assert await _sent(scene, raw) == KeyRefused("bad-request")
    async with scene.data_key() as held:
        assert held.record_ids


@pytest.mark.parametrize("mission_id", ["m\0", "m" * 5000, "ü" * 600])
async def test_a_hostile_mission_id_is_refused(scene: Scene, mission_id: str):
    await scene.mission(minted())
    assert await withheld(scene, mission_id=mission_id) in ("bad-request", "other-mission")


async def test_what_was_released_can_be_told_by_its_agent_alone(scene: Scene, world: World):
    await scene.mission(minted())
    await (await world.client("u2")).mission("m2")
    async with scene.data_key() as held:
        pass
    records = [ReadRecord("notes", "n1", "ok"), ReadRecord("notes", "n2", "failed", "why")]
    await note_outcomes(await scene.store(), held.release_id, "it-1", records)
    rows = await world.sql("SELECT * FROM mana_ai.decrypt_audit ORDER BY id")
    assert [(r["record_id"], r["status"], r["reason"]) for r in rows] == [
        ("n1", "ok", None),
        ("n2", "failed", "why"),
    ]
    assert {(r["user_id"], r["release_id"], r["iteration_id"]) for r in rows} == {
        ("u1", held.release_id, "it-1")
    }
    for store in (await scene.store("u2"), await scene.store("u1", "other-agent")):
        with pytest.raises(Refused):
            await note_outcomes(store, held.release_id, "it-1", records)
    with pytest.raises(Refused):
        await note_outcomes(await scene.store(), uuid.uuid4(), "it-1", records)
    assert await world.value("SELECT count(*) FROM mana_ai.decrypt_audit") == 2


@pytest.mark.parametrize("login", ["mana_agent", "mana_keys", "mana_gateway", "mana_supervisor"])
async def test_nobody_changes_or_removes_an_attempt(scene: Scene, world: World, login: str):
    await scene.mission(minted())
    async with scene.data_key():
        pass
    connection = await world.connect(login)
    for statement in (
        "UPDATE mana_ai.key_releases SET reason = 'x'",
        "DELETE FROM mana_ai.key_releases",
        "INSERT INTO mana_ai.key_releases (user_id) VALUES ('u1')",
        "UPDATE mana_ai.decrypt_audit SET reason = 'x'",
        "DELETE FROM mana_ai.decrypt_audit",
    ):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute(statement)


async def test_the_key_holders_login_sees_nothing_without_a_capability(scene: Scene, world: World):
    claim = await scene.mission(minted())
    connection = await world.connect("mana_keys")
    await connection.execute("SELECT set_config('app.current_user_id', 'u1', false)")
    with pytest.raises(asyncpg.PostgresError) as caught:
        await connection.fetch("SELECT * FROM mana_ai.granted_mission($1, 1, 'm1')", claim.run_id)
    assert caught.value.sqlstate == "MA001"
    for table in ("runs", "mission_snapshots", "key_releases", "decrypt_audit"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.fetch(f"SELECT * FROM mana_ai.{table}")


async def test_the_key_holder_is_shown_the_grant_and_nothing_the_owner_wrote(
    scene: Scene, world: World
):
    claim = await scene.mission(minted())
    await (await world.client()).edit(title="Geheim", grant=minted())
    connection = await world.connect("mana_keys")
    token = await scene.capability()
    async with connection.transaction():
        await connection.execute("SELECT set_config('app.capability', $1, true)", token)
        row = await connection.fetchrow(
            "SELECT * FROM mana_ai.granted_mission($1, 1, 'm1')", claim.run_id
        )
    assert row is not None
    shown = f"{row['snapshot']}{row['changes']}"
    assert "wrappedKey" in row["snapshot"]
    assert "wrappedKey" in row["changes"]
    assert not any(word in shown for word in ("Geheim", "Wochenplan", "Plane", "objective"))


# --- the process ----------------------------------------------------------------------------------


async def test_the_process_releases_and_says_nothing_secret(world: World, tmp_path: Path):
    holder = HolderProcess(world, tmp_path)
    await holder.start()
    try:
        async with key_scene(world, tmp_path / "unused") as scene:
            await scene.mission(minted())
            scene.holder = type(scene.holder)(str(holder.socket_path))
            async with scene.data_key() as held:
                secret = held.key.material.hex()
            token = await scene.capability()
        assert holder.socket_path.stat().st_mode & 0o777 == 0o600
        assert holder.socket_path.parent.stat().st_mode & 0o777 == 0o700
        assert holder.stop() == 0
        log = holder.log.read_text()
        assert "key_released agent=u1/legacy:ai-default" in log
        assert not any(word in log for word in (secret, token, "notes:n1", "BEGIN"))
        assert not holder.socket_path.exists()
    finally:
        holder.kill()


async def test_a_killed_key_holder_comes_back_on_its_socket(world: World, tmp_path: Path):
    holder = HolderProcess(world, tmp_path)
    await holder.start()
    try:
        async with key_scene(world, tmp_path / "unused") as scene:
            await scene.mission(minted())
            scene.holder = type(scene.holder)(str(holder.socket_path))
            holder.kill()
            with pytest.raises(KeyHolderUnreachable):
                async with scene.data_key():
                    raise AssertionError("who answered?")
            await holder.start()
            async with scene.data_key() as held:
                assert held.record_ids == {"notes:n1"}
    finally:
        holder.kill()


async def test_a_key_holder_without_a_database_refuses(world: World, tmp_path: Path):
    async with key_scene(world, tmp_path) as scene:
        await scene.mission(minted())
        token = await scene.capability()
        await world.sql("ALTER ROLE mana_keys CONNECTION LIMIT 0")
        try:
            await world.sql(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE usename = 'mana_keys' AND datname = current_database()"
            )
            with pytest.raises(KeyHolderUnreachable):
                async with scene.data_key(capability=token):
                    raise AssertionError("a key was released")
        finally:
            await world.sql("ALTER ROLE mana_keys CONNECTION LIMIT 20")


async def _sent(scene: Scene, raw: bytes) -> Any:
    """The reply to raw bytes, after which nothing more is sent."""
    reader, writer = await asyncio.open_unix_connection(scene.socket_path)
    try:
        writer.write(raw)
        writer.write_eof()
        async with asyncio.timeout(2 * REQUEST_S):
            return decode_reply(await read_frame(reader, 1_000_000))
    finally:
        writer.close()
