"""An agent's session that keeps a transaction open is ended, and nobody who waits for it (P9)."""

import asyncio
from collections.abc import Callable, Coroutine
from datetime import timedelta
from functools import partial

import asyncpg
import pytest

from state.runs.reasons import told
from supervisor.supervision import upkeep
from supervisor.supervision.metrics import Metrics
from supervisor.supervision.upkeep import REMEMBERED_S, Culprits, one_round
from tests.integration.support import DONE, LONG_AGO, World, until
from tests.integration.test_held import MANA, Clock, Culprit, culprit_of, two_people

pytestmark = pytest.mark.one_postgres

OLD_S = 0.5
BY_AGE_ALONE = """
CREATE OR REPLACE FUNCTION mana_ai.old_sessions(p_older_s double precision)
RETURNS TABLE (pid int, application text, age_s double precision, xids xid[])
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  SELECT a.pid, a.application_name, 1.0::double precision, '{}'::xid[]
    FROM pg_stat_activity AS a
   WHERE a.usename = 'mana_agent' AND a.datname = current_database()
     AND a.xact_start < clock_timestamp() - p_older_s * interval '1 second' $$
"""
WAITING = (
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
    " AND usename = 'mana_agent' AND wait_event_type = 'Lock'"
    f" AND xact_start < clock_timestamp() - {OLD_S} * interval '1 second'"
)
OLD = (
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
    " AND pid = ANY ($1) AND xact_start IS NOT NULL"
    f" AND xact_start < clock_timestamp() - {OLD_S} * interval '1 second'"
)


def pid_of(connection: asyncpg.Connection) -> int:
    return connection.get_server_pid()


async def ended(world: World) -> list[int]:
    """The sessions that one round ends."""
    sessions = await world.driver.schedule.end_sessions(world.store.lease, OLD_S)
    return [session.pid for session in sessions]


async def is_gone(culprit: Culprit) -> bool:
    return culprit.connection.is_closed()


async def is_old(world: World, *pids: int) -> bool:
    return await world.value(OLD, list(pids)) == len(pids)


CALL = "SELECT outcome FROM mana_ai.begin_call(NULL, $1, 1, 1, 'hash', 10, 60000)"


async def three_wait_for_one(
    world: World,
) -> tuple[Culprit, list[Culprit], list[asyncio.Task[str]]]:
    """One keeps the installation's ledger; three of others wait for it, all for long."""
    users = ("u1", "u2", "u3", "u4")
    for user in users:
        client = await world.client(user)
        await client.agent(MANA)
        await client.mission()
    await world.driver.fold_all()
    await world.sql("INSERT INTO mana_ai.limits (kind, tokens) VALUES ('installation', 1000000)")
    culprit, *victims = [await culprit_of(world, user=user) for user in users]
    runs = [await one.claim("m1") for one in (culprit, *victims)]
    assert await culprit.connection.fetchval(CALL, runs[0]) == "go"
    calls = [
        asyncio.create_task(victim.connection.fetchval(CALL, run))
        for victim, run in zip(victims, runs[1:], strict=True)
    ]

    async def all_wait() -> bool:
        return await world.value(WAITING) == len(victims) and await is_old(
            world, pid_of(culprit.connection)
        )

    await until(all_wait)
    return culprit, victims, calls


async def test_of_one_culprit_and_three_victims_only_the_culprit_ends(world: World):
    culprit, victims, calls = await three_wait_for_one(world)
    assert await ended(world) == [pid_of(culprit.connection)]
    waiting = dict(zip(calls, victims, strict=True))
    while waiting:  # one after the other, as each lets go
        done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        for call in done:
            assert call.result() == "go"
            await waiting.pop(call).end()


async def test_by_age_alone_the_victims_would_end_too(world: World):
    culprit, victims, calls = await three_wait_for_one(world)
    await world.sql(BY_AGE_ALONE)
    assert len(await ended(world)) == 4
    # The culprit is gone first: a victim may get what it kept, and hear "go", before its own end.
    await asyncio.gather(*calls, return_exceptions=True)
    await until(partial(is_gone, culprit))
    for victim in victims:
        await until(partial(is_gone, victim))


async def sleeps(connection: asyncpg.Connection) -> None:
    await connection.execute("SELECT pg_sleep(60)")


async def waits_for_a_lock_of_its_own(connection: asyncpg.Connection) -> None:
    await connection.execute("SELECT pg_advisory_xact_lock(4711)")


async def fails(connection: asyncpg.Connection) -> None:
    await connection.execute("SAVEPOINT here")  # what came before it is held still
    with pytest.raises(asyncpg.DivisionByZeroError):
        await connection.execute("SELECT 1 / 0")


async def idles(_: asyncpg.Connection) -> None:
    pass


@pytest.mark.parametrize("state", [sleeps, waits_for_a_lock_of_its_own, fails, idles])
async def test_a_session_is_ended_in_whatever_state_it_is(
    world: World, state: Callable[[asyncpg.Connection], Coroutine[None, None, None]]
):
    await two_people(world)
    accomplice = await world.connect("mana_agent")
    await accomplice.execute("SELECT pg_advisory_lock(4711)")
    bystander = await world.connect("mana_gateway")
    transaction = bystander.transaction()
    await transaction.start()
    await bystander.fetchval("SELECT 1")
    culprit = await culprit_of(world, "m1")
    doing = asyncio.create_task(state(culprit.connection))
    await until(lambda: is_old(world, pid_of(culprit.connection), pid_of(bystander)))
    assert await ended(world) == [pid_of(culprit.connection)]
    await asyncio.gather(doing, return_exceptions=True)
    await until(partial(is_gone, culprit))
    assert await accomplice.fetchval("SELECT 1") == 1, "a session without a transaction stays"
    assert await bystander.fetchval("SELECT 1") == 1, "and so does another login's"
    await transaction.rollback()


async def test_whose_a_session_was_is_told_by_what_it_held_and_not_by_its_name(world: World):
    await two_people(world)
    await world.sql("INSERT INTO mana_ai.ledger (user_id, agent_id) VALUES ('u1', $1)", MANA)
    culprit = await culprit_of(world)
    await culprit.connection.execute("SET application_name = 'u2/legacy:ai-default'")
    await culprit.claim("m1")
    await until(lambda: is_old(world, pid_of(culprit.connection)))
    (session,) = await world.driver.schedule.end_sessions(world.store.lease, OLD_S)
    assert session.pairs == {("u1", MANA)}
    assert session.application == "u2/legacy:ai-default"
    await until(partial(is_gone, culprit))


async def test_who_holds_nothing_is_ended_and_blames_nobody(world: World):
    await two_people(world)
    culprit = await culprit_of(world)
    await culprit.connection.execute("SET application_name = 'u2/legacy:ai-default'")
    await until(lambda: is_old(world, pid_of(culprit.connection)))
    (session,) = await world.driver.schedule.end_sessions(world.store.lease, OLD_S)
    assert session.pairs == frozenset()
    await until(partial(is_gone, culprit))


async def keeps_a_transaction(world: World, culprits: Culprits) -> list[tuple[str, str]]:
    culprit = await culprit_of(world, "m1")
    await until(lambda: is_old(world, pid_of(culprit.connection)))
    barred = await culprits.end(world.store.lease, OLD_S)
    await until(partial(is_gone, culprit))
    return barred


async def test_an_agent_ended_twice_gets_no_orders_and_no_capability(world: World):
    await two_people(world)
    await world.sql("INSERT INTO mana_ai.ledger (user_id, agent_id) VALUES ('u1', $1)", MANA)
    world.driver = world.new_driver(supervision={"agent_session_max_s": OLD_S})
    await world.driver.start()
    for barred in ([], [f"u1/{MANA}"]):
        culprit = await culprit_of(world, "m1")
        await until(partial(is_old, world, pid_of(culprit.connection)))
        await one_round(world.driver.supervision)
        await until(partial(is_gone, culprit))
        assert world.driver.supervision.status()["barred"] == barred
    world.provider.script = [DONE]
    _, reports = await world.driver.tick()
    assert [report.user_id for report in reports] == ["u2"]
    assert [run["user_id"] for run in await world.runs()] == ["u2"]
    snapshot = await world.snapshot()
    assert snapshot["wake_at"] > LONG_AGO + timedelta(days=1), "it is tried later"
    assert (snapshot["decision"], snapshot["reason"]) == ("deferred-barred", told("agent-barred"))


async def test_after_an_hour_a_session_that_was_ended_counts_no_more(world: World):
    await two_people(world)
    await world.sql("INSERT INTO mana_ai.ledger (user_id, agent_id) VALUES ('u1', $1)", MANA)
    clock = Clock()
    culprits = Culprits(world.driver.schedule, Metrics(), clock)
    assert await keeps_a_transaction(world, culprits) == []
    clock.now_s += REMEMBERED_S + 1
    assert await keeps_a_transaction(world, culprits) == []
    assert await keeps_a_transaction(world, culprits) == [("u1", MANA)]
    clock.now_s += REMEMBERED_S + 1
    assert culprits.barred == []


async def test_who_is_barred_has_no_run_to_renew_a_capability_by(world: World):
    await two_people(world)
    culprit = await culprit_of(world)
    run = await culprit.claim("m1")
    await culprit.connection.execute("COMMIT")
    culprits = world.driver.supervision.culprits
    renewed = "SELECT renewed FROM mana_ai.renew(NULL, $1, '{1}', 60000)"
    thief = await culprit_of(world)
    assert await thief.connection.fetchval(renewed, [run]) == [run]
    await thief.end()
    for _ in range(2):
        again = await culprit_of(world)
        await again.connection.fetchval(renewed, [run])
        await until(partial(is_old, world, pid_of(again.connection)))
        await culprits.end(world.store.lease, OLD_S)
        await until(partial(is_gone, again))
    assert culprits.barred == [("u1", MANA)]
    await until(lambda: is_suspended(world, culprits))
    last = await culprit_of(world)
    assert await last.connection.fetchval(renewed, [run]) is None


async def is_suspended(world: World, culprits: Culprits) -> bool:
    await culprits.end(world.store.lease, OLD_S)
    return [run["state"] for run in await world.runs()] == ["waiting"]


async def test_a_supervisor_at_work_ends_who_keeps_a_transaction_open(
    world: World, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(upkeep, "EVERY_S", 0.02)
    await two_people(world)
    world.provider.script = [DONE, DONE]
    driver = world.new_driver(supervision={"agent_session_max_s": OLD_S})
    culprit = await culprit_of(world, "m1")
    async with driver.running():
        await until(partial(is_gone, culprit))
    counters = driver.supervision.metrics.snapshot()["counters"]
    assert counters["sessions_ended_total"] == {"[]": 1.0}
