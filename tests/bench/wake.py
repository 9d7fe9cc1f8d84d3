"""From an order to the first line of the run, agent awake, warm or asleep, beside bare actors."""

import asyncio
import time
from datetime import UTC, datetime, timedelta
from typing import Any

from mana_actors.agent.actor import AgentActor
from mana_actors.messages import Order, Orders, encode
from mana_actors.processes import AgentProcess
from supervisor.supervision.dispatch import Pair
from tests.bench.figures import Figure, Say, median, timed
from tests.bench.ground import Ground, ground, sql
from tests.bench.local_ray import Stand, answer, end, local_ray, named, new_bare
from tests.fake_provider import FakeProvider

WARM_MS, DISPATCH_RATIO = 25.0, 1.5
NOBODYS = "no such mission"


class TimedAgent(AgentActor):
    """An agent that remembers when its last run's first line was reached."""

    _first_line_at = 0.0

    async def _carry_out(self, bound: Any, order: Order) -> None:
        self._first_line_at = time.monotonic()  # one clock for all processes of a machine
        await super()._carry_out(bound, order)

    async def first_line_at(self) -> float:
        """On the monotonic clock, in seconds."""
        return self._first_line_at


class _Wakes:
    """Milliseconds per wake: to the first line of the run, to its claim."""

    def __init__(self, stand: Stand, ground: Ground) -> None:
        self._stand, self._ground = stand, ground
        self.first_lines: list[float] = []
        self.claims: list[float] = []

    async def once(self, pair: Pair, mission: str) -> None:
        """Wake an agent that sleeps, and wait for the end of its run."""
        began, began_at = time.monotonic(), datetime.now(UTC)
        await self._stand.give(pair, mission)
        process = self._stand.placement.awake[pair].process
        report = await self._stand.report()
        if report.outcome != "ran":
            raise AssertionError(f"a run ended with {report.outcome}: {report.reason}")
        first_line: float = await answer(named(process.name).first_line_at.remote())
        self.first_lines.append((first_line - began) * 1000)
        opened: datetime = await self._ground.sql.fetchval(sql("run"), pair[0], mission)
        self.claims.append((opened - began_at) / timedelta(milliseconds=1))


async def measure(say: Say, *, quick: bool) -> list[Figure]:
    """Each warm and cold wake is another agent's, since a process is bound once."""
    wakes, calls = (4, 60) if quick else (8, 300)
    with FakeProvider() as model:
        async with ground(say) as made, local_ray(say):
            await made.agents(2 * wakes)
            await made.missions("m", 2 * wakes, 2, datetime.now(UTC) - timedelta(seconds=1))
            stand = Stand(made, TimedAgent, model.url)
            await stand.begin()
            try:
                return await _measured(say, made, stand, wakes, calls)
            finally:
                await stand.close()


async def _measured(say: Say, made: Ground, stand: Stand, wakes: int, calls: int) -> list[Figure]:
    bare = new_bare()
    await answer(bare.tell.remote(b""))
    cold, creations = await _cold(say, made, stand, wakes)
    warm, call = await _warm(say, made, stand, wakes, bare)
    figures = [
        _figure("wake, cold: to the first line of the run", cold.first_lines, creations, _CREATION),
        _figure("wake, cold: to the claim", cold.claims, creations, _CREATION),
        _figure("wake, warm: to the first line of the run", warm.first_lines, call, _CALL, WARM_MS),
        _figure("wake, warm: to the claim", warm.claims, call, _CALL),
    ]
    return figures + await _dispatch(say, stand, bare, calls)


_CREATION, _CALL = "creation of a bare Ray actor", "call of a bare Ray actor"


async def _cold(say: Say, made: Ground, stand: Stand, wakes: int) -> tuple[_Wakes, list[float]]:
    found, creations = _Wakes(stand, made), list[float]()
    for number in range(1, wakes + 1):
        say(f"cold wake {number} of {wakes}")
        if number % 2:
            creations.append(await timed(_create))
        await found.once((f"u{number}", "planner"), f"m{number}-1")
        if not number % 2:
            creations.append(await timed(_create))
    return found, creations


async def _create() -> None:
    actor = new_bare()
    await answer(actor.tell.remote(b""))
    end(actor)


async def _warm(
    say: Say, made: Ground, stand: Stand, wakes: int, bare: Any
) -> tuple[_Wakes, list[float]]:
    found, calls = _Wakes(stand, made), list[float]()
    for number in range(wakes + 1, 2 * wakes + 1):
        say(f"warm wake {number - wakes} of {wakes}")
        await stand.warm(1)
        await asyncio.sleep(0.3)  # the pool is made beforehand, not in that instant
        for _ in range(5):
            calls.append(await timed(lambda: answer(bare.tell.remote(b"x" * 900))))
        await found.once((f"u{number}", "planner"), f"m{number}-1")
    return found, calls


async def _dispatch(say: Say, stand: Stand, bare: Any, calls: int) -> list[Figure]:
    """Orders to an agent that is awake, for a mission it does not have, so that no run follows."""
    say("ordering")
    pair = ("u1", "planner")
    process = stand.placement.awake[pair].process
    token = await stand.schedule.sign_capability(*pair, [], [], 900)
    orders = Orders(stand.epoch, token, (Order(NOBODYS, 0),))
    raw = encode(orders)
    bares: list[float] = []
    tells: list[float] = []
    gives: list[float] = []
    for _ in range(calls):
        bares.append(await timed(lambda: answer(bare.tell.remote(raw))))
        tells.append(await timed(lambda: _told(process, orders)))
        await stand.report()
        gives.append(await timed(lambda: stand.give(pair, NOBODYS)))
        await stand.report()
    return [
        _figure("dispatch: an order to an awake agent", tells, bares, _CALL, ratio=DISPATCH_RATIO),
        _figure("dispatch with a fresh capability", gives, bares, _CALL),
    ]


async def _told(process: AgentProcess, orders: Orders) -> None:
    identity = await process.tell(orders)
    if not identity.accepted:
        raise AssertionError("the order was refused")


def _figure(
    name: str,
    values: list[float],
    others: list[float],
    beside: str,
    most_ms: float | None = None,
    ratio: float | None = None,
) -> Figure:
    value, other = median(values), median(others)
    target, met = "", None
    if most_ms is not None:
        target, met = f"≤ {most_ms:.0f} ms", value <= most_ms
    if ratio is not None:
        target, met = f"≤ {ratio}x", value / other <= ratio
    return Figure(
        name=name,
        value=value,
        unit="ms",
        beside=beside,
        other=other,
        ratio=value / other,
        target=target,
        met=met,
    )
