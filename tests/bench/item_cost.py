"""CPU of a planned mission on a whole node: the node's tree of processes, and Postgres's."""

from datetime import UTC, datetime, timedelta

from tests.bench.cpu import burned_by_kind, postmaster, tree_of
from tests.bench.figures import Figure, Say, in_five, median
from tests.bench.ground import Ground, node_on
from tests.bench.herd import AGENTS, NOTHING_AHEAD
from tests.fake_provider import FakeProvider
from tests.node import NodeProcess

FIVE = 5
_SEEN_MS = 0.1


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
    total = [sum(kinds.values()) for kinds in found]
    parts = {kind: [kinds.get(kind, 0.0) for kinds in found] for each in found for kind in each}
    dear = sorted(parts.items(), key=lambda part: -median(part[1]))
    return [
        in_five(f"{what}: all together", total, "ms"),
        *(in_five(f"of that {kind}", ms, "ms") for kind, ms in dear if median(ms) >= _SEEN_MS),
    ]


async def _round(
    say: Say, ground: Ground, node: NodeProcess, prefix: str, each: int
) -> dict[str, float]:
    """CPU-ms per mission by kind of process, from the push to the last plan."""
    server = await postmaster(ground.sql)
    before = burned_by_kind([*node.processes(), *tree_of(server)])
    began = datetime.now(UTC)
    await _planned(ground, prefix, each)
    took = datetime.now(UTC) - began
    after = burned_by_kind([*node.processes(), *tree_of(server)])
    missions = AGENTS * each
    spent = {
        kind: (after.get(kind, 0.0) - before.get(kind, 0.0)) * 1000 / missions
        for kind in before | after
    }
    say(f"{missions} in {took.total_seconds():.1f} s: {sum(spent.values()):.1f} CPU-ms each")
    return spent


async def _planned(ground: Ground, prefix: str, each: int) -> None:
    """Missions that are due at once, and all planned."""
    await ground.missions(prefix, AGENTS, each, datetime.now(UTC) - timedelta(milliseconds=1))
    await ground.planned(prefix, AGENTS * each)
