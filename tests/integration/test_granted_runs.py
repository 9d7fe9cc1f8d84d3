"""A run reads granted records and nothing else; without a usable grant it is not planned."""

import json
import secrets
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from mana_actors.messages import Report
from state.grants.grant import Derivation, derived_key
from state.runs.outcome import LookAt, after
from state.sealing.copies import SEALED_FIELDS
from state.sealing.values import DataKey, sealed_record
from state.store.connect import Database as Pool
from state.store.owner import AuditFilter, OwnerView
from tests.integration.key_scene import DAY_S, MASTER_KEY, Scene, key_scene, minted
from tests.integration.support import DONE, PLAN, Json, World, open_world
from tests.postgres import Database

pytestmark = pytest.mark.one_postgres

CANARY = "Erdbeerkuchen-7f3a"
NOTE: Json = {"id": "n1", "title": "Einkauf", "content": f"Morgen {CANARY} backen"}
REF: Json = {"module": "notes", "table": "notes", "id": "n1"}


@pytest.fixture
async def scene(database: Database, tmp_path: Path) -> AsyncGenerator[Scene]:
    async with open_world(database) as world, key_scene(world, tmp_path) as scene:
        world.driver = world.new_driver(key_socket=str(scene.socket_path))
        await world.driver.start()
        yield scene


def under(key: DataKey, record: Json = NOTE) -> Json:
    """A note with its secret fields sealed."""
    return sealed_record(record, SEALED_FIELDS["notes"], key, lambda: secrets.token_bytes(12))


def copy_for(grant: Json) -> Json:
    """The note as its owner hands it over for this grant."""
    derivation = Derivation("v2", "m1", ["notes"], grant["derivation"]["recordIds"], "u1")
    with derived_key(MASTER_KEY, "u1", derivation) as key:
        return {"table": "notes", "id": "n1", "fields": under(key)}


async def put(world: World, copy: Json, mission: str = "m1") -> bool:
    """What the gateway does with a copy."""
    gateway = await world.connect("mana_gateway")
    return bool(
        await gateway.fetchval(
            "SELECT mana_ai.put_sealed_copies('u1', $1, $2::jsonb)", mission, json.dumps([copy])
        )
    )


async def prepared(scene: Scene, grant: Json | None, *, copy: bool = True, **more: object) -> None:
    """A mission that reads an encrypted note, folded; its copy handed over."""
    client = await scene.world.client("u1")
    with DataKey(bytearray(MASTER_KEY)) as key:
        await client.push("insert", "n1", under(key), table="notes", app="notes")
    fields: Json = {"inputs": [REF], "grant": grant, **more}
    await client.mission(**fields)
    await scene.world.driver.fold_all()
    if copy and grant is not None:
        assert await put(scene.world, copy_for(grant))


async def assert_skipped(scene: Scene, report: Report, told: str) -> None:
    """Nothing was asked of the model, and the reason is for the owner."""
    assert (report.outcome, report.decision) == ("skip", "skipped-grant")
    assert told in report.reason
    assert scene.world.provider.requests == []
    assert [run["state"] for run in await scene.world.runs()] == ["withdrawn"]


async def test_a_granted_note_is_read_and_its_reading_is_in_the_audit(scene: Scene):
    world = scene.world
    world.provider.script.extend([PLAN, DONE])
    await prepared(scene, minted())
    report = await world.run()
    assert (report.outcome, report.steps) == ("ran", 1)
    assert CANARY.encode() in world.provider.requests[0].raw
    (run,) = await world.runs()
    (release,) = await scene.releases()
    (read,) = [dict(row) for row in await world.sql("SELECT * FROM mana_ai.decrypt_audit")]
    assert (release["outcome"], release["run_id"]) == ("released", run["run_id"])
    assert (read["status"], read["table_name"], read["record_id"]) == ("ok", "notes", "n1")
    assert read["release_id"] == release["release_id"]
    assert read["iteration_id"] == run["iteration_id"]
    counted = {(count.name, count.labels): count.value for count in report.counts}
    assert counted["decrypts_total", ("notes",)] == 2


async def test_a_process_that_was_handed_a_key_knows_it(scene: Scene):
    scene.world.provider.script.extend([PLAN, DONE])
    await prepared(scene, minted())
    runner = await scene.world.driver.runner(("u1", "legacy:ai-default"))
    assert not runner.held_a_key
    await scene.world.order(runner)
    assert runner.held_a_key


async def test_a_process_whose_key_was_refused_held_none(scene: Scene):
    await prepared(scene, minted())
    await (await scene.world.client("u1")).edit("m1", grant=None)  # in the log, not folded
    runner = await scene.world.driver.runner(("u1", "legacy:ai-default"))
    await scene.world.order(runner)
    assert await scene.outcomes() == [("refused", "no-grant")]
    assert not runner.held_a_key


async def test_a_plan_made_of_decrypted_inputs_says_so(scene: Scene):
    scene.world.provider.script.extend([PLAN, DONE])
    await prepared(scene, minted())
    await scene.world.run()
    (written,) = await scene.world.written()
    assert written["data"]["iterations"][-1]["usedEncryptedInputs"] is True


async def test_a_plain_note_is_read_without_grant_and_audit(scene: Scene):
    world = scene.world
    world.provider.script.extend([PLAN, DONE])
    client = await world.client("u1")
    await client.push("insert", "n1", NOTE, table="notes", app="notes")
    await client.mission(inputs=[REF])
    await world.driver.fold_all()
    assert (await world.run()).outcome == "ran"
    assert CANARY.encode() in world.provider.requests[0].raw
    assert await scene.releases() == []
    (written,) = await world.written()
    assert "usedEncryptedInputs" not in written["data"]["iterations"][-1]


async def test_a_mission_without_a_grant_is_not_planned_blind(scene: Scene):
    await prepared(scene, None)
    await assert_skipped(scene, await scene.world.run(), "need a grant")
    assert await scene.releases() == []


async def test_an_expired_grant_is_refused_and_seen(scene: Scene):
    await prepared(scene, minted(age_s=8 * DAY_S), copy=False)
    await scene.world.sql(
        "INSERT INTO mana_ai.sealed_copies VALUES ('u1', 'm1', 'notes', 'n1', $1::jsonb,"
        " now(), now() + interval '1 day')",
        json.dumps(copy_for(minted())["fields"]),
    )
    await assert_skipped(scene, await scene.world.run(), "its grant has ended")
    assert await scene.outcomes() == [("refused", "expired")]


async def test_an_input_newer_than_the_grant_is_no_violation(scene: Scene):
    await prepared(scene, minted(recordIds=["notes:other"]))
    report = await scene.world.run()
    await assert_skipped(scene, report, "does not cover 1")
    assert "grant_scope_violations_total" not in {count.name for count in report.counts}
    assert await scene.releases() == []


async def test_no_key_is_asked_for_before_the_copies_have_come(scene: Scene):
    await prepared(scene, minted(), copy=False)
    report = await scene.world.run()
    await assert_skipped(scene, report, "not handed over")
    assert after(report.ended).look != LookAt(None)
    assert await scene.releases() == []


async def test_a_copy_sealed_with_another_key_is_not_planned_blind(scene: Scene):
    await prepared(scene, minted(), copy=False)
    with DataKey(bytearray(32)) as key:
        assert await put(scene.world, {"table": "notes", "id": "n1", "fields": under(key)})
    await assert_skipped(scene, await scene.world.run(), "could not be opened")
    (row,) = await scene.world.sql("SELECT status, reason FROM mana_ai.decrypt_audit")
    assert tuple(row) == ("failed", "ciphertext-tampered-or-wrong-key")


async def test_a_revoked_grant_takes_copies_along_and_the_next_run_is_refused(scene: Scene):
    world = scene.world
    await prepared(scene, minted())
    await (await world.client("u1")).edit("m1", grant=None)
    await world.driver.fold_all()
    assert await world.sql("SELECT * FROM mana_ai.sealed_copies") == []
    await assert_skipped(scene, await world.run(), "need a grant")
    assert not await put(world, copy_for(minted()))


async def test_a_grant_revoked_after_the_look_is_refused_by_the_key_holder(scene: Scene):
    await prepared(scene, minted())
    await (await scene.world.client("u1")).edit("m1", grant=None)  # in the log, not folded
    await assert_skipped(scene, await scene.world.run(), "its grant is gone")
    assert await scene.outcomes() == [("refused", "no-grant")]


async def test_a_key_holder_that_is_away_is_asked_again_later(scene: Scene):
    await prepared(scene, minted())
    scene.world.driver = scene.world.new_driver(key_socket=str(scene.socket_path) + "-gone")
    await scene.world.driver.start()
    report = await scene.world.run()
    assert report.outcome == "waiting"
    assert "key holder" in report.reason
    assert scene.world.provider.requests == []


async def test_an_agent_sees_copies_of_its_own_missions_only(scene: Scene):
    await prepared(scene, minted())
    for user, agent, expected in (
        ("u1", "legacy:ai-default", 1),
        ("u1", "another", 0),
        ("u2", "legacy:ai-default", 0),
    ):
        store = await scene.store(user, agent)
        async with store.transaction() as connection:
            seen = await connection.fetchval("SELECT count(*) FROM mana_ai.sealed_copies")
        assert (user, agent, seen) == (user, agent, expected)


async def test_an_owner_finds_the_run_of_every_look_in_the_audit(scene: Scene):
    """Both halves: the attempt and its outcome, by release, run and iteration."""
    world = scene.world
    world.provider.script.extend([PLAN, DONE])
    await prepared(scene, minted())
    await world.run()
    (run,) = await world.runs()
    view = OwnerView(Pool(world.access("mana_gateway"), max_connections=1))
    (row,) = await view.trail("u1", AuditFilter(mission="m1"), 10)
    assert (row.run_id, row.attempt, row.iteration_id) == (
        run["run_id"],
        run["attempt"],
        run["iteration_id"],
    )
    assert (row.status, row.granted, row.released_at is not None) == ("ok", ["notes:n1"], True)
    assert await view.trail("u2", AuditFilter(), 10) == []
    await view.close()
