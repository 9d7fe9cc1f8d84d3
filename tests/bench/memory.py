"""What an agent's process takes beside a bare Ray actor: resident, and its share."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec

from mana_actors.agent.actor import AgentActor
from mana_actors.messages import Hello
from tests.bench.figures import Figure, Say, median
from tests.bench.ground import ground
from tests.bench.local_ray import SINK, Stand, answer, local_ray, new_bare
from tests.fake_provider import FakeProvider

TARGET = 1.3
MIB = 1024.0


class Memory(msgspec.Struct, frozen=True):
    """Of one process, in MiB."""

    resident: float
    proportional: float


def memory_of(pid: int) -> Memory:
    """What the kernel says of a process."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    kib = {line.split(":")[0]: int(line.split()[1]) for line in lines}
    return Memory(kib["Rss"] / MIB, kib["Pss"] / MIB)


async def measure(say: Say, *, quick: bool) -> list[Figure]:
    """As many bare actors as agents, all alive at once, so that they share alike."""
    count = 3 if quick else 6
    with FakeProvider() as model:
        async with ground(say) as made, local_ray(say):
            await made.agents(count)
            await made.missions("m", count, 1, datetime.now(UTC) - timedelta(seconds=1))
            stand = Stand(made, AgentActor, model.url)
            await stand.begin()
            try:
                return await _measured(say, stand, count)
            finally:
                await stand.close()


async def _measured(say: Say, stand: Stand, count: int) -> list[Figure]:
    say(f"making {count} bare actors and {count} agents")
    actors = [new_bare() for _ in range(count)]
    bares = [int(await answer(actor.pid.remote())) for actor in actors]
    await stand.warm(count)
    pids: list[int] = []
    bound: list[Memory] = []
    for number in range(1, count + 1):
        pair = (f"u{number}", "planner")
        await stand.give(pair, "no such mission")  # bound, and has looked into the database
        await stand.report()
        pids.append(stand.placement.awake[pair].pid)
        bound.append(memory_of(pids[-1]))
    say("one run each")
    for number in range(1, count + 1):
        await stand.give((f"u{number}", "planner"), f"m{number}-1")
        report = await stand.report()
        if report.outcome != "ran":
            raise AssertionError(f"a run ended with {report.outcome}: {report.reason}")
    await stand.placement.awake[("u1", "planner")].process.tell(Hello(stand.epoch, SINK))
    plain = [memory_of(pid) for pid in bares]
    ran = [memory_of(pid) for pid in pids]
    return [
        *_figures("awake agent, before its first run", bound, plain, TARGET),
        *_figures("awake agent, after a run", ran, plain, TARGET),
    ]


def _figures(name: str, ours: list[Memory], plain: list[Memory], target: float) -> list[Figure]:
    resident = _figure(
        f"{name}: resident", [m.resident for m in ours], [m.resident for m in plain], target
    )
    proportional = _figure(
        f"{name}: proportional", [m.proportional for m in ours], [m.proportional for m in plain]
    )
    return [resident, proportional]


def _figure(
    name: str, ours: list[float], plain: list[float], target: float | None = None
) -> Figure:
    value, other = median(ours), median(plain)
    return Figure(
        name=name,
        value=value,
        unit="MiB",
        beside="a bare Ray actor",
        other=other,
        ratio=value / other,
        target="" if target is None else f"≤ {target}x",
        met=None if target is None else value / other <= target,
    )
