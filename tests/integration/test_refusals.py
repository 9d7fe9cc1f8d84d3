"""A refusal that a change overtook is not stored: its mission is looked at again at once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest

from mana_actors.messages import Report
from state.runs.outcome import Skipped
from state.store.supervisor.schedule import DueMission
from supervisor.supervision.dispatch import Caps, dispatch
from tests.integration.support import LONG_AGO, Client, World

pytestmark = pytest.mark.one_postgres

MANA = "legacy:ai-default"
Change = Callable[[World, Client], Awaitable[None]]


async def cap_raised(world: World, client: Client) -> None:
    await client.edit(MANA, table="agents", maxTokensPerDay=9000)
    await world.driver.fold_all()


async def resumed(world: World, client: Client) -> None:
    await client.edit(MANA, table="agents", state="active")
    await world.driver.fold_all()


async def run_now(world: World, client: Client) -> None:
    await world.sql("SELECT mana_ai.request_run($1, 'm1', 'a-key')", client.user_id)


async def zone_moved(world: World, client: Client) -> None:
    await world.sql(
        "INSERT INTO mana_ai.user_settings (user_id, time_zone) VALUES ($1, 'Asia/Tokyo')",
        client.user_id,
    )


async def limit_lifted(world: World, client: Client) -> None:
    await world.sql("SELECT mana_ai.set_limit('agent', 'u1', $1, 9000, NULL, true, false)", MANA)


async def users_limit_lifted(world: World, client: Client) -> None:
    await world.sql("SELECT mana_ai.set_limit('user', 'u1', '', 9000, NULL, true, false)")


CHANGES: list[Change] = [cap_raised, resumed, run_now, zone_moved]


async def refused(world: World, **agent: Any) -> tuple[Client, DueMission]:
    """A client whose mission is due, and refused as its agent is."""
    client = await world.client()
    await client.agent(**agent)
    await client.mission()
    await world.driver.fold_all()
    (due,) = await world.driver.schedule.due(world.driver.tenure.lease, 10)
    return client, due


async def is_due(world: World) -> bool:
    return bool(await world.driver.schedule.due(world.driver.tenure.lease, 10))


@pytest.mark.parametrize("change", CHANGES)
async def test_a_look_that_a_change_overtook_says_nothing(world: World, change: Change):
    client, due = await refused(world, state="paused", maxTokensPerDay=0)
    word = dispatch([due], {}, Caps())
    assert [each.decision for each in word.decided] == ["skipped-paused"]
    await change(world, client)
    settled = await world.driver.schedule.settle(word.looks, word.decided)
    assert (settled.noted, settled.overtaken) == ([], {("u1", "m1")})
    assert await is_due(world)
    assert (await world.snapshot())["decision"] is None


@pytest.mark.parametrize("lift", [limit_lifted, users_limit_lifted])
async def test_a_look_that_a_limit_overtook_says_nothing(world: World, lift: Change):
    kind, agent = ("agent", MANA) if lift is limit_lifted else ("user", "")
    await world.sql("SELECT mana_ai.set_limit($1, 'u1', $2, 0, NULL, true, false)", kind, agent)
    client, due = await refused(world)
    word = dispatch([due], {}, Caps())
    assert [each.decision for each in word.decided] == ["skipped-budget"]
    await lift(world, client)
    settled = await world.driver.schedule.settle(word.looks, word.decided)
    assert settled.overtaken == {("u1", "m1")}
    assert await is_due(world)


async def test_a_look_that_nothing_overtook_is_kept(world: World):
    _, due = await refused(world, maxTokensPerDay=0)
    word = dispatch([due], {}, Caps())
    settled = await world.driver.schedule.settle(word.looks, word.decided)
    assert (settled.noted, settled.overtaken) == (["skipped-budget"], set())
    assert not await is_due(world)


async def told_late(world: World, due: DueMission, change: Change, client: Client) -> None:
    """An agent's refusal for its cap, heard after the mission changed while it was ordered."""
    ordered = due.now + timedelta(hours=1)  # looked at again should its process die
    await world.sql("UPDATE mana_ai.mission_snapshots SET wake_at = $1", ordered)
    await change(world, client)
    refusal = Report(
        holder="agent-1",
        user_id="u1",
        agent_id=MANA,
        mission_id="m1",
        version=due.version,
        ended=Skipped("skipped-budget", "the cap is used up", LONG_AGO, None),
        decided_by=due.versions,
    )
    await world.driver.supervision.report(refusal)


@pytest.mark.parametrize("change", [cap_raised, resumed, run_now, zone_moved, limit_lifted])
async def test_a_report_that_a_change_overtook_puts_nothing_to_sleep(world: World, change: Change):
    await world.sql("SELECT mana_ai.set_limit('agent', 'u1', $1, 10, NULL, true, false)", MANA)
    client, due = await refused(world, state="paused", maxTokensPerDay=10)
    if change is limit_lifted:
        await client.edit(MANA, table="agents", maxTokensPerDay=20)
        await world.driver.fold_all()
        (due,) = await world.driver.schedule.due(world.driver.tenure.lease, 10)
    await told_late(world, due, change, client)
    assert await is_due(world)
    assert (await world.snapshot())["decision"] is None


async def test_a_report_that_nothing_overtook_is_kept(world: World):
    async def nothing(_world: World, _client: Client) -> None:
        pass

    client, due = await refused(world, maxTokensPerDay=10)
    await told_late(world, due, nothing, client)
    assert not await is_due(world)
    snapshot = await world.snapshot()
    assert (snapshot["decision"], snapshot["wake_at"]) == ("skipped-budget", None)
