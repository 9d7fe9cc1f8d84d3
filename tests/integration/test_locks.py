"""Locks go in one order: installation, user, ledger, run, snapshots. Two orders would deadlock.

Somebody holds one row. Whoever comes waits for it, has what comes before, and nothing of the rest.
"""

import asyncio
import uuid
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from state.rules.budgets import Hold
from state.store.agent import Unsettled
from tests.integration.hand import MANA, Hand, claimed
from tests.integration.support import LEASE_OVER, LONG_AGO, World, until
from tests.postgres import SUPERUSER

pytestmark = pytest.mark.one_postgres

ROWS = {
    "installation": "mana_ai.install",
    "user": "mana_ai.ledger WHERE agent_id = ''",
    "ledger": f"mana_ai.ledger WHERE agent_id = '{MANA[1]}'",
    "run": "mana_ai.runs",
    "mission": "mana_ai.mission_snapshots",
}
ENDING = ["ledger", "run", "mission"]


async def claim(hand: Hand, _call: Unsettled) -> None:
    await hand.store.claim("m1", LONG_AGO, 60_000, "another", "{}", claim_id=uuid.uuid4())


async def begin(hand: Hand, _call: Unsettled) -> None:
    await hand.store.begin_call(hand.claim.run_id, 1, 2, "digest", Hold(1), 60_000)


async def settle(hand: Hand, call: Unsettled) -> None:
    await hand.store.end_call(call)


async def commit(hand: Hand, call: Unsettled) -> None:
    await hand.commit(unsettled=call)


async def withdraw(hand: Hand, call: Unsettled) -> None:
    await hand.store.withdraw(hand.closing(call), "gone", 1)


async def wait(hand: Hand, call: Unsettled) -> None:
    await hand.store.wait(hand.closing(call), "later", 1, "back-off", failed=True)


async def renew(hand: Hand, _call: Unsettled) -> None:
    await hand.store.renew([(hand.claim.run_id, 1)], 60_000)


async def cancel(hand: Hand, _call: Unsettled) -> None:
    gateway = await hand.world.connect("mana_gateway")
    await gateway.execute("SELECT mana_ai.cancel_run('u1', $1, 'enough')", hand.claim.run_id)


Step = Callable[[Hand, Unsettled], Coroutine[Any, Any, None]]
STEPS: dict[Step, list[str]] = {
    claim: ENDING,
    begin: ["installation", "user", "ledger", "run"],
    settle: ["ledger", "run"],
    commit: ENDING,
    withdraw: ENDING,
    wait: ENDING,
    renew: ["run", "mission"],
    cancel: ENDING,
}


@pytest.mark.parametrize(
    ("step", "held"),
    [
        pytest.param(step, held, id=f"{step.__name__}-{held}")
        for step, rows in STEPS.items()
        for held in rows
    ],
)
async def test_who_waits_for_a_row_has_what_comes_before_it_and_nothing_after(
    world: World, step: Step, held: str
):
    client = await world.client()
    await client.agent()
    await client.mission()
    await world.driver.fold_all()
    hand = await claimed(world)
    await world.sql(
        "INSERT INTO mana_ai.limits (kind, user_id, agent_id, tokens)"
        " VALUES ('installation', '', '', 9999), ('user', 'u1', '', 9999)"
    )
    call = await hand.answered()
    await world.sql(LEASE_OVER)
    holder = await world.connect(SUPERUSER)
    waits = f"{holder.get_server_pid()} = ANY (pg_blocking_pids(pid))"
    async with holder.transaction():
        await holder.execute(f"SELECT FROM {ROWS[held]} FOR UPDATE")
        stepping = asyncio.create_task(step(hand, call))
        await until(lambda: world.sql(f"SELECT FROM pg_stat_activity WHERE {waits}"))
        rows = STEPS[step]
        free = [
            row
            for row in rows
            if await world.sql(f"SELECT FROM {ROWS[row]} FOR UPDATE SKIP LOCKED")
        ]
        assert free == rows[rows.index(held) + 1 :]
    await stepping
