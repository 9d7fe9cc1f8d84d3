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

from mana_actors.messages import Report
from tests.fake_provider import Entry
from tests.integration.support import Json, World, open_world
from tests.postgres import Database
from tests.router_parts import RunningRouter
from tests.zoo.keeper import THOUGHT, TITLES, Personality, Zoo, alias_file
from tests.zoo.rules import NAME
from tests.zoo.species import ALL
from tests.zoo.speech import EXACT

TAKEOVERS = [
    ("deepseek-reasoner", "groq"),
    ("gemini", "mistral"),
    ("kimi", "anthropic"),
    ("vllm", "openai-reasoning"),
    ("openrouter", "deepseek-reasoner"),
    ("openai", "kimi"),
    ("long-ids", "openai"),
    ("prefixed-names", "azure"),
    ("calls-in-text", "together"),
]
"""Who begins, and who goes on with a conversation that is not its own."""
USED: Json = {"prompt_tokens": 120, "completion_tokens": 120, "total_tokens": 240}
HALF: Json = {"index": 0, "message": {"role": "assistant", "content": "Ich lege jetzt die"}}
WASTED: list[tuple[str, Entry, int]] = [
    ("unreadable", {"answer": {"choices": [], "usage": USED}}, 240),
    ("no-message", {"answer": {"choices": [{"index": 0}], "usage": USED}}, 240),
    (
        "failed",
        {"answer": {"choices": [HALF | {"finish_reason": "error"}], "usage": USED}},
        240,
    ),
    ("silent", {"garbage": b"<html>"}, 0),
    ("refused", {"status": 400, "answer": {"error": {"message": "no such thing"}}}, 0),
]
"""What the first of a chain may spend in vain, and what it bills."""
PEOPLE = [
    *ALL,
    *(
        Personality(name=f"wastes-{name}", source="a row", answers=(says,), bills=(bill,))
        for name, says, bill in WASTED
    ),
    Personality(
        name="declines",
        source="platform.openai.com: refusals",
        answers=(
            {
                "answer": {
                    "choices": [
                        {
                            "index": 0,
                            "message": {
                                "role": "assistant",
                                "content": None,
                                "refusal": "I can't help with that",
                            },
                            "finish_reason": "stop",
                        }
                    ],
                    "usage": USED,
                }
            },
        ),
        bills=(240,),
    ),
]


@pytest.fixture(scope="module")
def zoo() -> Generator[Zoo]:
    with Zoo(PEOPLE) as open_zoo:
        yield open_zoo


@pytest.fixture(scope="module")
def router(zoo: Zoo, tmp_path_factory: pytest.TempPathFactory) -> Generator[RunningRouter]:
    folder: Path = tmp_path_factory.mktemp("zoo")
    chains = {name: [name] for name in zoo.residents}
    chains |= {f"{near}-{far}": [near, far] for near, far in TAKEOVERS}
    chains |= {f"wastes-{name}": [f"wastes-{name}", "openai"] for name, *_ in WASTED}
    with RunningRouter(folder, alias_file(zoo, folder, chains), unhealthy_backoff_s=0.0) as running:
        yield running


@pytest.fixture
async def world(database: Database) -> AsyncGenerator[World]:
    async with open_world(database) as opened:
        yield opened


async def planned(world: World, router: RunningRouter, alias: str) -> tuple[Report, Json]:
    """A run of a mission that asks for this alias, and the iteration it wrote."""
    world.driver.settings = world.settings(
        model_url=router.url,
        model_key_file=str(router.token_file),
        model=f"mana/{alias}",
        max_output_tokens=4096,
    )
    client = await world.client()
    await client.agent()
    await client.mission()
    await world.driver.fold_all()
    report = await world.run()
    rows = await world.written()
    return report, rows[0]["data"]["iterations"][-1] if rows else {}


def check_plan(report: Report, written: Json, why: object) -> None:
    """It is whole, and shows nothing of what a model thought."""
    assert report.outcome == "ran", (report, why)
    titles = [step["intent"]["params"]["title"] for step in written["plan"]]
    assert titles == TITLES, (written, why)
    assert written["summary"] == "Zwei Tasks vorgeschlagen."
    assert "errorDetails" not in written
    assert THOUGHT not in json.dumps(written, ensure_ascii=False)


@pytest.mark.parametrize("personality", ALL, ids=lambda one: one.name)
async def test_a_plan_is_made_paid_and_whole(
    personality: Personality, zoo: Zoo, router: RunningRouter, world: World
):
    resident = zoo.anew(personality.name)
    report, written = await planned(world, router, personality.name)
    check_plan(report, written, [refusal.body for refusal in resident.refusals])
    assert resident.lost == []
    _check_wire(resident.requests[-1])
    spent = sum(await world.spent())
    if personality.habits.usage in EXACT:
        assert spent == resident.billed
    else:
        assert spent >= resident.billed


@pytest.mark.parametrize(("near", "far"), TAKEOVERS, ids=lambda name: name)
async def test_another_takes_over_a_conversation_that_is_not_its_own(
    near: str, far: str, zoo: Zoo, router: RunningRouter, world: World
):
    first, second = zoo.anew(near), zoo.anew(far)
    first.leaves_after = 2
    report, written = await planned(world, router, f"{near}-{far}")
    refusals = [refusal.body for refusal in [*first.refusals, *second.refusals]]
    check_plan(report, written, refusals)
    assert (len(first.issued), len(second.issued)) == (2, 2)
    sent = json.dumps(second.requests, ensure_ascii=False)
    assert not any(turn.thoughts and turn.thoughts in sent for turn in first.issued) or near == far
    assert sum(await world.spent()) >= first.billed + second.billed


@pytest.mark.parametrize(
    ("name", "bill"),
    [pytest.param(name, bill, id=name) for name, _, bill in WASTED],
)
async def test_what_was_spent_in_vain_is_charged_once(
    name: str, bill: int, zoo: Zoo, router: RunningRouter, world: World
):
    near, far = zoo.anew(f"wastes-{name}"), zoo.anew("openai")
    near.leaves_after = 0
    report, written = await planned(world, router, near.personality.name)
    check_plan(report, written, name)
    spent = sum(await world.spent())
    if name == "silent":  # nobody knows what it counted: the hold is charged
        assert spent > far.billed
    else:
        assert spent == far.billed + bill


async def test_a_model_that_declines_is_heard_by_the_owner(
    zoo: Zoo, router: RunningRouter, world: World
):
    zoo.anew("declines")
    report, written = await planned(world, router, "declines")
    assert report.outcome == "failed"
    assert "I can't help with that" in json.dumps(written)
    assert sum(await world.spent()) == 240


def _check_wire(body: Json) -> None:
    """Ids are unique, each has its result, and names are such as every service takes."""
    messages: list[Json] = body["messages"]
    calls: list[Json] = [call for m in messages for call in m.get("tool_calls") or ()]
    ids = [call["id"] for call in calls]
    assert len(set(ids)) == len(ids)
    results: list[Any] = [m["tool_call_id"] for m in messages if m["role"] == "tool"]
    assert results == ids
    assert all(re.fullmatch(NAME, call["function"]["name"]) for call in calls)
