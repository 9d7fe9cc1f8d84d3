"""Three hundred agents that sleep, all due in one minute: how fast they are planned, at what cost.

They must not fall off: those that are done may not take the cores from those to come.
"""

import asyncio
import time
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.bench.cpu import Meter, burned_s, postmaster, tree_of
from tests.bench.figures import Figure, Say
from tests.bench.ground import node_on, sql
from tests.fake_provider import Entry, FakeProvider

AGENTS, QUICK_AGENTS = 300, 60
MODEL_S = 1.0
EACH_S = 30
GIVE_UP_S = 480.0
TARGET_S = 200.0


async def measure(say: Say, *, quick: bool) -> list[Figure]:
    """As an installation does it by itself, but for processes made ready ahead."""
    agents = QUICK_AGENTS if quick else AGENTS
    slow: Entry = {"content": "fertig", "usage": [40, 10], "delay_s": MODEL_S}
    with FakeProvider([slow] * agents) as model:
        ahead = {"MANA_WARM_POOL": "0", "MANA_PREPARE_AHEAD_S": "0"}
        async with node_on(say, model.url, **ahead) as (made, node):
            await made.agents(agents)
            server = await postmaster(made.sql)
            meter = Meter()
            before = meter.look(node.processes()) + burned_s(tree_of(server))
            due = datetime.now(UTC) - timedelta(milliseconds=1)
            await made.missions("crowd", agents, 1, due)
            began, planned, per_part = time.monotonic(), 0, list[int]()
            while planned < agents and time.monotonic() - began < GIVE_UP_S:
                await asyncio.sleep(0.5)
                meter.look(node.processes())
                row = await made.sql.fetchrow(sql("herd"), "crowd")
                now = 0 if row is None else row["runs"] - row["unfinished"]
                part = int((time.monotonic() - began) / EACH_S)
                if part >= len(per_part):
                    say(f"planned per {EACH_S} s: {per_part}")
                    per_part += [0] * (part + 1 - len(per_part))
                per_part[part] += now - planned
                planned = now
            took = time.monotonic() - began
            burned = meter.look(node.processes()) + burned_s(tree_of(server)) - before
            say(f"planned per {EACH_S} s: {per_part}; {burned:.0f} CPU-s")
            told: dict[str, Any] = (await asyncio.to_thread(node.status))["supervisor"] or {}
            metrics = (await asyncio.to_thread(node.http, "GET", "/metrics")).text.splitlines()
            for line in metrics:
                if line.startswith("mana_ai_agents_woken_total"):
                    say(line)
            say(f"idle agents sleep by this: {told.get('idle', 'not measured here')}")
    name = f"{planned} of {agents} sleeping agents, all due at once"
    whole = [n for n in per_part[1:-1] if n] or per_part
    return [
        Figure(
            name=f"{name}: until the last is planned",
            value=took,
            unit="s",
            target="" if quick else f"≤ {TARGET_S:.0f} s",
            met=None if quick else planned == agents and took <= TARGET_S,
        ),
        Figure(name=f"{name}: CPU per run", value=burned / max(1, planned), unit="s"),
        Figure(
            name=f"{name}: planned in the last whole {EACH_S} s",
            value=whole[-1],
            unit="",
            beside="in the second",
            other=whole[0],
            ratio=whole[-1] / max(1, whole[0]),
        ),
    ]
