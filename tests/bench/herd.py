"""Sixty missions due in one instant: thirty awake agents, then thirty that sleep."""

import asyncio
import time
from datetime import UTC, datetime, timedelta

from tests.bench.figures import Figure, Say, in_five, median
from tests.bench.ground import Ground, node_on
from tests.bench.local_ray import answer, local_ray, new_bare
from tests.fake_provider import Entry, FakeProvider

AGENTS, EACH, MODEL_S = 30, 2, 1.0
AHEAD_S = 4.0
NOTHING_AHEAD = {
    "MANA_WARM_POOL": "0",
    "MANA_PREPARE_AHEAD_S": "0",
    "MANA_AGENT_IDLE_S": "900",
}
"""No process is made before it is needed, and none ends while it may be needed again."""


async def measure(say: Say, *, quick: bool) -> list[Figure]:
    """First from cold, since that wakes the agents for the rounds after it."""
    rounds = 1 if quick else 5
    slow: Entry = {"content": "fertig", "usage": [40, 10], "delay_s": MODEL_S}
    with FakeProvider([slow] * (AGENTS * EACH * (rounds + 2))) as model:
        async with node_on(say, model.url, **NOTHING_AHEAD) as (made, _):
            cold, awake = await _herds(say, made, rounds)
            say(f"most model calls at once: {model.most_in_flight}")
    floor = await _floor(say)
    ideal = EACH * MODEL_S  # an agent runs one mission at a time, all agents at once
    missions = f"{AGENTS * EACH} due missions of {AGENTS}"
    beside = {"beside": "the ideal", "other": ideal, "ratio": median(awake) / ideal}
    return [
        in_five(f"herd: {missions} awake agents", awake, "s", **beside),
        _figure(f"herd: {missions} sleeping agents", cold, "the ideal", ideal),
        _figure(
            f"herd: {missions} sleeping agents",
            cold,
            f"creation of {AGENTS} bare Ray actors, then the ideal",
            floor + ideal,
        ),
    ]


def _figure(name: str, value: float, beside: str, other: float) -> Figure:
    return Figure(name=name, value=value, unit="s", beside=beside, other=other, ratio=value / other)


async def _herds(say: Say, ground: Ground, rounds: int) -> tuple[float, list[float]]:
    await ground.agents(AGENTS)
    say(f"{AGENTS} agents asleep")
    cold = await _herd(say, ground, "cold")
    awake: list[float] = []
    for number in range(rounds):
        say(f"{AGENTS} agents awake, round {number + 1} of {rounds}")
        awake.append(await _herd(say, ground, f"awake{number}x"))
    return cold, awake


async def _herd(say: Say, ground: Ground, prefix: str) -> float:
    """Seconds from the instant at which all fall due to the end of the last run."""
    due = datetime.now(UTC) + timedelta(seconds=AHEAD_S)
    due = due.replace(microsecond=due.microsecond // 1000 * 1000)
    await ground.missions(prefix, AGENTS, EACH, due)
    row = await ground.planned(prefix, AGENTS * EACH)
    took = (row["last"] - due).total_seconds()
    first = (row["first"] - due) / timedelta(milliseconds=1)
    say(f"{took:.2f} s; the first opened after {first:.0f} ms; {row['calls']} model calls")
    return took


async def _floor(say: Say) -> float:
    """Seconds until so many bare actors, created at once, have answered."""
    async with local_ray(say):
        say(f"creating {AGENTS} bare actors at once")
        began = time.perf_counter()
        await asyncio.gather(*(answer(new_bare().tell.remote(b"")) for _ in range(AGENTS)))
        return time.perf_counter() - began
