"""What the planner loop promises, with a model that is scripted."""

import asyncio
from collections.abc import Iterable
from typing import Any

import pytest

from mana_actors.agent.planner.compaction import CompactionSettings
from mana_actors.agent.planner.exchange import (
    ChatMessage,
    ModelAnswer,
    ModelRequest,
    TokenUsage,
    ToolCall,
    ToolResult,
    decode_answer,
    encode_answer,
    request_hash,
)
from mana_actors.agent.planner.guardrails import MAX_STEPS, after_plan, before_plan
from mana_actors.agent.planner.loop import (
    COMPACTION_ROUND,
    MAX_CALLS_PER_TURN,
    LoopInput,
    PlanOutcome,
    run_loop,
)
from mana_actors.agent.planner.reminders import LoopView, Reminder
from mana_actors.agent.tools.catalogue import catalogue, function_spec, proposing_tools
from mana_actors.agent.tools.executor import Executor
from mana_actors.agent.tools.validation import check_against
from mana_actors.errors import BudgetExhausted, ProviderBusy
from state.rules.policy import AiPolicy
from state.runs.reasons import told

SPEC = function_spec(catalogue()["create_task"])


def call(name: str = "create_task", identity: str = "c1", **arguments: Any) -> ToolCall:
    return ToolCall(identity, name, arguments)


def asks(*calls: ToolCall, **fields: Any) -> ModelAnswer:
    return ModelAnswer(tool_calls=calls, finish_reason="tool_calls", **fields)


def says(text: str | None, **fields: Any) -> ModelAnswer:
    return ModelAnswer(content=text, **fields)


class Model:
    """Plays answers in order and keeps what it was asked."""

    def __init__(self, script: Iterable[ModelAnswer | Exception]) -> None:
        self.script = list(script)
        self.asked: list[tuple[ModelRequest, int]] = []

    async def __call__(self, request: ModelRequest, number: int) -> ModelAnswer:
        self.asked.append((request, number))
        answer = self.script.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def given(**fields: Any) -> LoopInput:
    base: dict[str, Any] = {"system": "S", "user": "U", "model": "m", "tools": (SPEC,)}
    return LoopInput(**base | fields)


async def plan(*script: ModelAnswer | Exception, **fields: Any) -> PlanOutcome:
    return await run_loop(given(**fields), Model(script), Executor({}))


async def test_calls_become_steps_and_the_last_text_the_summary():
    outcome = await plan(asks(call(title="a"), call(identity="c2", title="b")), says("fertig"))
    assert [step.arguments for step in outcome.steps] == [{"title": "a"}, {"title": "b"}]
    assert (outcome.summary, outcome.stop_reason, outcome.rounds) == ("fertig", "assistant-stop", 2)
    assert outcome.cut_short == ""


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (says("x"), "assistant-stop"),
        (says("x", finish_reason="tool_calls"), "no-tool-calls"),
        (says("x", finish_reason="length"), "length"),
        (says(None, finish_reason="content_filter"), "content-filter"),
        (says(None), "empty"),
        (says(" \n"), "empty"),
    ],
)
async def test_the_reason_to_stop_is_told_apart(answer: ModelAnswer, reason: str):
    assert (await plan(answer)).stop_reason == reason


async def test_silence_after_steps_is_not_an_empty_plan():
    assert (await plan(asks(call(title="a")), says(None))).stop_reason == "assistant-stop"


async def test_thinking_is_neither_the_summary_nor_the_reason_of_a_step():
    turn = asks(call(title="a"), content="<think>geheim</think>Einkauf fehlt")
    outcome = await plan(turn, says("<think>geheim</think>\n\nFertig."))
    assert outcome.summary == "Fertig."
    assert outcome.steps[0].rationale == "Einkauf fehlt"
    assert (await plan(says("<think>geheim"))).stop_reason == "empty"


async def test_a_call_in_the_text_is_a_call():
    written = '<tool_call>{"name": "create_task", "arguments": {"title": "a"}}</tool_call>'
    outcome = await plan(says(f"<think>x</think>Neu:\n{written}"), says("fertig"))
    assert [step.arguments for step in outcome.steps] == [{"title": "a"}]
    assert outcome.steps[0].rationale == "Neu:"
    assert (outcome.summary, outcome.cut_short) == ("fertig", "")


async def test_calls_in_the_text_count_only_where_none_were_made_otherwise():
    written = '<tool_call>{"name": "create_task", "arguments": {"title": "b"}}</tool_call>'
    outcome = await plan(asks(call(title="a"), content=written), says("fertig"))
    assert [step.arguments for step in outcome.steps] == [{"title": "a"}]
    assert outcome.steps[0].rationale == ""


async def test_a_call_in_the_text_that_cannot_be_read_marks_the_plan():
    outcome = await plan(says("Neu:\n<tool_call>{kaputt</tool_call>"))
    assert (outcome.summary, outcome.steps, outcome.unread_calls) == ("Neu:", (), 1)
    assert outcome.cut_short != ""


async def test_a_refusal_ends_the_run_in_its_own_words():
    outcome = await plan(says(None, refusal="Das darf ich nicht."))
    assert (outcome.stop_reason, outcome.summary) == ("refused", "Das darf ich nicht.")
    later = await plan(asks(call(title="a")), says("", refusal="Mehr nicht."))
    assert (later.stop_reason, len(later.steps)) == ("refused", 1)
    assert later.cut_short != ""


async def test_a_refusal_beside_calls_ends_nothing():
    outcome = await plan(asks(call(title="a"), refusal="Nur das."), says("fertig"))
    assert (outcome.stop_reason, len(outcome.steps)) == ("assistant-stop", 1)


async def test_the_round_limit_ends_the_run_without_a_summary():
    script = [asks(call(title=str(n)), content="halb") for n in range(5)]
    outcome = await plan(*script)
    assert (outcome.rounds, outcome.stop_reason, outcome.summary) == (5, "max-rounds", None)
    assert outcome.cut_short == told("cut-rounds")


async def test_no_round_allowed_means_no_model_call():
    model = Model([])
    outcome = await run_loop(given(max_rounds=0), model, Executor({}))
    assert (outcome.rounds, outcome.stop_reason, model.asked) == (0, "max-rounds", [])


async def test_an_exhausted_budget_keeps_the_plan_so_far():
    outcome = await plan(asks(call(title="a")), BudgetExhausted("a1", 100, 3))
    assert (outcome.stop_reason, outcome.rounds, len(outcome.steps)) == ("budget", 1, 1)


async def test_an_error_of_the_model_reaches_the_caller():
    with pytest.raises(ProviderBusy):
        await plan(asks(call(title="a")), ProviderBusy("timeout"))


async def test_the_same_call_counts_once_in_a_turn_and_across_turns():
    executed: list[ToolCall] = []

    async def record(done: ToolCall, _round: int) -> ToolResult:
        executed.append(done)
        return ToolResult(True, "ok")

    model = Model(
        [
            asks(call(title="a", priority="low"), call(identity="c2", priority="low", title="a")),
            asks(call(identity="c3", title="a", priority="low")),
            says("x"),
        ]
    )
    outcome = await run_loop(given(), model, record)
    assert (len(executed), len(outcome.steps), outcome.duplicates) == (1, 1, 2)
    answered = [message.tool_call_id for message in outcome.messages if message.role == "tool"]
    assert answered == ["c1", "c2", "c3"]  # every call gets an answer, or a provider refuses


async def test_a_failed_call_may_be_tried_again():
    results = [ToolResult(False, "kaputt"), ToolResult(True, "ok")]

    async def flaky(_call: ToolCall, _round: int) -> ToolResult:
        return results.pop(0)

    model = Model([asks(call(title="a")), asks(call(title="a")), says("x")])
    outcome = await run_loop(given(), model, flaky)
    assert [done.result.success for done in outcome.executed_calls] == [False, True]
    assert (len(outcome.steps), outcome.duplicates) == (1, 0)


async def test_denied_unknown_and_malformed_calls_are_answered_but_never_steps():
    policy = AiPolicy({"create_note": "deny"})
    model = Model(
        [
            asks(
                call(identity="1", title="ok"),
                call("create_note", "2", content="x"),
                call("list_tasks", "3"),
                call("rm_rf", "4"),
                call(identity="5", titel="Tippfehler"),
                ToolCall("6", "create_task", {}, "they are not a JSON object"),
            ),
            says("x"),
        ]
    )
    ran: list[str] = []

    async def record(done: ToolCall, _round: int) -> ToolResult:
        ran.append(done.id)
        return ToolResult(True, "ok")

    tools = proposing_tools().offered(policy)
    outcome = await run_loop(given(check=check_against(tools, policy)), model, record)
    assert ran == ["1"]
    assert [step.id for step in outcome.steps] == ["1"]
    failed = [done.call.id for done in outcome.executed_calls if not done.result.success]
    assert failed == ["2", "3", "4", "5", "6"]
    assert len([m for m in model.asked[1][0].messages if m.role == "tool"]) == 6


async def test_a_thousand_calls_do_not_make_a_thousand_steps():
    many = tuple(call(identity=f"c{n}", title=str(n)) for n in range(1000))
    outcome = await plan(asks(*many), says("x"))
    assert len(outcome.steps) == MAX_STEPS
    assert outcome.dropped_calls == 1000 - MAX_CALLS_PER_TURN
    assert after_plan(outcome.steps).blocked is None


async def test_usage_takes_the_larger_total_and_adds_up():
    first = asks(call(title="a"), prompt_tokens=10, completion_tokens=5, total_tokens=40)
    outcome = await plan(first, says("x", prompt_tokens=3, completion_tokens=2))
    assert outcome.usage == TokenUsage(13, 7, 45)


async def test_reminders_are_in_one_request_only_and_counted():
    def remind(view: LoopView) -> tuple[Reminder, ...]:
        return (Reminder("token-budget", "warn", "sparsam"),) if view.round == 1 else ()

    model = Model([asks(call(title="a")), says("x")])
    outcome = await run_loop(given(remind=remind), model, Executor({}))
    first, second = (request.messages for request, _ in model.asked)
    assert first[-1] == ChatMessage("system", "<reminder>sparsam</reminder>")
    assert "sparsam" not in str(second) + str(outcome.messages)
    assert [reminder.producer for reminder in outcome.reminders] == ["token-budget"]


async def test_parallel_safe_calls_run_in_batches_and_keep_their_order():
    running = most = 0

    async def read(done: ToolCall, _round: int) -> ToolResult:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1
        return ToolResult(True, done.id)

    calls = tuple(call("list_tasks", f"c{n}", limit=n) for n in range(12))
    model = Model([asks(*calls), says("x")])
    outcome = await run_loop(given(is_parallel_safe={"list_tasks"}.__contains__), model, read)
    assert most == 10
    assert [done.result.message for done in outcome.executed_calls] == [c.id for c in calls]


def long_run(*, compacted: ModelAnswer | Exception) -> list[ModelAnswer | Exception]:
    rounds = [asks(call(title=str(n) * 400)) for n in range(4)]
    return [*rounds, compacted, says("x")]


SUMMARY = says("## Goal\nZiel", prompt_tokens=70, completion_tokens=7, usage_reported=True)


async def test_a_full_context_is_folded_once_and_its_tokens_count():
    model = Model(long_run(compacted=SUMMARY))
    settings = CompactionSettings(max_context_tokens=850, keep_recent=4)
    outcome = await run_loop(given(compaction=settings, max_rounds=6), model, Executor({}))
    numbers = [number for _, number in model.asked]
    assert numbers.count(COMPACTION_ROUND) == 1
    assert outcome.folded_turns > 0
    assert outcome.usage.total_tokens == 77
    assert len(outcome.steps) == 4


@pytest.mark.parametrize("failure", [ProviderBusy("timeout"), BudgetExhausted("a", 9, 1)])
async def test_a_failing_compactor_does_not_fail_the_run(failure: Exception):
    model = Model(long_run(compacted=failure))
    settings = CompactionSettings(max_context_tokens=850, keep_recent=4)
    outcome = await run_loop(given(compaction=settings, max_rounds=6), model, Executor({}))
    assert (outcome.stop_reason, outcome.folded_turns) == ("assistant-stop", 0)
    assert [number for _, number in model.asked].count(COMPACTION_ROUND) == 1


async def test_the_same_answers_give_the_same_requests_byte_for_byte():
    def script() -> Model:
        return Model([asks(call(title="ä", priority="low")), says("x")])

    one, two = script(), script()
    await run_loop(given(), one, Executor({}))
    await run_loop(given(), two, Executor({}))
    assert [request_hash(r) for r, _ in one.asked] == [request_hash(r) for r, _ in two.asked]


async def test_model_tools_and_system_prompt_are_a_stable_prefix_of_the_bytes():
    one, two = (_request(user).raw for user in ("gestern", "heute"))
    shared = one.index(b"gestern")
    assert one[:shared] == two[:shared]
    assert b"create_task" in one[:shared]
    assert b'"SYSTEM"' in one[:shared]


def _request(user: str) -> ModelRequest:
    messages = (ChatMessage("system", "SYSTEM"), ChatMessage("user", user))
    return ModelRequest("m", messages, (SPEC,))


def test_tool_choice_is_sent_only_with_tools():
    with_tools, without = _request("x"), ModelRequest("m", _request("x").messages)
    assert b"tool_choice" in with_tools.raw
    assert b"tool" not in without.raw


def test_an_answer_survives_the_journal():
    answer = asks(call(title="ä"), ToolCall("2", "x", {}, "kaputt"), prompt_tokens=3)
    assert decode_answer(encode_answer(answer)) == answer


def test_too_much_input_is_blocked_before_planning():
    assert before_plan(["x" * 100_000]).blocked is None
    blocked = before_plan(["x" * 60_000, "y" * 60_000]).blocked
    assert blocked is not None
    assert blocked.name == "input-size-limit"


def test_guardrails_after_the_plan_block_and_warn():
    too_long = after_plan([call(identity=str(n), title="x") for n in range(26)])
    assert too_long.blocked is not None
    assert too_long.blocked.name == "plan-step-limit"
    twice = after_plan([call("undo_drink"), call("undo_drink")])
    assert twice.blocked is None
    assert [each.name for each in twice.objections] == ["duplicate-destructive-tool"]
    blank = after_plan([call(title=" ")]).blocked
    assert blank is not None
    assert blank.name == "empty-required-params"
