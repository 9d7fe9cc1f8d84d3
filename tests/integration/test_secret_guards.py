"""Guards of decrypted text, each switched off so that something breaks (P7)."""

import hashlib
import uuid
from collections.abc import AsyncGenerator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from mana_actors.agent.model.journal import Journal
from mana_actors.keys.client import HeldKey, KeyHolder, KeyHolderUnreachable
from mana_actors.keys.protocol import AskForKey
from mana_actors.keys.releases import NotedReply, Releases
from state.sealing.journal import JournalKeys
from state.store.connect import Refused
from state.store.keys import RunClaim
from tests.faults.invariants import CHECKS
from tests.integration.key_scene import DAY_S, Scene, key_scene, minted
from tests.integration.support import DONE, killed_at, open_world
from tests.integration.test_granted_runs import CANARY, prepared
from tests.integration.test_secret_runs import QUOTES, are_wiped, drive
from tests.postgres import Database

pytestmark = pytest.mark.one_postgres

NO_ROW = """
CREATE OR REPLACE FUNCTION mana_ai.note_release(p_run uuid, p_attempt int, p_mission text,
  p_outcome text, p_reason text, p_version text, p_records text[], p_expires timestamptz)
RETURNS uuid LANGUAGE sql AS $$ SELECT gen_random_uuid() $$"""
ANY_OUTCOME = """
CREATE OR REPLACE FUNCTION mana_ai.audit_outcome(p_capability text, p_release uuid,
  p_iteration text, p_tables text[], p_records text[], p_statuses text[], p_reasons text[])
RETURNS void LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  SELECT mana_ai.require_capability(p_capability);
  INSERT INTO mana_ai.decrypt_audit (user_id, mission_id, iteration_id, table_name, record_id,
                                     status, run_id, attempt, release_id)
  SELECT 'u1', 'm1', p_iteration, k.t, k.r, k.s, (SELECT run_id FROM mana_ai.runs), 1, p_release
    FROM unnest(p_tables, p_records, p_statuses) AS k (t, r, s) $$"""
FAIL_LATE = """
CREATE FUNCTION public.fail_late() RETURNS trigger LANGUAGE plpgsql AS
 $$ BEGIN RAISE EXCEPTION 'the disk is full'; END $$"""
FAILS_AT_COMMIT = """
CREATE CONSTRAINT TRIGGER fail_late AFTER INSERT ON mana_ai.key_releases
  DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION public.fail_late()"""


@pytest.fixture
async def scene(database: Database, tmp_path: Path) -> AsyncGenerator[Scene]:
    async with open_world(database) as world, key_scene(world, tmp_path) as made:
        await drive(made)
        yield made


# --- audit first ----------------------------------------------------------------------------------


async def unaudited_readings(scene: Scene) -> int:
    """What I4 finds after a run that read a granted note."""
    scene.world.provider.script = [QUOTES, DONE]
    await prepared(scene, minted(exposure="any"))
    await scene.world.run()
    checks = [statement for name, statement in CHECKS.items() if name.startswith("I4")]
    return sum([len(await scene.world.sql(statement)) for statement in checks])


async def test_every_reading_has_an_earlier_release(scene: Scene):
    assert await unaudited_readings(scene) == 0


async def test_without_the_release_row_a_reading_stands_alone(scene: Scene):
    await scene.world.sql(NO_ROW)
    await scene.world.sql(ANY_OUTCOME)
    assert await unaudited_readings(scene) == 1


async def test_without_a_release_no_outcome_is_taken_and_nothing_is_planned(scene: Scene):
    """The second guard behind the first: the agent cannot tell of what was never released."""
    await scene.world.sql(NO_ROW)
    assert await unaudited_readings(scene) == 0
    assert scene.world.provider.requests == []
    assert [run["state"] for run in await scene.world.runs()] == ["open"]


async def keys_without_a_durable_row(scene: Scene) -> int:
    """How many keys were held though the row of none could be committed."""
    await scene.mission(minted(exposure="any"))
    await scene.world.sql(FAIL_LATE)
    await scene.world.sql(FAILS_AT_COMMIT)
    held = 0
    try:
        async with scene.data_key():
            held += 1
    except KeyHolderUnreachable:
        pass
    assert await scene.releases() == []
    return held


async def test_no_key_leaves_before_its_row_has_committed(scene: Scene):
    assert await keys_without_a_durable_row(scene) == 0


async def test_answering_before_the_commit_lets_a_key_go_without_a_row(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
):
    async def hasty(self: Releases, ask: AskForKey) -> NotedReply:
        run, decision = RunClaim(ask.run_id, ask.attempt, ask.mission_id), None
        try:
            async with self._store.request(  # pyright: ignore[reportPrivateUsage]
                ask.capability, run
            ) as request:
                decision = await self._decided(  # pyright: ignore[reportPrivateUsage]
                    request, ask
                )
        except Refused:
            assert decision is not None
        return decision

    monkeypatch.setattr(Releases, "_durable", hasty)
    assert await keys_without_a_durable_row(scene) == 1


# --- the sealed journal ---------------------------------------------------------------------------


async def kept(scene: Scene) -> tuple[bool, bool]:
    """Whether the journal of a killed run shows the note, and confirms a guess at its prompt."""
    world = scene.world
    world.provider.script = [QUOTES]
    await prepared(scene, minted(exposure="any"))
    await killed_at(scene.world, "after_journal")
    (row,) = await world.sql("SELECT request_hash, answer FROM mana_ai.journal")
    guess = hashlib.sha256(world.provider.requests[0].raw).hexdigest()
    return CANARY in row["answer"], row["request_hash"] == guess


async def test_the_journal_shows_nothing_and_confirms_no_guess(scene: Scene):
    assert await kept(scene) == (False, False)


async def test_without_its_seal_the_journal_shows_the_note(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
):
    def plain(_self: Journal, _key: Any, _run: uuid.UUID) -> None:
        """Whatever was read, answers are kept as they are."""

    monkeypatch.setattr(Journal, "seal", plain)
    assert await kept(scene) == (True, True)


async def test_with_a_plain_hash_a_sealed_journal_confirms_a_guess(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
):
    def digest(_self: Journal, request: Any) -> str:
        return hashlib.sha256(request.raw).hexdigest()

    monkeypatch.setattr(Journal, "digest", digest)
    assert await kept(scene) == (False, True)


async def answer_that_was_planned(scene: Scene) -> str:
    """What becomes of an answer that somebody moved to another call of the run."""
    world = scene.world
    world.provider.script = [QUOTES, {"content": "erst spaeter", "usage": [1, 1]}]
    world.provider.script *= 2
    await prepared(scene, minted(exposure="any"))
    # The next attempt keeps each answer at once.
    await killed_at(scene.world, "after_claim")
    await killed_at(scene.world, "in_commit")
    await world.sql(
        "UPDATE mana_ai.journal SET answer = (SELECT answer FROM mana_ai.journal WHERE round = 2)"
        " WHERE round = 1"
    )
    report = await world.run()
    return f"{report.steps} steps"


async def test_an_answer_moved_to_another_call_is_not_taken(scene: Scene):
    assert await answer_that_was_planned(scene) == "1 steps"


async def test_an_answer_not_bound_to_its_request_can_be_moved(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
):
    bound = JournalKeys.opened, JournalKeys.sealed

    def opened(self: JournalKeys, _digest: str, text: str) -> str:
        return bound[0](self, "any", text)

    def sealed(self: JournalKeys, _digest: str, answer: str, iv: bytes) -> str:
        return bound[1](self, "any", answer, iv)

    monkeypatch.setattr(JournalKeys, "opened", opened)
    monkeypatch.setattr(JournalKeys, "sealed", sealed)
    assert await answer_that_was_planned(scene) == "0 steps"


# --- how long a key and a grant live --------------------------------------------------------------


async def test_without_the_wipe_a_runs_keys_outlive_it(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
):
    made: list[Journal] = []

    def forgotten(self: Journal) -> None:
        made.append(self)

    monkeypatch.setattr(Journal, "wipe", forgotten)
    scene.world.provider.script = [DONE]
    await prepared(scene, minted(exposure="any"))
    await scene.world.run()
    keys = made[-1]._keys  # pyright: ignore[reportPrivateUsage]
    assert keys is not None
    assert not are_wiped(keys)


async def read_after_the_end(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> str:
    """The decision about a mission whose grant ends once its key was released."""
    times = iter((0, 31 * DAY_S * 10**9))
    timed = partial(KeyHolder, clock=lambda: next(times))
    monkeypatch.setattr("mana_actors.agent.attempt.run.KeyHolder", timed)
    scene.world.provider.script = [DONE]
    await prepared(scene, minted(exposure="any"))
    return (await scene.world.run()).decision or ""


async def test_a_grant_that_ended_opens_nothing(scene: Scene, monkeypatch: pytest.MonkeyPatch):
    assert await read_after_the_end(scene, monkeypatch) == "skipped-grant"


async def test_without_the_look_at_the_clock_a_grant_that_ended_still_opens(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(HeldKey, "is_expired", property(lambda _held: False))
    assert await read_after_the_end(scene, monkeypatch) == "ran"
