"""Whole runs through our own router, against every personality of the zoo.

The alias file says where each service is and nothing else: what it lacks has to be learnt.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncGenerator, Generator
from pathlib import Path
from typing import Any

import pytest

from mana_actors.llm.router.settings import AliasFile
from tests.integration.support import Json, World, open_world
from tests.postgres import Database
from tests.router_parts import RunningRouter
from tests.zoo.keeper import THOUGHT, TITLES, Personality, Zoo, alias_text
from tests.zoo.rules import NAME
from tests.zoo.species import ALL
from tests.zoo.speech import EXACT

NOT_YET = {
    "openai-reasoning",
    "gemini-schema",
    "kimi",
    "mistral",
    "vllm",
    "sglang",
    "llama-cpp",
    "ollama-thinking",
}
CASES = [
    pytest.param(
        one,
        id=one.name,
        marks=[pytest.mark.xfail(reason="its ways are not known yet")] * (one.name in NOT_YET),
    )
    for one in ALL
]


@pytest.fixture(scope="module")
def zoo() -> Generator[Zoo]:
    with Zoo(ALL) as open_zoo:
        yield open_zoo


@pytest.fixture(scope="module")
def router(zoo: Zoo, tmp_path_factory: pytest.TempPathFactory) -> Generator[RunningRouter]:
    folder: Path = tmp_path_factory.mktemp("zoo")
    file = folder / "aliases.yaml"
    file.write_text(alias_text(zoo, {name: [name] for name in zoo.residents}))
    with RunningRouter(folder, AliasFile(str(file))) as running:
        yield running


@pytest.fixture
async def world(database: Database) -> AsyncGenerator[World]:
    async with open_world(database) as opened:
        yield opened


@pytest.mark.parametrize("personality", CASES)
async def test_a_plan_is_made_paid_and_whole(
    personality: Personality, zoo: Zoo, router: RunningRouter, world: World
):
    resident = zoo.anew(personality.name)
    world.driver.settings = world.settings(
        model_url=router.url,
        model_key_file=str(router.token_file),
        model=f"mana/{personality.name}",
        max_output_tokens=4096,
    )
    client = await world.client()
    await client.agent()
    await client.mission()
    await world.driver.fold_all()
    report = await world.run()
    why = [refusal.body for refusal in resident.refusals]
    assert report.outcome == "ran", (report, why)
    (row,) = await world.written()
    written = row["data"]["iterations"][-1]
    titles = [step["intent"]["params"]["title"] for step in written["plan"]]
    assert titles == TITLES, (written, why)
    assert written["summary"] == "Zwei Tasks vorgeschlagen."
    assert "errorDetails" not in written
    assert THOUGHT not in json.dumps(row["data"], ensure_ascii=False)
    assert resident.lost == []
    _check_wire(resident.requests[-1])
    spent = sum(await world.spent())
    if personality.habits.usage in EXACT:
        assert spent == resident.billed
    else:
        assert spent >= resident.billed


def _check_wire(body: Json) -> None:
    """Ids are unique, each has its result, and names are such as every service takes."""
    messages: list[Json] = body["messages"]
    calls: list[Json] = [call for m in messages for call in m.get("tool_calls") or ()]
    ids = [call["id"] for call in calls]
    assert len(set(ids)) == len(ids)
    results: list[Any] = [m["tool_call_id"] for m in messages if m["role"] == "tool"]
    assert results == ids
    assert all(re.fullmatch(NAME, call["function"]["name"]) for call in calls)
