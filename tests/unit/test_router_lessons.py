"""What the router learns from refusals, and how little a refusal can do."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mana_actors.errors import ProviderBusy, ProviderRefused
from mana_actors.json_values import JsonObject
from mana_actors.llm.failures.cause import Lack
from mana_actors.llm.router.aliases.knowledge import CONTEXT_LESSON_S
from mana_actors.llm.router.aliases.registry import ModelEntry
from mana_actors.llm.router.entries.abilities import Abilities
from mana_actors.llm.router.entries.lessons import lesson_of, with_lesson
from mana_actors.llm.router.routing import MOST_LESSONS
from tests.unit.test_router_routing import HELLO, LOCAL, TOOLS, World, registry_of

ALONE = registry_of(LOCAL)
ASKED: JsonObject = {"max_tokens": 4096, "temperature": 0.3, "tools": TOOLS}


def refusing(kind: Any, **more: Any) -> ProviderRefused:
    return ProviderRefused("unknown", 400, None, "", "home", lack=Lack(kind, **more))


NO_MAX = refusing("token_limit_name", name="max_tokens", instead="max_completion_tokens")
NO_TEMPERATURE = refusing("parameter", name="temperature")
NO_TOOLS = ProviderRefused("capability", 400, None, "", "home", lack=Lack("tools"))


async def test_a_refused_parameter_is_left_out_in_the_same_request_and_from_then_on():
    world = World(ALONE, home=[NO_MAX, NO_TEMPERATURE, "ok"])
    assert await world.ask(**ASKED) == "home/a"
    first, second, third = world.upstreams["home"].bodies
    assert (first["max_tokens"], second["max_completion_tokens"]) == (4096, 4096)
    assert "temperature" in second
    assert "max_tokens" not in second
    assert "temperature" not in third
    await world.ask(**ASKED)
    assert len(world.calls) == 4
    assert world.upstreams["home"].bodies[3] == third
    assert world.router.profile(LOCAL).told_by == {"limit_name": "learnt", "unsupported": "learnt"}
    assert world.router.health()["home"].consecutive_failures == 0


async def test_a_stream_learns_as_well():
    world = World(ALONE, home=[NO_TEMPERATURE, "ok"])
    body = {"model": "mana/x", "messages": HELLO} | ASKED
    stream = await world.router.stream(body, exposure="any", deadline_s=5)
    assert [chunk async for chunk in stream.answer] == [{"chunk": "home:0"}]
    assert "temperature" not in world.upstreams["home"].bodies[1]


async def test_a_lesson_that_did_not_help_is_not_kept():
    world = World(ALONE, home=[NO_TEMPERATURE, NO_TEMPERATURE, "ok"])
    await world.fail(**ASKED)
    assert len(world.calls) == 2
    assert await world.ask(**ASKED) == "home/a"
    assert "temperature" in world.upstreams["home"].bodies[2]
    assert world.router.profile(LOCAL).told_by == {}


async def test_a_service_that_always_wants_something_else_is_asked_a_few_times():
    more: dict[str, Any] = {f"p{n}": n for n in range(20)}
    world = World(home=[refusing("parameter", name=f"p{n}") for n in range(20)])
    assert await world.ask(**more) == "eu/b"
    assert world.calls == ["home/a"] * (MOST_LESSONS + 1) + ["eu/b"]


async def test_names_for_the_limit_that_refuse_each_other_end_without_one():
    back = refusing("token_limit_name", name="max_completion_tokens")
    world = World(ALONE, home=[refusing("parameter", name="max_tokens"), back, "ok"])
    await world.ask(**ASKED)
    last = world.upstreams["home"].bodies[-1]
    assert not {"max_tokens", "max_completion_tokens"} & last.keys()


async def test_an_attempt_that_may_have_spent_is_not_made_again():
    error = ProviderBusy("timeout", 0, None, "", "home", lack=Lack("parameter", "temperature"))
    world = World(home=[error])
    assert await world.ask(**ASKED) == "eu/b"
    assert world.calls == ["home/a", "eu/b"]


async def test_an_entry_without_tools_is_known_until_the_file_is_read_again():
    world = World(home=[NO_TOOLS, "ok"])
    assert await world.ask(tools=TOOLS) == "eu/b"
    assert await world.ask(tools=TOOLS) == "eu/b"
    assert world.calls == ["home/a", "eu/b", "eu/b"]
    assert await world.ask() == "home/a"  # without tools it serves
    world.router.replace(world.registry, world.upstreams)
    assert await world.ask(tools=TOOLS) == "home/a"


async def test_words_against_the_last_entry_cannot_take_it_away():
    world = World(ALONE, home=[NO_TOOLS, "ok"])
    assert (await world.fail(tools=TOOLS)).kind == "capability"
    assert await world.ask(tools=TOOLS) == "home/a"
    assert world.router.profile(LOCAL).abilities.tools is None  # taken back


async def test_who_may_take_tools_is_asked_before_who_said_it_does_not():
    world = World(home=[NO_TOOLS, "ok"], eu=[NO_TOOLS, NO_TOOLS, "ok"])
    assert await world.ask(tools=TOOLS) == "far/c"
    world.upstreams["far"].answers = [ProviderBusy("network")]
    assert await world.ask(tools=TOOLS) == "home/a"
    assert world.calls[-2:] == ["far/c", "home/a"]


async def test_what_the_file_says_is_wrong_where_the_service_says_so():
    world = World(registry_of(home=ModelEntry(tools=True)), home=[NO_TOOLS])
    await world.ask(tools=TOOLS)
    assert world.router.profile(LOCAL).told_by["tools"] == "learnt"


LONG: list[JsonObject] = [{"role": "user", "content": "x" * 40_000}]
SMALL = refusing("context", limit=8192, asked=23_000)


async def test_a_context_that_was_told_is_gone_by_and_asked_about_again_after_a_while():
    world = World(home=[SMALL, "ok"])
    assert await world.ask(messages=LONG) == "eu/b"
    assert world.router.profile(LOCAL).abilities.context == 8192
    assert world.router.facts("home/a", "any").largest_context_tokens == 8192
    assert await world.ask(messages=LONG) == "eu/b"
    assert world.calls == ["home/a", "eu/b", "eu/b"]
    world.clock.now += CONTEXT_LESSON_S + 1
    assert await world.ask(messages=LONG) == "home/a"
    assert world.router.profile(LOCAL).told_by == {}


async def test_a_prompt_that_fits_without_so_long_an_answer_is_asked_with_a_shorter_one():
    world = World(ALONE, home=[SMALL, "ok"])
    await world.ask(messages=[{"role": "user", "content": "x" * 12_000}], max_tokens=4096)
    assert world.upstreams["home"].bodies[1]["max_tokens"] < 8192 - 6000


SENT: JsonObject = {
    "messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "x" * 9000}],
    "max_tokens": 100,
    "temperature": 1,
}


@pytest.mark.parametrize(
    ("lack", "why"),
    [
        (Lack("tools"), "the request had none"),
        (Lack("images"), "the request had none"),
        (Lack("parameter", "seed"), "it was not sent"),
        (Lack("parameter", "messages"), "it is no request without"),
        (Lack("parameter", "messages[0].role"), "it is no key of a request"),
        (Lack("output_limit", limit=100), "no more was asked"),
        (Lack("output_limit", limit=1), "nobody can answer in that"),
        (Lack("context", limit=0), "no number"),
        (Lack("context", limit=100), "no model is so small"),
        (Lack("context", limit=20_000), "the request cannot be that long"),
        (Lack("context", limit=8192), "smaller is known"),
        (Lack("schema", "no word"), "it is no word of a schema"),
        (Lack("call_ids"), "the request had none"),
    ],
)
def test_what_cannot_be_true_teaches_nothing(lack: Lack, why: str):
    assert lesson_of(lack, SENT, Abilities(context_tokens=4096)) is None, why


@pytest.mark.parametrize(
    ("lack", "lesson"),
    [
        (Lack("system_first"), Abilities(system="none")),
        (
            Lack("schema", "$schema"),
            Abilities(schema_without=("$schema",)),
        ),
        (Lack("output_limit", limit=50), Abilities(max_output_tokens=50)),
        (Lack("context", limit=4096), Abilities(context_tokens=4096)),
        (Lack("parameter", "temperature"), Abilities(unsupported=("temperature",))),
    ],
)
def test_what_can_be_true_is_learnt(lack: Lack, lesson: Abilities):
    assert lesson_of(lack, SENT, Abilities()) == lesson


def test_a_reminder_at_the_end_teaches_that_system_messages_come_first():
    sent = {"messages": [*SENT["messages"], {"role": "system", "content": "r"}]}
    assert lesson_of(Lack("system_first"), sent, Abilities()) == Abilities(system="first")


@given(st.lists(st.from_regex(r"[a-z]{1,8}", fullmatch=True), max_size=60))
def test_lists_of_lessons_stay_short(names: list[str]):
    learnt = Abilities()
    for name in names:
        learnt = with_lesson(learnt, Abilities(unsupported=(name,)))
    assert len(learnt.unsupported or ()) == min(16, len(set(names)))


def test_a_context_that_the_request_cannot_exceed_is_no_lesson():
    assert lesson_of(Lack("context", limit=20_000), SENT, Abilities()) is None
    assert lesson_of(Lack("context", limit=9000), SENT, Abilities()) is not None
