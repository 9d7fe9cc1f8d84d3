"""A guard nobody can see missing is not there: each is switched off, and something breaks.

More of these stand beside what they guard: the late-row rule and the shard's lock in test_fold.py,
the poll below its floor in test_feed.py, the sweep in test_reconcile.py, the ledger's lock in
test_budget.py.
"""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from mana_actors.messages import Order
from state.log.stamps import format_instant
from tests.integration.support import (
    DONE,
    LEASE_OVER,
    LONG_AGO,
    PLAN,
    World,
    killed_at,
    text,
)

MANA = ("u1", "legacy:ai-default")

ANY_ATTEMPT = """
CREATE OR REPLACE FUNCTION mana_ai.settled_run(
  p_capability text, p_run uuid, p_attempt int, p_call text,
  OUT run_id uuid, OUT is_open boolean, OUT charged bigint)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  held jsonb := mana_ai.require_capability(p_capability);
BEGIN
  SELECT r.run_id INTO settled_run.run_id FROM mana_ai.runs AS r
   WHERE r.run_id = p_run AND r.user_id = held ->> 'u' FOR UPDATE;
  is_open := true;
END $$"""
FORGET = """
CREATE FUNCTION mana_ai.forget() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$"""
FORGETS_ANSWERS = """
CREATE TRIGGER forget BEFORE INSERT ON mana_ai.journal
  FOR EACH ROW EXECUTE FUNCTION mana_ai.forget()"""


async def due_mission(world: World) -> None:
    await (await world.client()).mission()
    await world.driver.fold_all()


async def overtaken(world: World) -> None:
    """Two attempts of one occurrence: the first's lease ends while its model thinks."""
    world.provider.script = [DONE, DONE]
    await due_mission(world)
    world.provider.hold()
    runners = [await world.driver.runner(MANA, name) for name in ("first", "second")]
    attempts: list[asyncio.Task[object]] = []
    for number, runner in enumerate(runners, 1):
        attempts.append(asyncio.create_task(runner.run(Order("m1", 0))))
        await asyncio.to_thread(world.provider.wait_for_requests, number)
        await world.sql(LEASE_OVER)
    world.provider.release()
    await asyncio.gather(*attempts)


async def calls_after_a_kill_once_journalled(world: World) -> int:
    """How often the first of two calls is made; its answer is settled before the second."""
    world.provider.script = [PLAN, DONE, DONE]
    await due_mission(world)
    await killed_at(world, "after_journal")
    assert (await world.run()).outcome == "ran"
    asked = [request.raw for request in world.provider.requests]
    return asked.count(asked[0])


async def next_run_after_a_clock_ahead(world: World) -> str:
    client = await world.client()
    await client.mission()
    ahead = datetime.now(UTC) + timedelta(hours=1)
    await client.edit(iterations=[], nextRunAt=text(LONG_AGO), stamp=ahead)
    await world.driver.fold_all()
    assert (await world.run()).outcome == "ran"
    await world.driver.fold_all()
    return (await world.record())["nextRunAt"]


async def test_an_overtaken_attempt_writes_nothing(world: World):
    await overtaken(world)
    assert len(await world.written()) == 1


async def test_without_the_attempt_check_an_overtaken_attempt_writes_too(world: World):
    await world.sql(ANY_ATTEMPT)
    await overtaken(world)
    assert len(await world.written()) == 2


async def test_a_journalled_answer_is_not_asked_for_again(world: World):
    assert await calls_after_a_kill_once_journalled(world) == 1


async def test_without_the_journal_a_killed_run_pays_twice(world: World):
    await world.sql(FORGET)
    await world.sql(FORGETS_ANSWERS)
    assert await calls_after_a_kill_once_journalled(world) == 2


async def test_a_written_slot_moves_on_though_a_client_is_ahead(world: World):
    assert await next_run_after_a_clock_ahead(world) > text(datetime.now(UTC))


async def test_without_winning_stamps_a_client_ahead_keeps_its_slot(
    world: World, monkeypatch: pytest.MonkeyPatch
):
    def plain_now(now_ns: int, _current: str | None) -> str:
        return format_instant(now_ns)

    monkeypatch.setattr("state.runs.commit.winning_stamp", plain_now)
    assert await next_run_after_a_clock_ahead(world) == text(LONG_AGO)
