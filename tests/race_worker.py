"""`python -m tests.race_worker CONFIG`: one agent's process without Ray, until it is killed.

It looks at what is due, takes a few missions at random, and runs them at once.
"""

import asyncio
import random
import sys
from typing import Any

import msgspec

from mana_actors.agent.attempt.run import Runner
from mana_actors.messages import AgentSettings
from state.store.connect import Access
from state.store.supervisor.snapshots import Lease
from supervisor.supervision.dispatch import Caps, Pair, dispatch
from tests.driver import Driver

EVERYTHING = Lease("race", 0, 0, 256)
AT_ONCE = 6


class Config(msgspec.Struct, frozen=True):
    """Whose missions, on which database, by which model."""

    pair: Pair
    dsn: str
    password_files: dict[str, str]
    settings: AgentSettings


async def work(config: Config) -> None:
    """Run what is due, for ever."""

    def access(role: str) -> Access:
        return Access(config.dsn, role, config.password_files[role])

    driver = Driver(access, config.settings)
    runner = await driver.runner(config.pair, "race")
    while True:
        if not await turn(driver, runner):
            await asyncio.sleep(0.05)


async def turn(driver: Driver, runner: Runner) -> int:
    """One look; returns how many missions were run."""
    looked = dispatch(await driver.schedule.due(EVERYTHING, 500), {}, Caps(1000, 1000))
    orders = [order for mine in looked.orders.values() for order in mine]
    ordered = {order.mission_id for order in orders}
    await driver.schedule.look_again([k for k in looked.looks if k.mission_id not in ordered])
    await driver.schedule.note_decisions(looked.decided)
    chosen: list[Any] = random.sample(orders, min(AT_ONCE, len(orders)))
    await asyncio.gather(*(runner.run(order) for order in chosen))
    return len(chosen)


if __name__ == "__main__":
    asyncio.run(work(msgspec.json.decode(sys.argv[1], type=Config)))
