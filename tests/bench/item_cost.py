"""CPU of a planned mission on a whole node: the node's tree of processes, and Postgres's."""

import asyncio
from datetime import UTC, datetime, timedelta

from tests.bench.cpu import burned_s, postmaster, tree_of
from tests.bench.figures import Figure, Say, in_five
from tests.bench.ground import Ground, ground, sql
from tests.fake_provider import FakeProvider
from tests.node import NodeProcess

AGENTS = 30
FIVE = 5
_WITHIN_S = 240.0


async def measure(say: Say, *, quick: bool) -> list[Figure]:
    """Agents are awake before; the model, in this process, answers at once."""
    each = 2 if quick else 8
    with FakeProvider() as model:
        async with ground(say) as made:
            say("starting a node")
            node = NodeProcess(
                made.database,
                model.url,
                MANA_WARM_POOL="0",
                MANA_PREPARE_AHEAD_S="0",
                MANA_AGENT_IDLE_S="900",
            )
            try:
                await asyncio.to_thread(node.start)
                await made.agents(AGENTS)
                say(f"waking {AGENTS} agents")
                await _planned(made, "wakes", 1)
                found = [
                    await _round(say, made, node, f"round{number}x", each)
                    for number in range(1 if quick else FIVE)
                ]
            finally:
                await asyncio.to_thread(node.close)
    what = f"CPU per mission, {AGENTS * each} at once of {AGENTS} awake agents"
    return [
        in_five(f"{what}: all together", [ours + theirs for ours, theirs in found], "ms"),
        in_five(f"{what}: the node's processes", [ours for ours, _ in found], "ms"),
        in_five(f"{what}: Postgres's", [theirs for _, theirs in found], "ms"),
    ]


async def _round(
    say: Say, ground: Ground, node: NodeProcess, prefix: str, each: int
) -> tuple[float, float]:
    """CPU-ms per mission, of the node and of Postgres, from the push to the last plan."""
    server = await postmaster(ground.sql)
    before = burned_s(node.processes()), burned_s(tree_of(server))
    began = datetime.now(UTC)
    await _planned(ground, prefix, each)
    took = datetime.now(UTC) - began
    after = burned_s(node.processes()), burned_s(tree_of(server))
    missions = AGENTS * each
    ours, theirs = ((b - a) * 1000 / missions for a, b in zip(before, after, strict=True))
    say(f"{missions} missions in {took.total_seconds():.1f} s: {ours + theirs:.1f} CPU-ms each")
    return ours, theirs


async def _planned(ground: Ground, prefix: str, each: int) -> None:
    """Missions that are due at once, and all planned."""
    await ground.missions(prefix, AGENTS, each, datetime.now(UTC) - timedelta(milliseconds=1))
    async with asyncio.timeout(_WITHIN_S):
        while True:
            await asyncio.sleep(0.1)
            row = await ground.sql.fetchrow(sql("herd"), prefix)
            if row is not None and row["runs"] == AGENTS * each and not row["unfinished"]:
                return
