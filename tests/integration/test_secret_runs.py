"""What a run that read granted records leaves: sealed answers, wiped keys, no text."""

import asyncio
import hashlib
import json
import logging
from collections.abc import AsyncGenerator, Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from mana_actors.agent.model.calls import ModelCalls
from mana_actors.keys.client import KeyHolder
from mana_actors.messages import Order, Report
from state.sealing.journal import JournalKeys
from tests.fake_provider import Entry
from tests.integration.key_scene import DAY_S, Scene, key_scene, minted
from tests.integration.support import DONE, PLAN, World, killed_at, open_world
from tests.integration.test_granted_runs import CANARY, prepared
from tests.postgres import Database

pytestmark = pytest.mark.one_postgres
MANA = ("u1", "legacy:ai-default")
QUOTES: Entry = {
    "content": f"Denn da steht {CANARY}",
    "calls": [{"name": "create_task", "args": {"title": f"{CANARY} backen"}}],
    "usage": [80, 20],
}
ASKS_ANOTHER: Entry = {
    "calls": [
        {
            "name": "task",
            "args": {"subagent_type": "plan", "description": "d", "prompt": f"{CANARY}?"},
        }
    ],
    "usage": [80, 20],
}
TELLS: Entry = {"content": f"Ja, {CANARY}.", "usage": [40, 10]}
KEPT_FOR_LOOKING = [
    "CREATE TABLE public.kept AS SELECT * FROM mana_ai.journal",
    "GRANT ALL ON public.kept TO PUBLIC",
    """CREATE FUNCTION public.keep() RETURNS trigger LANGUAGE plpgsql AS
       $$ BEGIN INSERT INTO public.kept SELECT NEW.*; RETURN NULL; END $$""",
    """CREATE TRIGGER keep AFTER INSERT OR UPDATE ON mana_ai.journal
       FOR EACH ROW EXECUTE FUNCTION public.keep()""",
]


@pytest.fixture
async def scene(database: Database, tmp_path: Path) -> AsyncGenerator[Scene]:
    async with open_world(database) as world, key_scene(world, tmp_path) as made:
        await drive(made)
        yield made


async def drive(scene: Scene, **settings: Any) -> None:
    """Run with these settings from now on."""
    scene.world.driver = scene.world.new_driver(key_socket=str(scene.socket_path), **settings)
    await scene.world.driver.start()


async def journal(world: World) -> list[tuple[int, str, str]]:
    rows = await world.sql("SELECT round, request_hash, answer FROM mana_ai.journal ORDER BY round")
    return [(row["round"], row["request_hash"], row["answer"]) for row in rows]


async def tables_with(world: World, text: str) -> set[str]:
    """Every table of the database with a row that holds this text."""
    tables = await world.sql(
        "SELECT n.nspname || '.' || quote_ident(c.relname) AS name FROM pg_class AS c"
        " JOIN pg_namespace AS n ON n.oid = c.relnamespace"
        " WHERE c.relkind = 'r' AND n.nspname IN ('mana_ai', 'public', 'auth')"
    )
    found: set[str] = set()
    for (name,) in tables:
        rows = f"SELECT EXISTS (SELECT FROM {name} AS t WHERE strpos(t::text, $1) > 0)"
        if await world.value(rows, text):
            found.add(name)
    return found


# --- the sealed journal ---------------------------------------------------------------------------


async def test_answers_of_a_run_that_read_secrets_are_kept_sealed(scene: Scene):
    world = scene.world
    world.provider.script = [QUOTES]
    await prepared(scene, minted(exposure="any"))
    await killed_at(scene.world, "after_journal")
    ((number, digest, answer),) = await journal(world)
    assert number == 1
    assert answer.startswith("enc:1:")
    assert digest != hashlib.sha256(world.provider.requests[0].raw).hexdigest()
    assert await tables_with(world, CANARY) == set(), "not one readable word of it"


async def test_another_attempt_reads_the_sealed_journal_instead_of_paying(scene: Scene):
    world = scene.world
    world.provider.script = [QUOTES, DONE]
    await prepared(scene, minted(exposure="any"))
    await killed_at(scene.world, "after_journal")
    report = await world.run()
    assert (report.outcome, report.steps) == ("ran", 1)
    assert len(world.provider.requests) == 2
    assert await world.spent() == [100, 50]
    assert await scene.outcomes() == [("released", None)] * 2, "each attempt asks the key holder"
    assert await journal(world) == []


async def test_a_renewed_grant_of_the_same_scope_still_reads_it(scene: Scene):
    world = scene.world
    world.provider.script = [QUOTES, DONE]
    await prepared(scene, minted(exposure="any", age_s=3600))
    await killed_at(scene.world, "after_journal")
    await (await world.client()).edit(grant=minted(exposure="any"))
    await world.driver.fold_all()
    assert (await world.run()).outcome == "ran"
    assert await world.spent() == [100, 50]


async def test_sub_agents_and_compaction_are_kept_sealed_too(scene: Scene):
    world = scene.world
    await drive(scene, compact_max_ctx=60)
    for statement in KEPT_FOR_LOOKING:
        await world.sql(statement)
    world.provider.script = [ASKS_ANOTHER, TELLS, QUOTES, QUOTES, TELLS, DONE]
    await (await world.client()).agent()
    await prepared(scene, minted(exposure="any"))
    assert (await world.run()).outcome == "ran"
    kept = {row["round"]: row["answer"] for row in await world.sql("SELECT * FROM public.kept")}
    assert set(kept) == {0, 1, 2, 3, 4, 1001}
    assert all(answer.startswith("enc:1:") for answer in kept.values())


async def test_with_the_grant_revoked_nothing_is_left_to_read(scene: Scene):
    world = scene.world
    world.provider.script = [QUOTES, DONE]
    await prepared(scene, minted(exposure="any"))
    await killed_at(scene.world, "after_journal")
    assert len(await journal(world)) == 1
    await (await world.client()).edit(grant=None)
    await world.driver.fold_all()
    assert await journal(world) == [], "the fold that shows it drops the answers"
    assert (await world.run()).decision == "skipped-grant"
    assert len(world.provider.requests) == 1


async def test_with_the_mission_deleted_nothing_is_left_to_read(scene: Scene):
    world = scene.world
    world.provider.script = [QUOTES]
    await prepared(scene, minted(exposure="any"))
    await killed_at(scene.world, "after_journal")
    await (await world.client()).edit(deletedAt="2026-11-01T00:00:00.000Z")
    await world.driver.fold_all()
    assert await journal(world) == []


async def test_with_the_grant_expired_only_sealed_answers_wait_and_the_next_look_drops_them(
    scene: Scene,
):
    world = scene.world
    world.provider.script = [QUOTES]
    await prepared(scene, minted(exposure="any"))
    await killed_at(scene.world, "after_journal")
    await (await world.client()).edit(grant=minted(exposure="any", age_s=8 * DAY_S))
    await world.driver.fold_all()
    assert [answer[:6] for _, _, answer in await journal(world)] == ["enc:1:"]
    assert (await world.run()).decision == "skipped-grant"
    assert await journal(world) == []
    assert len(world.provider.requests) == 1


@pytest.mark.parametrize(
    "damage",
    ["overlay(answer placing 'AAAA' from 30)", "'{}'", '\'{"content": "untergeschoben"}\'', "''"],
)
async def test_a_damaged_answer_is_asked_again_once_and_is_counted(scene: Scene, damage: str):
    world = scene.world
    world.provider.script = [QUOTES, QUOTES, DONE]
    await prepared(scene, minted(exposure="any"))
    await killed_at(scene.world, "after_journal")
    await world.sql(f"UPDATE mana_ai.journal SET answer = {damage}")
    await killed_at(scene.world, "after_journal")
    report = await world.run()
    assert (report.outcome, report.steps) == ("ran", 1)
    assert await world.spent() == [100, 100, 50], "what replaced it was kept"
    assert "untergeschoben" not in world.provider.requests[-1].raw.decode()


async def test_a_damaged_answer_is_not_asked_again_over_the_cap(scene: Scene):
    world = scene.world
    world.provider.script = [QUOTES]
    await (await world.client()).agent(maxTokensPerDay=100_000)
    await prepared(scene, minted(exposure="any"))
    await killed_at(scene.world, "after_journal")
    await world.sql("UPDATE mana_ai.journal SET answer = 'x'")
    await (await world.client()).edit(MANA[1], table="agents", maxTokensPerDay=101)
    await world.driver.fold_all()
    report = await world.run()
    assert (report.outcome, report.decision) == ("waiting", "skipped-budget")
    counts = {count.name for count in report.counts}
    assert "journal_unreadable_total" in counts
    assert len(world.provider.requests) == 1


async def test_a_damaged_plain_answer_breaks_no_run(scene: Scene):
    world = scene.world
    world.provider.script = [PLAN, PLAN, DONE]
    await (await world.client()).mission()
    await world.driver.fold_all()
    await killed_at(scene.world, "after_journal")
    await world.sql("UPDATE mana_ai.journal SET answer = '{'")
    assert (await world.run()).outcome == "ran"
    assert await world.spent() == [100, 100, 50]


# --- how long the keys live -----------------------------------------------------------------------


@pytest.fixture
def derived(monkeypatch: pytest.MonkeyPatch) -> list[JournalKeys]:
    """All journal keys that are derived in this test."""
    made: list[JournalKeys] = []

    class Watched(JournalKeys):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args)
            made.append(self)

    monkeypatch.setattr("mana_actors.agent.model.journal.JournalKeys", Watched)
    return made


def are_wiped(keys: JournalKeys) -> bool:
    try:
        keys.digest(b"x")
    except ValueError:
        return True
    return False


async def stopped_while_it_plans(scene: Scene) -> Report:
    world = scene.world
    world.provider.hold()
    runner = await world.driver.runner(MANA)
    running = asyncio.create_task(runner.run(Order("m1", 0)))
    await asyncio.to_thread(world.provider.wait_for_requests, 1)
    runner.stop("m1", "paused")
    report = await running
    world.provider.release()
    return report


async def cancelled_from_outside(scene: Scene) -> None:
    world = scene.world
    world.provider.hold()
    running = asyncio.create_task(world.run())
    await asyncio.to_thread(world.provider.wait_for_requests, 1)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    world.provider.release()


ENDS: dict[str, tuple[Entry, Callable[[Scene], Any]]] = {
    "a plan": (DONE, lambda scene: scene.world.run()),
    "a back-off": ({"status": 503}, lambda scene: scene.world.run()),
    "a failure": ({"status": 400, "kind": "blocked"}, lambda scene: scene.world.run()),
    "a stop": (DONE, stopped_while_it_plans),
    "a cancellation": (DONE, cancelled_from_outside),
    "an error": (DONE, lambda scene: killed_at(scene.world, "after_answer")),
    "an error before the reading is over": (
        DONE,
        lambda scene: killed_at(scene.world, "after_decrypt"),
    ),
}


@pytest.mark.parametrize("end", ENDS)
async def test_the_keys_are_wiped_however_a_run_ends(
    scene: Scene, derived: list[JournalKeys], end: str
):
    answer, happen = ENDS[end]
    scene.world.provider.script = [answer]
    await prepared(scene, minted(exposure="any"))
    await happen(scene)
    assert [are_wiped(keys) for keys in derived] == [True]


async def test_where_room_goes_after_the_look_for_it_the_keys_are_wiped_too(
    scene: Scene, derived: list[JournalKeys], monkeypatch: pytest.MonkeyPatch
):
    async def seen(*_: object) -> None:
        """There was room a moment ago."""

    monkeypatch.setattr(ModelCalls, "require_room", seen)
    await (await scene.world.client()).agent(maxTokensPerDay=1)
    await prepared(scene, minted(exposure="any"))
    assert (await scene.world.run()).decision == "skipped-budget"
    assert [are_wiped(keys) for keys in derived] == [True]


# --- nothing of it anywhere else ------------------------------------------------------------------

THOUGHTS = {
    "content": None,
    "reasoning_content": CANARY,
    "tool_calls": [{"id": CANARY, "function": {"name": "x", "arguments": "{}"}, "sig": CANARY}],
}
ECHOES: dict[str, Entry] = {
    "an error that echoes": {"status": 400, "kind": "blocked", "message": CANARY},
    "a passing error that echoes": {"status": 503, "text": f"cannot serve: {CANARY}"},
    "codes that echo": {"status": 400, "answer": {"error": {"code": CANARY, "type": CANARY}}},
    "nonsense": {"garbage": CANARY.encode()},
    "a refused call": {"calls": [{"name": CANARY, "args": {"x": CANARY}}], "usage": [1, 1]},
    "wrong arguments": {"calls": [{"name": "create_task", "args": CANARY}], "usage": [1, 1]},
    "an empty plan": {"content": " ", "usage": [1, 1]},
    "a name of a model": {"content": "gut", "usage": [1, 1], "resolved": f"x/{CANARY} und mehr"},
    "an answer too long": {"content": CANARY, "finish": "length", "usage": [1, 1]},
    "thoughts": {"answer": {"choices": [{"message": THOUGHTS}], "usage": {"total_tokens": 9}}},
}


@pytest.mark.parametrize("case", ECHOES)
async def test_what_a_model_service_echoes_reaches_no_row_log_or_report(
    scene: Scene, caplog: pytest.LogCaptureFixture, case: str
):
    caplog.set_level(logging.INFO)
    world = scene.world
    world.provider.script = [ECHOES[case]] * 6
    await prepared(scene, minted(exposure="any"))
    report = await world.run()
    await world.driver.fold_all()
    assert CANARY.encode() in world.provider.requests[0].raw
    assert CANARY not in f"{report}"
    assert CANARY not in caplog.text
    is_plan = case == "an answer too long"  # its summary is the owner's to read
    owners_own = {"public.sync_changes", "mana_ai.mission_snapshots"} if is_plan else set[str]()
    assert await tables_with(world, CANARY) == owners_own


async def test_a_plan_quotes_secrets_in_its_owners_record_alone(scene: Scene):
    world = scene.world
    world.provider.script = [QUOTES, TELLS]
    await prepared(scene, minted(exposure="any"))
    report = await world.run()
    await world.driver.fold_all()
    assert report.outcome == "ran"
    assert CANARY not in f"{report}"
    assert await tables_with(world, CANARY) == {"public.sync_changes", "mana_ai.mission_snapshots"}
    (row,) = await world.sql("SELECT actor FROM public.sync_changes WHERE client_id LIKE 'mana%'")
    assert CANARY not in json.dumps(row["actor"])


# --- the kill points of a reading -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("point", "audited"), [("after_key", 0), ("after_decrypt", 0), ("after_audit", 1)]
)
async def test_a_kill_while_reading_costs_no_call_and_is_in_the_audit(
    scene: Scene, point: str, audited: int
):
    world = scene.world
    world.provider.script = [DONE]
    await prepared(scene, minted(exposure="any"))
    await killed_at(scene.world, point)
    rows = "SELECT count(*) FROM mana_ai.decrypt_audit WHERE status = 'ok'"
    assert await world.value(rows) == audited
    assert await scene.outcomes() == [("released", None)], "the attempt was durable before"
    assert (await world.run()).outcome == "ran"
    assert await world.value(rows) == audited + 1
    assert len(world.provider.requests) == 1


async def test_a_run_that_asked_for_its_key_too_often_fails_visibly(scene: Scene):
    """It would ask in vain for ever: the owner sees it, and the mission moves on."""
    world = scene.world
    await prepared(scene, minted(exposure="any"))
    await killed_at(scene.world, "after_key")
    await world.sql(
        "INSERT INTO mana_ai.key_releases (user_id, agent_id, mission_id, run_id, attempt, outcome)"
        " SELECT k.user_id, k.agent_id, k.mission_id, k.run_id, 1, 'refused'"
        " FROM mana_ai.key_releases AS k, generate_series(1, 99)"
    )
    report = await world.run()
    assert (report.outcome, "too often" in report.reason) == ("failed", True)
    assert len(await scene.releases()) == 100


async def test_a_grant_that_ends_before_a_record_is_opened_stops_the_reading(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
):
    world = scene.world
    await prepared(scene, minted(exposure="any"))
    times = iter((0, 31 * DAY_S * 10**9))
    timed = partial(KeyHolder, clock=lambda: next(times))
    monkeypatch.setattr("mana_actors.agent.attempt.run.KeyHolder", timed)
    report = await world.run()
    assert (report.outcome, report.decision) == ("skip", "skipped-grant")
    assert "ended while" in report.reason
    (row,) = await world.sql("SELECT status, reason FROM mana_ai.decrypt_audit")
    assert tuple(row) == ("failed", "grant-expired-while-reading")
    assert world.provider.requests == []


async def test_a_key_holder_that_waits_for_its_audit_row_gives_no_key(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
):
    """The insert hangs: nothing is decrypted, and the mission comes again."""
    world = scene.world
    await prepared(scene, minted(exposure="any"))
    hasty = partial(KeyHolder, timeout_s=0.5)
    monkeypatch.setattr("mana_actors.agent.attempt.run.KeyHolder", hasty)
    blocker = await world.connect("postgres")
    async with blocker.transaction():
        await blocker.execute("LOCK mana_ai.key_releases IN SHARE MODE")
        report = await world.run()
    assert report.outcome == "waiting"
    assert "timeout" in report.reason
    assert world.provider.requests == []

    assert await world.sql("SELECT * FROM mana_ai.decrypt_audit") == []
