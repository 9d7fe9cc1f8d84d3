"""The built-in model really plans: what it is given changes what it proposes."""

from typing import Any

import msgspec

from mana_actors.agent.planner.exchange import ModelAnswer, ModelRequest
from mana_actors.agent.planner.loop import PlanOutcome, run_loop
from mana_actors.agent.planner.prompt import PlanInput, ResolvedInput, loop_input
from mana_actors.agent.tools.catalogue import catalogue, function_spec, proposing_tools
from mana_actors.agent.tools.executor import Executor
from mana_actors.agent.tools.validation import validate_arguments
from mana_actors.llm.completions import read_answer
from mana_actors.llm.rehearsal.planner import LABEL, complete
from state.log.records import Agent, Mission
from state.rules.policy import DEFAULT_POLICY, DENY_ALL, AiPolicy

GOAL = ResolvedInput("g", "goals", "companionGoals", "Laufen", "7 / 21 (week)")


async def rehearse(request: ModelRequest, _round: int) -> ModelAnswer:
    body = msgspec.json.encode(complete(msgspec.json.decode(request.raw)))
    return read_answer(body, resolved="", asked_model=request.model, provider="mana")


async def plan(
    *inputs: ResolvedInput, policy: AiPolicy = DEFAULT_POLICY, feedback: str = "", **texts: Any
) -> PlanOutcome:
    past: tuple[dict[str, Any], ...] = (
        ({"startedAt": "x", "overallStatus": "approved", "userFeedback": feedback},)
        if feedback
        else ()
    )
    base: dict[str, Any] = {"title": "Wochenplan", "objective": "Plane meine Woche"}
    mission = Mission("m", "u", iterations=past, **base | texts)
    now = "2026-04-15T08:00:00+02:00"
    given = PlanInput(mission, Agent("a", "u"), inputs, policy, "b0", "mana/reasoning", now)
    return await run_loop(loop_input(given), rehearse, Executor({}))


def steps(outcome: PlanOutcome) -> list[tuple[str, Any]]:
    return [(step.name, step.arguments.get("title")) for step in outcome.steps]


async def test_a_goal_with_something_left_becomes_a_task_that_names_it():
    outcome = await plan(GOAL)
    assert steps(outcome) == [("create_task", "Laufen: noch 14")]
    assert outcome.steps[0].arguments["dueDate"] == "2026-04-16"
    assert outcome.stop_reason == "assistant-stop"
    assert outcome.steps[0].rationale == "Folgt aus: Laufen"


async def test_changing_an_input_changes_the_plan():
    further = ResolvedInput("g", "goals", "companionGoals", "Laufen", "20 / 21 (week)")
    reached = ResolvedInput("g", "goals", "companionGoals", "Laufen", "21 / 21 (week)")
    plans = [steps(await plan(goal)) for goal in (GOAL, further, reached)]
    assert plans[0] != plans[1] != plans[2]


async def test_the_summary_is_labelled_and_names_what_was_read_and_proposed():
    outcome = await plan(GOAL)
    assert outcome.summary is not None
    assert outcome.summary.startswith(LABEL)
    assert "Gelesen: Laufen" in outcome.summary
    assert "create_task" in outcome.summary


async def test_an_english_mission_is_answered_in_english():
    outcome = await plan(GOAL, title="Week", objective="Plan my week")
    assert steps(outcome) == [("create_task", "Laufen: 14 to go")]
    assert "Read: Laufen" in (outcome.summary or "")


async def test_the_objective_decides_which_tools_are_used():
    names = {name for name, _ in steps(await plan(objective="Notiz und Termin anlegen, Tagebuch"))}
    assert {"create_note", "create_event", "create_journal_entry"} <= names


async def test_feedback_changes_the_plan():
    objective = "Plane die Woche mit Notiz und Termin"
    usual = steps(await plan(GOAL, objective=objective))
    fewer = steps(await plan(GOAL, objective=objective, feedback="Bitte weniger"))
    no_notes = steps(await plan(GOAL, objective=objective, feedback="keine Notizen mehr"))
    assert len(usual) > len(fewer) == 1
    assert [name for name, _ in usual if name != "create_note"] == [name for name, _ in no_notes]


async def test_nothing_offered_means_nothing_proposed():
    outcome = await plan(GOAL, policy=DENY_ALL)
    assert outcome.steps == ()
    assert "Keine Werkzeuge" in (outcome.summary or "")
    without_tasks = await plan(GOAL, policy=AiPolicy({"create_task": "deny"}))
    assert without_tasks.steps == ()


async def test_every_call_it_makes_is_valid():
    words = "Notiz Termin Tagebuch Gewohnheit Kontakt Quiz Entwurf Buch Stimmung Ausgabe Aufgabe"
    news = ResolvedInput("w", "news-research", "web", "Web", "[a](https://a.example/1) x")
    for objective in (*words.split(), words):
        outcome = await plan(news, objective=objective)
        assert outcome.steps
        for done in outcome.executed_calls:
            assert done.result.success, done
            validate_arguments(catalogue()[done.call.name], done.call.arguments)


async def test_it_mends_a_call_that_was_refused():
    tools = [function_spec(tool) for tool in proposing_tools().offered(DEFAULT_POLICY)]
    call = {"id": "c", "function": {"name": "create_task", "arguments": '{"priority":"x"}'}}
    complaint = '{"success":false,"message":"priority is not one of: low, medium"}'
    messages = [
        {"role": "user", "content": "Plane"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c", "content": complaint},
    ]
    answer = complete({"model": "m", "messages": messages, "tools": tools})
    (mended,) = answer["choices"][0]["message"]["tool_calls"]
    assert mended["function"] == {"name": "create_task", "arguments": '{"priority":"low"}'}


def test_the_same_request_gives_the_same_answer_and_counts_bytes():
    request = {"model": "m", "messages": [{"role": "user", "content": "Hallo"}]}
    first, second = complete(request), complete(request)
    assert first == second
    usage = first["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"] > 0


def test_it_keeps_within_max_tokens():
    request = {"model": "m", "max_tokens": 3, "messages": [{"role": "user", "content": "x" * 500}]}
    answer = complete(request)
    assert answer["choices"][0]["finish_reason"] == "length"
    assert len(answer["choices"][0]["message"]["content"]) <= 12
    assert answer["usage"]["completion_tokens"] == 3


def test_odd_requests_are_answered():
    for messages in ([], [None], [{"role": "user"}], [{"role": "assistant", "tool_calls": [1]}]):
        assert complete({"messages": messages, "tools": [7, {}]})["choices"]
