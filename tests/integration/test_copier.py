"""Copies are made on demand where the master key is kept, of granted records alone."""

import asyncio
import os
import secrets
import signal
import subprocess
import sys
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from state.grants import vault
from state.sealing import key_pairs
from state.sealing.values import DataKey
from state.store.agent import request_copies
from state.store.connect import Database as Pool
from state.store.connect import Refused, Superseded
from state.store.gateway.copy_requests import CopyRequest, CopyRequests
from state.store.issuer import VaultStore
from state.store.janitor import JanitorStore, Retention
from supervisor.custody.copier import AT_ONCE, Copier
from supervisor.custody.vaults import Caller, Custody
from tests.fake_auth import FakeAuth
from tests.integration.key_scene import MASTER_KEY, SIGNING_KEY, Scene, key_scene, minted
from tests.integration.support import DONE, PLAN, Json, open_world, until
from tests.integration.test_granted_runs import (
    CANARY,
    NOTE,
    REF,
    assert_skipped,
    copy_for,
    prepared,
    put,
    under,
)
from tests.integration.test_issuer import issuer_environment
from tests.owners import KEK
from tests.postgres import Database

ISSUERS = {key_pairs.issuer_key_id(SIGNING_KEY.public_key()): SIGNING_KEY.public_key()}
CHANGED = {**NOTE, "content": "Doch lieber Zwetschgenkuchen-19b2"}


class Watched(Custody):
    """Remembers the keys it lent."""

    lent_keys: list[DataKey]

    async def lent(
        self, caller: Caller, purpose: str, allowed: Callable[[], Awaitable[None]]
    ) -> DataKey:
        key = await super().lent(caller, purpose, allowed)
        self.lent_keys.append(key)
        return key


class Office:
    """A scene, a vault with the owner's key in it, and copiers."""

    def __init__(self, scene: Scene, stack: AsyncExitStack) -> None:
        self.scene, self.world, self._stack = scene, scene.world, stack
        vaults = VaultStore(self._pool("mana_issuer"))
        self.custody = Watched(vaults, vault.Kek(KEK))
        self.custody.lent_keys = []
        self._vaults = vaults
        self.requests = CopyRequests(self._pool("mana_gateway"))

    def _pool(self, role: str) -> Pool:
        pool = Pool(self.world.access(role), max_connections=2)
        self._stack.push_async_callback(pool.close)
        return pool

    async def keep_key(self, user: str = "u1") -> None:
        """A vault with the master key."""
        wrap = vault.wrapped(
            DataKey(bytearray(MASTER_KEY)), vault.Kek(KEK), secrets.token_bytes(12)
        )
        async with self._vaults.opened(user) as opened:
            await opened.add(vault.new_vault(wrap, opened.now))

    def copier(self, **more: Any) -> Copier:
        return Copier(CopyRequests(self._pool("mana_gateway")), self.custody, ISSUERS, **more)

    async def skipped_then_copied(self) -> str:
        """A run that misses copies, which are then made; what it told its owner."""
        report = await self.world.run()
        assert (report.outcome, report.decision) == ("skip", "skipped-grant")
        assert await self.copier().serve() == 1
        return report.reason

    async def answer(self) -> str | None:
        return await self.world.value("SELECT answer FROM mana_ai.copy_requests")

    async def copies(self) -> list[Json]:
        rows = await self.world.sql("SELECT * FROM mana_ai.sealed_copies ORDER BY record_id")
        return [dict(row) for row in rows]

    async def trail(self) -> list[tuple[Any, ...]]:
        rows = await self.world.sql(
            "SELECT action, status, context FROM auth.encryption_vault_audit ORDER BY created_at"
        )
        return [tuple(row) for row in rows]

    async def edit_note(self, note: Json = CHANGED) -> None:
        with DataKey(bytearray(MASTER_KEY)) as key:
            fields = {name: value for name, value in under(key, note).items() if name != "id"}
        await (await self.world.client("u1")).push(
            "update", "n1", fields, table="notes", app="notes"
        )

    async def taken(self, lease_s: int = 60) -> CopyRequest:
        (asked,) = await self.requests.take(1, lease_s)
        return asked

    async def lose_leases(self) -> None:
        """As if the lease of whoever took them had passed."""
        await self.world.sql("UPDATE mana_ai.copy_requests SET due_at = now() - interval '1 s'")


@pytest.fixture
async def office(database: Database, tmp_path: Path) -> AsyncGenerator[Office]:
    async with (
        open_world(database) as world,
        key_scene(world, tmp_path) as scene,
        AsyncExitStack() as stack,
    ):
        world.driver = world.new_driver(key_socket=str(scene.socket_path))
        await world.driver.start()
        office = Office(scene, stack)
        await office.keep_key()
        yield office


# --- made, and made anew --------------------------------------------------------------------------


async def test_a_note_is_read_although_no_client_handed_it_over(office: Office):
    world = office.world
    world.provider.script.extend([PLAN, DONE])
    await prepared(office.scene, minted(), copy=False)
    assert "not handed over" in await office.skipped_then_copied()
    assert (await world.run()).outcome == "ran"
    assert CANARY.encode() in world.provider.requests[0].raw
    (copy,) = await office.copies()
    assert CANARY not in copy["data"]
    assert await office.trail() == [("fetch", 200, "ai-sealed-copies mission=m1")]


async def test_the_next_run_reads_what_the_owner_edited_meanwhile(office: Office):
    world = office.world
    world.provider.script.extend([PLAN, DONE, PLAN, DONE])
    await prepared(office.scene, minted(), copy=False)
    await office.skipped_then_copied()
    assert (await world.run()).outcome == "ran"
    await office.edit_note()
    await world.open_slot()
    await world.driver.fold_all()
    assert "changed since" in (await world.run()).reason
    assert await office.copier().serve() == 0  # some seconds after the last ones
    await office.lose_leases()
    assert await office.copier().serve() == 1
    assert (await world.run()).outcome == "ran"
    later = b"".join(request.raw for request in world.provider.requests[2:])
    assert (b"Zwetschgenkuchen-19b2" in later, CANARY.encode() in later) == (True, False)


async def test_a_copy_of_a_client_that_names_no_source_is_stale_once_a_row_comes_in(office: Office):
    await prepared(office.scene, minted())
    await office.edit_note()
    await assert_skipped(office.scene, await office.world.run(), "changed since")


async def test_copies_for_an_earlier_scope_are_made_anew_under_the_new_key(office: Office):
    world = office.world
    world.provider.script.extend([PLAN, DONE])
    await prepared(office.scene, minted(age_s=60), copy=False)
    await office.skipped_then_copied()
    await world.sql("UPDATE mana_ai.sealed_copies SET written_at = now() - interval '30 s'")
    grant = minted(recordIds=["notes:n1", "notes:n2"], age_s=10)
    await (await world.client("u1")).edit("m1", grant=grant)
    await world.driver.fold_all()
    assert "could not be opened" in await office.skipped_then_copied()
    assert (await world.run()).outcome == "ran"
    assert CANARY.encode() in world.provider.requests[0].raw


async def test_one_record_under_another_key_does_not_keep_the_others_from_copies(office: Office):
    client = await office.world.client("u1")
    with DataKey(bytearray(32)) as other:
        broken = under(other, {**NOTE, "id": "n2"})
    await client.push("insert", "n2", broken, table="notes", app="notes")
    grant = minted(recordIds=["notes:n1", "notes:n2"])
    await prepared(office.scene, grant, copy=False, inputs=[{**REF, "id": "n2"}, REF])
    await office.skipped_then_copied()
    assert [copy["record_id"] for copy in await office.copies()] == ["n1"]
    await office.lose_leases()
    report = await office.world.run()
    assert await office.copier().serve() == 1
    assert (report.outcome, await office.answer()) == ("skip", "not-opened")
    assert "not sealed with your key" in (await office.world.run()).reason


async def test_a_record_that_is_too_large_is_told_and_not_made(office: Office):
    await prepared(office.scene, minted(), copy=False)
    await office.edit_note({**NOTE, "content": "x" * 300_000})
    await office.skipped_then_copied()
    assert (await office.copies(), await office.answer()) == ([], "too-large")
    await office.edit_note({**NOTE, "content": "x" * 3_000_000})  # more than we would even load
    await office.lose_leases()
    assert await office.copier().serve() == 1
    assert (await office.copies(), await office.answer()) == ([], "too-large")


async def test_both_keys_are_wiped_also_when_sealing_fails(
    office: Office, monkeypatch: pytest.MonkeyPatch
):
    derived: list[DataKey] = []

    def broken(*_: Any, data_key: DataKey, **__: Any) -> None:
        derived.append(data_key)
        raise RuntimeError("secret text")

    await prepared(office.scene, minted(), copy=False)
    monkeypatch.setattr("supervisor.custody.copier.copied", broken)
    await office.skipped_then_copied()
    assert await office.answer() == "failed"
    (lent,) = office.custody.lent_keys
    for key in (lent, *derived):
        with pytest.raises(ValueError, match="wiped"):
            _ = key.material
    assert len(derived) == 1


# --- refused --------------------------------------------------------------------------------------


async def test_in_zero_knowledge_mode_the_owner_is_told_why_and_nobody_asks_each_time(
    office: Office,
):
    wrap = vault.Wrap("YWJj", "YWJj")
    await office.custody.set_recovery(Caller("u1"), wrap)
    await office.custody.enable_zero_knowledge(Caller("u1"))
    before = await office.trail()
    await prepared(office.scene, minted(), copy=False)
    await office.world.run()
    await office.world.sql("UPDATE mana_ai.mission_snapshots SET wake_at = now() + interval '1 h'")
    assert await office.copier().serve() == 1
    assert await office.world.value(  # told at once, not at the next slot
        "SELECT wake_at <= now() + interval '1 s' FROM mana_ai.mission_snapshots"
    )
    report = await office.world.run()
    await assert_skipped(office.scene, report, "zero-knowledge")
    assert await office.copier().serve() == 0
    await office.world.sql("UPDATE mana_ai.copy_requests SET answered_at = now() - interval '1 h'")
    await office.world.run()
    assert await office.copier().serve() == 1
    assert (await office.trail(), await office.copies()) == (before, [])


async def test_a_person_without_a_vault_gets_no_vault_and_no_copies(office: Office):
    await office.world.sql("DELETE FROM auth.encryption_vaults")
    await prepared(office.scene, minted(), copy=False)
    await office.skipped_then_copied()
    assert (await office.copies(), await office.trail()) == ([], [])
    assert await office.answer() == "no-vault"


def widened() -> Json:
    grant = minted(recordIds=["notes:other"])
    derivation = {**grant["derivation"], "recordIds": ["notes:n1", "notes:other"]}
    return {**grant, "derivation": derivation}


@pytest.mark.parametrize(
    "grant",
    [
        widened(),
        minted(user="u2"),
        minted(mission="m2"),
        {**minted(), "expiresAt": "2020-01-01T00:00:00.000Z"},
        {**minted(), "signature": ""},
        {key: value for key, value in minted().items() if key not in ("signature", "issuerKeyId")},
    ],
    ids=["widened", "other user", "other mission", "expired", "unsigned", "no issuer"],
)
async def test_no_key_is_lent_and_nothing_sealed_for_a_grant_that_its_issuer_did_not_sign(
    office: Office, grant: Json
):
    await prepared(office.scene, grant, copy=False)
    await office.world.run()
    assert await office.copier().serve() == 1
    assert (await office.copies(), office.custody.lent_keys) == ([], [])
    assert await office.answer() == "grant-refused"


async def test_a_new_grant_is_a_new_question(office: Office):
    await prepared(office.scene, widened(), copy=False)
    await office.skipped_then_copied()
    assert "grant cannot be used" in (await office.world.run()).reason
    await (await office.world.client("u1")).edit("m1", grant=minted())
    await office.world.driver.fold_all()
    assert "open the app" in await office.skipped_then_copied()
    assert await office.answer() == "made"


async def test_a_grant_from_before_the_owner_changed_keys_is_told(office: Office):
    await office.world.sql("UPDATE auth.encryption_vaults SET rotated_at = now()")
    await prepared(office.scene, minted(age_s=3600), copy=False)
    await office.skipped_then_copied()
    assert (await office.answer(), office.custody.lent_keys) == ("grant-outdated", [])


async def test_an_input_outside_the_signed_scope_is_not_sealed(office: Office):
    """Also where somebody asks all the same: a run would not, since its grant does not list it."""
    client = await office.world.client("u1")
    with DataKey(bytearray(MASTER_KEY)) as key:
        other = under(key, {**NOTE, "id": "n2"})
    await client.push("insert", "n2", other, table="notes", app="notes")
    await prepared(office.scene, minted(), copy=False)
    await office.world.run()
    await client.edit("m1", inputs=[REF, {**REF, "id": "n2"}])
    await office.world.driver.fold_all()
    assert await office.copier().serve() == 1
    assert [copy["record_id"] for copy in await office.copies()] == ["n1"]


async def test_rows_are_read_for_whoever_took_the_request_and_of_granted_inputs_alone(
    office: Office,
):
    await prepared(office.scene, minted(recordIds=["notes:n1", "notes:n3"]), copy=False)
    await office.world.run()
    other = [REF, {**REF, "id": "n2"}]  # n2 is an input and not granted, n3 is granted and no input
    await (await office.world.client("u1")).edit("m1", inputs=other)
    await office.world.driver.fold_all()
    asked = await office.taken()
    assert (await office.requests.source(asked, "notes", "notes", "n1")).exists
    stranger = CopyRequest(asked.user, asked.mission, uuid.uuid4())
    for who, record in (
        (asked, "n2"),
        (asked, "n3"),
        (stranger, "n1"),
        (CopyRequest("u2", "m1", asked.taken), "n1"),
    ):
        with pytest.raises(Superseded):
            await office.requests.source(who, "notes", "notes", record)
    await (await office.world.client("u1")).edit("m1", grant=None)
    await office.world.driver.fold_all()
    with pytest.raises(Superseded):
        await office.requests.source(asked, "notes", "notes", "n1")


async def test_copies_are_asked_for_by_a_live_run_of_ones_own_only(office: Office):
    claim = await office.scene.mission(minted())
    assert claim.attempt is not None
    own, other = await office.scene.store(), await office.scene.store("u2")
    for store, attempt in ((other, claim.attempt), (own, claim.attempt + 1)):
        with pytest.raises(Superseded):
            await request_copies(store, claim.run_id, attempt)
    await office.world.sql("UPDATE mana_ai.runs SET lease_until = now() - interval '1 s'")
    with pytest.raises(Superseded):
        await request_copies(own, claim.run_id, claim.attempt)
    assert await office.world.sql("SELECT * FROM mana_ai.copy_requests") == []
    await office.world.sql("UPDATE mana_ai.runs SET lease_until = now() + interval '1 h'")
    for _ in range(3):
        assert await request_copies(own, claim.run_id, claim.attempt) is None
    (row,) = await office.world.sql("SELECT user_id, mission_id FROM mana_ai.copy_requests")
    assert tuple(row) == ("u1", "m1")


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT mana_ai.put_sealed_copies('u1', 'm1', '[]')",
        "SELECT * FROM mana_ai.take_copy_requests(9, 9)",
        "SELECT mana_ai.answer_copies('u1', 'm1', gen_random_uuid(), 'made')",
        "SELECT * FROM mana_ai.copy_source('u1', 'm1', gen_random_uuid(), 'notes', 'notes', 'n1')",
        "UPDATE mana_ai.sealed_copies SET source = NULL",
        "DELETE FROM mana_ai.sealed_copies",
        "SELECT * FROM mana_ai.copy_requests",
        "LOCK TABLE mana_ai.copy_requests IN ACCESS EXCLUSIVE MODE",
    ],
)
async def test_an_agents_login_neither_makes_nor_changes_copies(office: Office, statement: str):
    await prepared(office.scene, minted())
    store = await office.scene.store()
    with pytest.raises(Refused, match="42501"):
        async with store.transaction() as connection:
            await connection.execute(statement)


# --- taken away -----------------------------------------------------------------------------------


async def test_copies_that_the_issuer_made_go_with_the_grant(office: Office):
    world = office.world
    await prepared(office.scene, minted(), copy=False)
    await office.skipped_then_copied()
    assert len(await office.copies()) == 1
    await (await world.client("u1")).edit("m1", grant=None)
    await world.driver.fold_all()
    assert await office.copies() == []
    await office.lose_leases()
    assert await office.copier().serve() == 1
    assert (await office.copies(), await office.answer()) == ([], "no-grant")


async def test_copies_that_the_issuer_made_end_with_the_grant(office: Office):
    world = office.world
    await prepared(office.scene, minted(), copy=False)
    await office.skipped_then_copied()
    (copy,) = await office.copies()
    record = await world.record()
    assert copy["expires_at"].isoformat()[:19] == record["grant"]["expiresAt"][:19]
    await world.sql("UPDATE mana_ai.sealed_copies SET expires_at = now() - interval '1 s'")
    await assert_skipped(office.scene, await world.run(), "not handed over")
    janitor = JanitorStore(Pool(world.access("mana_janitor"), max_connections=1))
    assert (await janitor.prune(Retention()))["sealed_copies"] == 1
    await janitor.close()


# --- several, and one that dies -------------------------------------------------------------------


async def several(office: Office, missions: int) -> None:
    """Missions of one person that all ask for copies of the same note."""
    with DataKey(bytearray(MASTER_KEY)) as key:
        note = under(key)
    client = await office.world.client("u1")
    await client.agent(maxConcurrentMissions=missions)
    await client.push("insert", "n1", note, table="notes", app="notes")
    for n in range(missions):
        await client.mission(f"m{n}", inputs=[REF], grant=minted(f"m{n}"))
    await office.world.driver.fold_all()
    for n in range(missions):
        await office.world.run(f"m{n}")


async def test_two_copiers_at_once_make_each_copy_once(office: Office):
    missions = AT_ONCE + 2
    await several(office, missions)
    one, other = office.copier(), office.copier()
    total = 0
    while served := sum(await asyncio.gather(one.serve(), other.serve())):
        total += served
    assert total == missions
    assert len(await office.copies()) == missions
    assert len(office.custody.lent_keys) == missions


async def test_nobodys_second_request_is_taken_before_everybodys_first(office: Office):
    await office.world.sql(
        "INSERT INTO mana_ai.copy_requests (user_id, mission_id, asked_at, due_at, for_grant)"
        " SELECT 'u1', 'm' || n, now(), now() - interval '1 h', '' FROM generate_series(1, 50) AS n"
        " UNION ALL SELECT 'u2', 'm', now(), now() - interval '1 s', ''"
    )
    assert sorted(asked.user for asked in await office.requests.take(2, 60)) == ["u1", "u2"]


async def test_an_answer_that_comes_after_the_lease_changes_nothing(office: Office):
    await prepared(office.scene, minted(), copy=False)
    await office.world.run()
    slow = await office.taken()
    assert await office.requests.take(1, 60) == []
    await office.lose_leases()
    quick = await office.taken()
    assert not await office.requests.answer(slow, "failed")
    assert await office.requests.answer(quick, "current")
    assert await office.answer() == "current"


async def test_what_is_asked_while_somebody_works_on_it_is_looked_at_again(office: Office):
    await prepared(office.scene, minted(), copy=False)
    await office.world.run()
    asked = await office.taken()
    await office.world.run()
    await office.requests.answer(asked, "current")
    assert await office.copier().serve() == 1
    assert len(await office.copies()) == 1


def issuer_process(database: Database, folder: Path, auth: str) -> subprocess.Popen[bytes]:
    """An issuer of its own that knows the key that signs this test's grants."""
    keys = folder / "keys-of-grants"
    keys.mkdir(exist_ok=True)
    public = SIGNING_KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (keys / "issuer-test.pub.pem").write_bytes(public)
    env = issuer_environment(database, folder, auth) | {"MANA_KEYS_DIR": str(keys)}
    with (folder / "issuer.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "supervisor.custody.issuer"], env=env, stderr=log
        )


@pytest.mark.one_postgres
async def test_a_request_outlives_the_issuer_that_was_killed_over_it(
    office: Office, database: Database, tmp_path: Path
):
    world = office.world
    await prepared(office.scene, minted(), copy=False)
    await world.run()
    async with FakeAuth() as auth:
        admin = await database.connect("postgres")
        hold = admin.transaction()
        await hold.start()  # keeps whoever has sealed the copy from putting it
        await admin.execute("SELECT FROM mana_ai.mission_snapshots FOR UPDATE")
        doomed = await asyncio.to_thread(issuer_process, database, tmp_path, auth.url)
        try:

            async def is_sealed() -> bool:
                return bool(await office.trail())

            await until(is_sealed, 60)
            os.kill(doomed.pid, signal.SIGKILL)
            await asyncio.to_thread(doomed.wait)
        finally:
            doomed.kill()
            await hold.rollback()
            await admin.close()
        heir = await asyncio.to_thread(issuer_process, database, tmp_path, auth.url)
        try:
            await office.lose_leases()

            async def is_there() -> bool:
                return bool(await office.copies())

            await until(is_there, 60)
        finally:
            heir.terminate()
            assert await asyncio.to_thread(heir.wait, 20) == 0
    world.provider.script.extend([PLAN, DONE])
    assert (await world.run()).outcome == "ran"


async def test_a_copy_from_the_owners_client_is_as_good(office: Office):
    """What a client put is not made again, and no key is lent for it."""
    await prepared(office.scene, minted(age_s=10), copy=False)
    await office.world.run()
    assert await put(office.world, copy_for(minted(age_s=10)))
    assert await office.copier().serve() == 1
    assert (await office.answer(), office.custody.lent_keys) == ("current", [])
