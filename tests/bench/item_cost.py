"""CPU of a planned mission on a whole node: the node's tree of processes, and Postgres's."""

from datetime import UTC, datetime, timedelta

from tests.bench.cpu import burned_s, postmaster, tree_of
from tests.bench.figures import Figure, Say, in_five
from tests.bench.ground import Ground, node_on
from tests.bench.herd import AGENTS, NOTHING_AHEAD
from tests.fake_provider import FakeProvider
from tests.node import NodeProcess

FIVE = 5


async def measure(say: Say, *, quick: bool) -> list[Figure]:
    """Agents are awake before; the model, in this process, answers at once."""
    each = 2 if quick else 8
    with FakeProvider() as model:
        async with node_on(say, model.url, **NOTHING_AHEAD) as (made, node):
            await made.agents(AGENTS)
            say(f"waking {AGENTS} agents")
            await _planned(made, "wakes", 1)
            found = [
                await _round(say, made, node, f"round{number}x", each)
                for number in range(1 if quick else FIVE)
            ]
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
    await ground.planned(prefix, AGENTS * each)
