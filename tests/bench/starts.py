"""Agents' processes started by Ray and as forks: how fast, with how much CPU and memory each."""

import asyncio
import time

import msgspec

from mana_actors.agent.actor import AgentActor
from mana_actors.messages import Hello
from mana_actors.processes import AgentProcess
from mana_actors.remote import RayProcesses
from tests.bench.figures import Figure, Say, median
from tests.bench.local_ray import SINK, local_ray
from tests.bench.memory import memory_of

AT_ONCE = 8


class Starts(msgspec.Struct):
    """Of one way to start: seconds of each alone, of all at once; of each CPU-s and MiB."""

    alone_s: list[float]
    together_s: list[float]
    cpu_s: list[float]
    proportional_mib: list[float]


async def measure(say: Say, *, quick: bool) -> list[Figure]:
    """Both in one run, a Ray for each; no agent is bound."""
    rounds = 1 if quick else 3
    async with local_ray(say, forks=False):
        plain = await _started(say, rounds, forks=False)
    async with local_ray(say):
        forked = await _started(say, rounds, forks=True)
    rows = [
        ("one after the other", "s", forked.alone_s, plain.alone_s),
        (f"{AT_ONCE} at once", "s", forked.together_s, plain.together_s),
        ("its own CPU", "CPU-s", forked.cpu_s, plain.cpu_s),
        ("its share of memory", "MiB", forked.proportional_mib, plain.proportional_mib),
    ]
    return [
        Figure(
            name=f"start of an agent's process: {name}",
            value=median(ours),
            unit=unit,
            beside="started by Ray",
            other=median(rays),
            ratio=median(ours) / median(rays),
        )
        for name, unit, ours, rays in rows
    ]


async def _started(say: Say, rounds: int, *, forks: bool) -> Starts:
    processes = RayProcesses(AgentActor, "bench")
    found = Starts([], [], [], [])
    made = 0

    async def started(count: int) -> list[AgentProcess]:
        nonlocal made
        new = [processes.create(f"agent-bench-{made + n}") for n in range(count)]
        made += count
        told = await asyncio.gather(*(one.tell(Hello(1, SINK), 120.0) for one in new))
        found.cpu_s.extend(identity.cpu_s for identity in told if identity.is_fork == forks)
        for one in told:
            if one.is_fork == forks and count > 1:
                found.proportional_mib.append(memory_of(one.pid).proportional)
        return new

    idle = await started(2)  # workers that stood ready since Ray's start
    for number in range(rounds):
        say(f"{'forked' if forks else 'started by Ray'}: round {number + 1} of {rounds}")
        for _ in range(AT_ONCE):
            began = time.monotonic()
            idle += await started(1)
            found.alone_s.append(time.monotonic() - began)
        began = time.monotonic()
        idle += await started(AT_ONCE)
        found.together_s.append(time.monotonic() - began)
        for process in idle:
            process.kill()
        idle.clear()
    return found
