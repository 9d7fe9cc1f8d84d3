"""After quiet, every device has what the log's replay gives, whatever happened to it before.

A few seeds here; `make converge SEEDS=1000` tries more of them.
"""

import asyncio
import os
from pathlib import Path

import pytest

from tests.convergence.workload import run
from tests.owners import House

pytestmark = pytest.mark.one_postgres

AT_ONCE = 8  # one gateway serves so many runs, most of which wait for a network that is cut
SEEDS = int(os.environ.get("MANA_CONVERGE_SEEDS", "16"))
FIRST = int(os.environ.get("MANA_CONVERGE_FIRST", "0"))
CHUNK = max(AT_ONCE, 40 if SEEDS > AT_ONCE * 2 else AT_ONCE)


@pytest.mark.parametrize("first", range(FIRST, FIRST + SEEDS, CHUNK))
async def test_all_devices_end_with_what_the_log_says(house: House, tmp_path: Path, first: int):
    rest = iter(range(first, min(first + CHUNK, FIRST + SEEDS)))
    found: dict[int, list[str]] = {}

    async def some() -> None:
        for seed in rest:
            if broken := await run(house, tmp_path, seed):
                found[seed] = broken

    await asyncio.gather(*(some() for _ in range(AT_ONCE)))
    assert found == {}
