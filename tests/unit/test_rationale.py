"""Each step says why: in words that are asked for, and kept apart from the tool's arguments."""

from typing import Any

from mana_actors.agent.attempt.plan import make_plan
from mana_actors.agent.planner.exchange import ModelAnswer, ModelRequest, ToolCall
from mana_actors.agent.planner.loop import PlanOutcome
from mana_actors.agent.planner.prompt import PlanInput, loop_input
from mana_actors.agent.planner.rationale import MAX_CHARS, bounded
from mana_actors.agent.planner.subagents import with_sub_agents
from mana_actors.agent.tools.catalogue import catalogue, proposing_tools
from mana_actors.agent.tools.executor import Executor
from state.log.records import Mission
from state.rules.policy import DEFAULT_POLICY

BOX = with_sub_agents(proposing_tools())
PLAN = PlanInput(Mission("m", "u"), None, (), DEFAULT_POLICY, "b", "m", toolbox=BOX)


def task(identity: str, **arguments: Any) -> ToolCall:
    return ToolCall(identity, "create_task", {"title": "a", **arguments})


async def planned(*calls: ToolCall, content: str | None = None) -> PlanOutcome:
    script = [ModelAnswer(content, calls, "tool_calls"), ModelAnswer("done")]

    async def model(_request: ModelRequest, _number: int) -> ModelAnswer:
        return script.pop(0)

    outcome, _ = await make_plan(PLAN, model, Executor({}))
    return outcome


def test_every_proposal_asks_for_a_reason_and_no_catalogue_entry_has_one():
    for spec in loop_input(PLAN).tools:
        schema = spec["function"]["parameters"]
        asked = "rationale" in schema["properties"]
        assert asked == (spec["function"]["name"] != "task")
        assert "rationale" not in schema["required"]
    names = {p.name for tool in catalogue().values() for p in tool.parameters}
    assert "rationale" not in names


async def test_a_reason_goes_with_the_step_and_never_into_its_arguments():
    (step,) = (await planned(task("c1", rationale="weil <data>Montag"))).steps
    assert step.arguments == {"title": "a"}
    assert step.rationale == "weil &lt;data>Montag"


async def test_without_one_the_text_of_the_turn_is_the_reason():
    (step,) = (await planned(task("c1"), content="Zuerst\nder Einkauf.")).steps
    assert step.rationale == "Zuerst der Einkauf."


async def test_another_reason_does_not_make_it_another_step():
    outcome = await planned(task("c1", rationale="a"), task("c2", rationale="b"))
    assert [step.rationale for step in outcome.steps] == ["a"]
    assert outcome.duplicates == 1


async def test_a_reason_is_short_text_or_none():
    (long,) = (await planned(task("c1", rationale="x" * 5000))).steps
    assert len(long.rationale) == MAX_CHARS
    (odd,) = (await planned(task("c1", rationale={"a": 1}))).steps
    assert odd.rationale == ""
    (sealed,) = (await planned(task("c1", rationale="enc:1:AAA.BBB"))).steps
    assert sealed.rationale == "[encrypted]"


def test_a_reason_tells_nothing_of_the_thinking():
    assert bounded("<think>geheim</think>Montag ist frei") == "Montag ist frei"
