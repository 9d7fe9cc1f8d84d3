"""From a client's commit to its run and to its plan, on a whole node with the agent awake."""

import asyncio
import math
from datetime import UTC, datetime, timedelta

from tests.bench.figures import Figure, Say, percentile
from tests.bench.ground import Ground, node_on, sql
from tests.fake_provider import FakeProvider

POLL_MS = 50.0  # MANA_FOLD_POLL_MS
USER = 1
_WITHIN_S = 60.0


async def measure(say: Say, *, quick: bool) -> list[Figure]:
    """One mission after the other, each due as it is written, at varied phases of the poll."""
    times = 20 if quick else 100
    with FakeProvider() as model:
        awake = {"MANA_WARM_POOL": "1", "MANA_AGENT_IDLE_S": "900"}
        async with node_on(say, model.url, **awake) as (made, _):
            await made.agents(USER)
            delays = await _delays(say, made, times)
    opened, planned = zip(*delays, strict=True)
    return [
        _figure("run opened, agent awake, p50", percentile(opened, 0.5)),
        _figure("run opened, agent awake, p99", percentile(opened, 0.99)),
        _figure("plan committed, model answers at once, p50", percentile(planned, 0.5)),
        _figure("plan committed, model answers at once, p99", percentile(planned, 0.99)),
    ]


def _figure(what: str, value: float) -> Figure:
    return Figure(
        name=f"commit to {what}",
        value=value,
        unit="ms",
        beside="the interval of the fold's poll",
        other=POLL_MS,
        ratio=value / POLL_MS,
    )


async def _delays(say: Say, ground: Ground, times: int) -> list[tuple[float, float]]:
    await _delay(ground, "wakes")
    await _delay(ground, "wakes-again")
    say(f"{times} missions")
    delays: list[tuple[float, float]] = []
    for number in range(times):
        await asyncio.sleep(0.1 + math.modf(number * 0.618)[0] * POLL_MS / 1000)
        delays.append(await _delay(ground, f"m{number}-"))
    return delays


async def _delay(ground: Ground, prefix: str) -> tuple[float, float]:
    """Milliseconds from the commit of one mission to its run row, and to its plan."""
    await ground.missions(prefix, USER, 1, datetime.now(UTC) - timedelta(milliseconds=1))
    committed: datetime = datetime.now(UTC)
    async with asyncio.timeout(_WITHIN_S):
        while True:
            row = await ground.sql.fetchrow(sql("run"), "u1", f"{prefix}1-1")
            if row is not None and row["state"] == "committed":
                ms = timedelta(milliseconds=1)
                return (row["opened_at"] - committed) / ms, (row["closed_at"] - committed) / ms
            await asyncio.sleep(0.02)
