"""Rotation of capability secrets: nothing under way is lost, and nothing old outlives its time."""

import asyncio
import base64
import json
import uuid
from collections.abc import AsyncGenerator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from mana_actors.keys.client import KeyWithheld
from state.store.agent import AgentStore
from state.store.connect import CapabilityInvalid
from state.store.connect import Database as Pool
from state.store.migrate import LOGINS
from state.store.rotation import (
    ROTATED_ALREADY,
    RotatedAlready,
    capability_secrets,
    rotate_capability,
)
from supervisor.cli import run
from supervisor.cli.failures import FAILED
from tests.integration.key_scene import key_scene, minted
from tests.integration.support import DONE, PLAN, World, open_world, until
from tests.postgres import LOG_OWNER, Database

PAIR = ("u1", "legacy:ai-default")
SIGNED = "SELECT mana_ai.sign_capability('u1', 'a1', '{}', '{}', 'db', 900)"
LIFE = timedelta(hours=2, minutes=1)
SEES = "SELECT count(*) FROM mana_ai.mission_snapshots"
RUN_OVERLAP_OUT = (
    "UPDATE mana_ai.capability_secrets SET verifies_until = clock_timestamp() WHERE NOT signs"
)


@pytest.fixture
async def world(database: Database) -> AsyncGenerator[World]:
    async with open_world(database, [PLAN, DONE, PLAN, DONE]) as opened_world:
        yield opened_world


async def rotate(world: World, *, at_once: bool = False) -> None:
    """As `mana keys rotate capability` does."""
    dsn, password = world.database.dsn(LOG_OWNER), world.database.password(LOG_OWNER)
    await rotate_capability(dsn, password, at_once=at_once)


async def signed(world: World, ttl_s: int = 900) -> str:
    return await world.driver.schedule.sign_capability(*PAIR, (), (), ttl_s)


async def is_accepted(world: World, token: str, audience: str = "db") -> bool:
    connection = await world.connect("mana_agent")
    async with connection.transaction():
        await connection.execute("SELECT set_config('app.capability', $1, true)", token)
        found = await connection.fetchval("SELECT mana_ai.capability($1)", audience)
    await connection.close()
    return found is not None


def payload(token: str) -> dict[str, Any]:
    body = token.split(".", maxsplit=1)[0]
    return json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))


async def test_a_run_under_way_is_untouched_by_a_rotation(world: World):
    await (await world.client()).mission()
    await world.driver.fold_all()
    world.provider.hold()
    under_way = asyncio.create_task(world.run())
    await until(lambda: asyncio.to_thread(lambda: len(world.provider.requests) == 1))
    await rotate(world)
    world.provider.release()
    report = await under_way
    assert report.outcome == "ran"
    (row,) = await world.runs()
    assert (row["state"], row["attempt"]) == ("committed", 1)


async def test_a_renewal_hands_out_a_token_of_the_new_secret(world: World):
    await (await world.client()).mission()
    await world.driver.fold_all()
    token = await signed(world)
    pool = Pool(world.access("mana_agent"), max_connections=1)
    store = AgentStore(pool, *PAIR, lambda: token)
    claim = await store.claim("m1", (await world.snapshot())["next_run_at"], 60_000, "h", "{}")
    await rotate(world)
    _, renewed = await store.renew([(claim.run_id, 1)], 60_000)
    await pool.close()
    assert renewed is not None
    assert payload(renewed)["kid"] != payload(token)["kid"]
    assert payload(renewed)["kid"] == payload(await signed(world))["kid"]
    assert await is_accepted(world, renewed)


async def test_the_old_secret_verifies_in_the_overlap_and_not_after_it(world: World):
    old = await signed(world)
    await rotate(world)
    new = await signed(world)
    assert payload(old)["kid"] != payload(new)["kid"]
    assert (await is_accepted(world, old), await is_accepted(world, new)) == (True, True)
    await world.sql(RUN_OVERLAP_OUT)  # its row is still there: the clock refuses it
    assert (await is_accepted(world, old), await is_accepted(world, new)) == (False, True)
    await rotate(world)
    assert await world.value("SELECT count(*) FROM mana_ai.capability_secrets") == 4
    assert await is_accepted(world, new)


async def test_the_overlap_outlives_every_capability(world: World):
    """Whatever life was asked for, and by a renewal of the longest lease."""
    await (await world.client()).mission()
    await world.driver.fold_all()
    token = await signed(world, ttl_s=10**9)
    pool = Pool(world.access("mana_agent"), max_connections=1)
    store = AgentStore(pool, *PAIR, lambda: token)
    claim = await store.claim("m1", (await world.snapshot())["next_run_at"], 60_000, "h", "{}")
    _, renewed = await store.renew([(claim.run_id, 1)], 10**9)
    await pool.close()
    assert renewed is not None
    await rotate(world)
    ends = await world.sql("SELECT verifies_until FROM mana_ai.capability_secrets WHERE NOT signs")
    assert len(ends) == 2
    for one in (token, renewed):
        last = datetime.fromtimestamp(payload(one)["exp"], UTC)
        assert last > datetime.now(UTC) + timedelta(minutes=115)
        assert all(last < end["verifies_until"] for end in ends)


async def test_a_second_rotation_in_the_overlap_is_refused_and_changes_nothing(world: World):
    await rotate(world)
    before = await world.sql("SELECT * FROM mana_ai.capability_secrets ORDER BY audience, kid")
    with pytest.raises(RotatedAlready, match="--now"):
        await rotate(world)
    after = await world.sql("SELECT * FROM mana_ai.capability_secrets ORDER BY audience, kid")
    assert before == after


async def test_of_rotations_at_once_one_happens(world: World):
    token = await signed(world)
    done = await asyncio.gather(*(rotate(world) for _ in range(4)), return_exceptions=True)
    assert [type(one) for one in done if one] == [RotatedAlready] * 3
    rows = await world.sql("SELECT audience, signs FROM mana_ai.capability_secrets")
    assert sorted(tuple(row) for row in rows) == [
        ("db", False), ("db", True), ("keys", False), ("keys", True),
    ]  # fmt: skip
    assert await is_accepted(world, token)


async def test_signing_and_verifying_never_wait_for_a_rotation(world: World):
    token = await signed(world)
    rotating = await world.connect("postgres")
    async with rotating.transaction():
        await rotating.execute("SELECT mana_ai.rotate_capability_secrets(false)")
        async with asyncio.timeout(20):
            assert await is_accepted(world, token)
            assert payload(await signed(world))["kid"] == payload(token)["kid"]


async def test_a_rotation_waits_for_another_and_is_then_refused(world: World):
    first, second = await world.connect("postgres"), await world.connect("postgres")
    async with first.transaction():
        await first.execute("SELECT mana_ai.rotate_capability_secrets(false)")
        waiting = asyncio.create_task(
            second.execute("SELECT mana_ai.rotate_capability_secrets(false)")
        )

        async def is_waiting() -> bool:
            pid, locked = second.get_server_pid(), "SELECT FROM pg_locks WHERE NOT granted"
            return bool(await world.sql(f"{locked} AND pid = $1", pid))

        await until(is_waiting)
    with pytest.raises(asyncpg.PostgresError) as caught:
        await waiting
    assert caught.value.sqlstate == ROTATED_ALREADY


@pytest.mark.parametrize("login", [login.name for login in LOGINS])
async def test_no_service_may_rotate(world: World, login: str):
    connection = await world.connect(login)
    for statement in (
        "SELECT mana_ai.rotate_capability_secrets(true)",
        "SELECT mana_ai.add_capability_secret('db', 'mine', 'x')",
        "UPDATE mana_ai.capability_secrets SET verifies_until = NULL",
        "DELETE FROM mana_ai.capability_secrets",
        "SELECT kid FROM mana_ai.capability_secrets",
    ):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute(statement)
    # It acts with its caller's rights, so a grant by mistake opens nothing.
    rotating = "FUNCTION mana_ai.rotate_capability_secrets(boolean)"
    await world.sql(f"GRANT EXECUTE ON {rotating} TO {login}")
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await connection.execute("SELECT mana_ai.rotate_capability_secrets(true)")


async def test_the_command_rotates_and_the_check_says_what_verifies(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
):  # fmt: skip
    database = world.database
    monkeypatch.setenv("MANA_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("MANA_SECRETS_DIR", str(database.secrets_dir))
    monkeypatch.setenv("MANA_KEYS_DIR", str(tmp_path / "keys"))
    monkeypatch.setenv("MANA_DATABASE_PASSWORD_FILE", str(database.password_file(LOG_OWNER)))
    asked = ["--database-url", database.dsn(LOG_OWNER)]
    old = await signed(world)
    assert await asyncio.to_thread(run, ["keys", "rotate", "capability", *asked]) == 0
    assert await asyncio.to_thread(run, ["keys", "rotate", "capability", *asked]) == FAILED
    assert "--now" in capsys.readouterr().err
    assert await is_accepted(world, old)
    await asyncio.to_thread(run, ["keys", "check", "--json", *asked])
    told = json.loads(capsys.readouterr().out)
    assert [(one["audience"], one["verifies_until"] is None) for one in told["capability"]] == [
        ("db", True), ("db", False), ("keys", True), ("keys", False),
    ]  # fmt: skip
    assert await asyncio.to_thread(run, ["keys", "rotate", "capability", "--now", *asked]) == 0
    await asyncio.to_thread(run, ["keys", "check", *asked])
    out = capsys.readouterr().out
    assert (out.count("capability secret "), out.count(": signs\n")) == (2, 2)
    assert not await is_accepted(world, old)


async def test_what_can_be_seen_of_the_secrets_is_no_secret(world: World):
    await rotate(world)
    found = await capability_secrets(world.driver.supervisor)
    assert [(one.audience, one.verifies_until is None) for one in found] == [
        ("db", True), ("db", False), ("keys", True), ("keys", False),
    ]  # fmt: skip
    ends = [one.verifies_until - one.asked_at for one in found if one.verifies_until]
    assert all(LIFE - timedelta(minutes=1) < end <= LIFE for end in ends)
    pads = await world.sql("SELECT inner_pad, outer_pad FROM mana_ai.capability_secrets")
    assert len({pad for row in pads for pad in row}) == 8
    assert not any(isinstance(value, bytes) for one in found for value in (one.audience, one.kid))


async def test_an_emergency_refuses_what_was_signed_before_and_loses_no_run(world: World):
    await (await world.client()).mission()
    await world.driver.fold_all()
    old = await signed(world)
    world.provider.hold()
    under_way = asyncio.create_task(world.run())
    await until(lambda: asyncio.to_thread(lambda: len(world.provider.requests) == 1))
    await rotate(world, at_once=True)
    assert not await is_accepted(world, old)
    world.provider.release()
    assert (await under_way).outcome == "capability-invalid"
    await world.sql("UPDATE mana_ai.runs SET lease_until = clock_timestamp()")
    await world.sql("UPDATE mana_ai.mission_snapshots SET wake_at = clock_timestamp()")
    _, (report,) = await world.driver.tick()
    assert report.outcome == "ran"
    (row,) = await world.runs()
    assert (row["state"], row["attempt"]) == ("committed", 2)
    assert len(await world.written()) == 1


async def test_an_emergency_is_never_refused(world: World):
    await rotate(world)
    await rotate(world, at_once=True)
    await rotate(world, at_once=True)
    assert await world.value("SELECT count(*) FROM mana_ai.capability_secrets") == 2
    assert await is_accepted(world, await signed(world))


async def test_no_transaction_goes_by_a_secret_after_an_emergency(world: World):
    """One that began before still sees the old secrets, so its session is ended."""
    await (await world.client()).mission()
    await world.driver.fold_all()
    agent = await world.connect("mana_agent")
    await agent.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
    await agent.execute("SELECT set_config('app.capability', $1, true)", await signed(world))
    assert await agent.fetchval(SEES) == 1
    session = agent.get_server_pid()
    await rotate(world, at_once=True)

    async def is_over() -> bool:
        return not await world.sql("SELECT FROM pg_stat_activity WHERE pid = $1", session)

    await until(is_over)


async def test_a_key_is_released_across_a_rotation_and_not_after_an_emergency(
    world: World, tmp_path: Path
):
    async with key_scene(world, tmp_path) as scene:
        await scene.mission(minted())
        token = await scene.capability()
        await rotate(world)
        async with scene.data_key(capability=token) as held:
            assert held.record_ids
        await rotate(world, at_once=True)
        with pytest.raises(KeyWithheld, match="capability-invalid"):
            async with scene.data_key(capability=token):
                raise AssertionError("a key was released")


async def test_a_store_holding_an_old_token_says_so_after_an_emergency(world: World):
    token = await signed(world)
    await rotate(world, at_once=True)
    pool = Pool(world.access("mana_agent"), max_connections=1)
    with pytest.raises(CapabilityInvalid):
        await AgentStore(pool, *PAIR, lambda: token).renew([(uuid.uuid4(), 1)], 60_000)
    await pool.close()
