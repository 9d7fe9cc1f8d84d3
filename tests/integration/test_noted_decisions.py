"""A decision that a transaction causes is noted in it, though nobody lives to report it."""

from collections.abc import AsyncGenerator

import pytest

from mana_actors.messages import Order
from tests.integration.support import DONE, LONG_AGO, PLAN, World, open_world, text
from tests.postgres import Database

MANA = ("u1", "legacy:ai-default")
DECISIONS = "SELECT decision, reason FROM mana_ai.decisions ORDER BY id"


class Died(BaseException):
    """The process is gone at once, as by SIGKILL: nothing of it runs any more."""


def die(point: str) -> None:
    """At the moment between the last transaction of a run and its report."""
    if point == "after_commit_before_reply":
        raise Died


@pytest.fixture
async def world(database: Database) -> AsyncGenerator[World]:
    async with open_world(database, [PLAN, DONE]) as opened:
        yield opened


async def decisions_of_a_run_whose_report_is_lost(world: World) -> list[str]:
    await world.driver.fold_all()
    runner = await world.driver.runner(MANA, crash=die)
    with pytest.raises(Died):
        await runner.run(Order("m1", 0))
    return [row["decision"] for row in await world.sql(DECISIONS)]


async def test_a_plan(world: World):
    await (await world.client()).mission()
    assert await decisions_of_a_run_whose_report_is_lost(world) == ["ran"]


async def test_a_failure(world: World):
    world.provider.script = [{"content": ""}]
    await (await world.client()).mission()
    assert await decisions_of_a_run_whose_report_is_lost(world) == ["failed"]


async def test_a_wait_for_room(world: World):
    client = await world.client()
    await client.agent(maxTokensPerDay=10)
    await client.mission()
    assert await decisions_of_a_run_whose_report_is_lost(world) == ["skipped-budget"]
    snapshot = await world.snapshot()
    assert snapshot["decision"] == "skipped-budget"
    assert snapshot["reason"].startswith("one call needs up to")


async def test_a_wait_for_room_that_is_heard_of_is_noted_once(world: World):
    client = await world.client()
    await client.agent(maxTokensPerDay=10)
    await client.mission()
    await world.driver.fold_all()
    first, again = await world.run(), await world.run()
    assert {first.decision, again.decision} == {"skipped-budget"}
    assert [row["decision"] for row in await world.sql(DECISIONS)] == ["skipped-budget"]


async def test_a_skip_for_a_grant(world: World):
    sealed = {"module": "notes", "table": "notes", "id": "n1"}
    client = await world.client()
    await client.push(
        "insert", "n1", {"id": "n1", "title": "enc:1:x.y"}, table="notes", app="notes"
    )
    await client.mission(inputs=[sealed])
    assert await decisions_of_a_run_whose_report_is_lost(world) == ["skipped-grant"]


async def test_a_run_whose_slot_its_owner_moved(world: World):
    world.provider.script = [{"status": 500}, PLAN, DONE]
    client = await world.client()
    await client.mission()
    await world.driver.fold_all()
    assert (await world.run()).outcome == "waiting"
    await client.edit(nextRunAt=text(LONG_AGO.replace(day=6)))
    assert await decisions_of_a_run_whose_report_is_lost(world) == ["withdrawn", "ran"]
    (moved, _) = await world.sql(DECISIONS)
    assert moved["reason"] == "the owner moved the next run"
