"""What the model router adds to a call: the same answer asked of the provider and through it."""

import multiprocessing
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mana_actors.agent.planner.exchange import ChatMessage, ModelRequest
from mana_actors.llm.client import HttpProvider
from mana_actors.llm.router.settings import OneService
from tests.bench.figures import Figure, Say, percentile, timed
from tests.fake_provider import FakeProvider
from tests.router_parts import RunningRouter

TARGET_MS = 2.0
WARM_UP = 20
REQUEST = ModelRequest("mana/reasoning", (ChatMessage("user", "Plane die Woche. " * 400),))


async def measure(say: Say, *, quick: bool) -> list[Figure]:
    """Calls one after the other, in turns, so that noise meets both alike."""
    times = 100 if quick else 500
    with (
        FakeProvider() as model,
        tempfile.TemporaryDirectory() as folder,
        _router(Path(folder), model.url) as (url, token_file),
    ):
        direct, routed = HttpProvider(model.url), HttpProvider(url, key_file=token_file)
        say(f"{times} calls each way")
        alone, through = await _in_turns(direct, routed, times)
        await direct.aclose()
        await routed.aclose()
    return [
        _figure("p50", percentile(alone, 0.5), percentile(through, 0.5), TARGET_MS),
        _figure("p99", percentile(alone, 0.99), percentile(through, 0.99), None),
    ]


def _figure(what: str, alone: float, through: float, target_ms: float | None) -> Figure:
    """The difference of two percentiles of one run."""
    added = through - alone
    return Figure(
        name=f"added to a model call by the router, {what}",
        value=added,
        unit="ms",
        beside="the same call to the provider directly",
        other=alone,
        ratio=through / alone,
        target="" if target_ms is None else f"<= {target_ms:.0f} ms",
        met=None if target_ms is None else added <= target_ms,
    )


async def _in_turns(
    direct: HttpProvider, routed: HttpProvider, times: int
) -> tuple[list[float], list[float]]:
    for provider in (direct, routed):
        for _ in range(WARM_UP):
            await provider.complete(REQUEST, deadline_s=10)
    alone: list[float] = []
    through: list[float] = []
    for _ in range(times):
        alone.append(await timed(lambda: direct.complete(REQUEST, deadline_s=10)))
        through.append(await timed(lambda: routed.complete(REQUEST, deadline_s=10)))
    return alone, through


@contextmanager
def _router(folder: Path, url: str) -> Generator[tuple[str, Path]]:
    """A router in a process of its own, as on a node."""
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    process = spawn.Process(target=_serve, args=(theirs, str(folder), url), daemon=True)
    process.start()
    try:
        yield ours.recv(), folder / "llm_token"
    finally:
        ours.send("end")
        process.join(10)


def _serve(pipe: Any, folder: str, url: str) -> None:
    with RunningRouter(Path(folder), OneService("service", url, "local")) as router:
        pipe.send(router.url)
        pipe.recv()  # until the bench is over
