"""The planner loop: a pure state machine, and a driver that carries out its commands."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Literal, assert_never

import msgspec
from msgspec.structs import replace

from mana_actors.agent.planner.compaction import (
    CompactionSettings,
    Cut,
    compaction_request,
    context_tokens,
    cut,
    folded,
    should_compact,
    told_summary,
)
from mana_actors.agent.planner.exchange import (
    DEFAULT_MAX_OUTPUT,
    DEFAULT_TEMPERATURE,
    ChatMessage,
    ModelAnswer,
    ModelRequest,
    TokenUsage,
    ToolCall,
    ToolResult,
    result_content,
)
from mana_actors.agent.planner.guardrails import MAX_STEPS
from mana_actors.agent.planner.names import meant_name
from mana_actors.agent.planner.rationale import bounded
from mana_actors.agent.planner.reminders import LoopView, RecentCall, RemindChannel, Reminder
from mana_actors.agent.planner.spoken.text import read_spoken
from mana_actors.agent.tools.offer import Offer
from mana_actors.agent.tools.validation import CheckCall
from mana_actors.errors import BudgetExhausted, ProviderError
from mana_actors.json_values import JsonObject, canonical_json
from state.runs.reason_words import ReasonCode
from state.runs.reasons import told

DEFAULT_MAX_ROUNDS = 5
MAX_CALLS_PER_TURN = 50
PARALLEL_BATCH = 10
RECENT_CALLS = 5
COMPACTION_ROUND = 0
"""The round number under which the one compaction call of a run is asked, held and journalled."""

StopReason = Literal[
    "assistant-stop",
    "no-tool-calls",
    "max-rounds",
    "length",
    "content-filter",
    "budget",
    "empty",
    "refused",
]

CUT_SHORT: dict[StopReason, ReasonCode | None] = {
    "assistant-stop": None,
    "no-tool-calls": None,
    "max-rounds": "cut-rounds",
    "length": "cut-length",
    "content-filter": "cut-filtered",
    "budget": "cut-budget",
    "empty": "cut-empty",
    "refused": "cut-refused",
}
"""What a plan lacks that ended so."""

_CUT_OFF = ("length", "content_filter")

PLAN_FULL = ToolResult(False, f"The plan is full: it has {MAX_STEPS} steps. Finish with a summary.")
REPEATED = ToolResult(True, "Already recorded: the same call was made before and counts once.")


class LoopInput(msgspec.Struct, frozen=True):
    """What one run of the loop works with.

    `check` turns a call into its normalised form or into the failed result the model sees; by
    default everything passes. Calls of tools in `repeatable` are never collapsed as duplicates.
    `is_step` says by tool name which accepted calls become plan steps; by default all. With an
    `offer`, more of its tools are brought in where the model asks for them.
    """

    system: str
    user: str
    model: str
    tools: tuple[JsonObject, ...] = ()
    prior: tuple[ChatMessage, ...] = ()
    temperature: float = DEFAULT_TEMPERATURE
    max_output: int = DEFAULT_MAX_OUTPUT
    max_rounds: int = DEFAULT_MAX_ROUNDS
    check: CheckCall = lambda call: call
    repeatable: frozenset[str] = frozenset()
    is_step: Callable[[str], bool] = lambda _name: True
    remind: RemindChannel | None = None
    is_parallel_safe: Callable[[str], bool] | None = None
    compaction: CompactionSettings | None = None
    offer: Offer | None = None


class ExecutedCall(msgspec.Struct, frozen=True):
    """A call that was answered, in the round it was made; `call` has normalised arguments.

    `is_step` is false where the call was carried out in the run and proposes nothing.
    """

    round: int
    call: ToolCall
    result: ToolResult
    is_step: bool = True

    @property
    def key(self) -> str:
        """Equal for the same call made twice."""
        return _key(self.call)

    @property
    def is_planned(self) -> bool:
        """Whether it is a step of the plan."""
        return self.is_step and self.result.success


class LoopState(msgspec.Struct, frozen=True):
    """Everything the loop remembers between two commands."""

    messages: tuple[ChatMessage, ...]
    rounds: int = 0
    executed: tuple[ExecutedCall, ...] = ()
    usage: TokenUsage = TokenUsage()
    reminders: tuple[Reminder, ...] = ()
    folded_turns: int = 0
    compaction_tried: bool = False
    asked_bytes: int = 0
    bytes_per_token: float | None = None
    resolved_model: str = ""
    resolved_context: int = 0
    duplicates: int = 0
    dropped_calls: int = 0
    cut_turns: int = 0
    unread_calls: int = 0
    turn: tuple["ScreenedCall", ...] = ()
    brought: tuple[str, ...] = ()
    summary: str | None = None
    stop: StopReason | None = None


class ScreenedCall(msgspec.Struct, frozen=True):
    """A call of the present turn and who answers it.

    `answer` is there if it was refused, repeats a step of an earlier turn, or brings in the tools
    `brings`; `repeats` is the place, in this turn, of the call it is a copy of; with neither it has
    to be carried out.
    """

    call: ToolCall
    answer: ToolResult | None = None
    repeats: int | None = None
    brings: tuple[str, ...] = ()

    @property
    def must_run(self) -> bool:
        """True where neither a refusal nor another call answers it."""
        return self.answer is None and self.repeats is None

    @property
    def is_duplicate(self) -> bool:
        """Whether it is the same call again, which counts once."""
        return self.repeats is not None or self.answer is REPEATED


class PlanOutcome(msgspec.Struct, frozen=True):
    """What came of a run; only `steps` may become plan steps."""

    rounds: int
    executed_calls: tuple[ExecutedCall, ...]
    summary: str | None
    stop_reason: StopReason
    messages: tuple[ChatMessage, ...]
    usage: TokenUsage
    reminders: tuple[Reminder, ...] = ()
    folded_turns: int = 0
    duplicates: int = 0
    dropped_calls: int = 0
    resolved_model: str = ""
    cut_turns: int = 0
    unread_calls: int = 0  # written into a text in a form that could not be read

    @property
    def refused(self) -> int:
        """How many calls came back as failed."""
        return sum(not done.result.success for done in self.executed_calls)

    @property
    def steps(self) -> tuple[ToolCall, ...]:
        """The proposals that were accepted, in the order they were made, each counted once."""
        return tuple(done.call for done in self.executed_calls if done.is_planned)

    @property
    def cut_short(self) -> str:
        """Which limit cut the plan short, "" where the model itself ended it."""
        limit = CUT_SHORT[self.stop_reason]
        if limit is not None:
            return told(limit)
        if self.cut_turns:
            return told("cut-torn")
        if self.unread_calls:
            return told("cut-unread", count=self.unread_calls)
        return told("cut-dropped", count=self.dropped_calls) if self.dropped_calls else ""


class Begin(msgspec.Struct, frozen=True):
    """The first event of a run."""


class ModelAnswered(msgspec.Struct, frozen=True):
    """The model answered."""

    answer: ModelAnswer


class Summarised(msgspec.Struct, frozen=True):
    """The compaction call came back; None = it failed, which must not fail the run."""

    at: Cut
    answer: ModelAnswer | None


class CallsDone(msgspec.Struct, frozen=True):
    """The calls of a RunCalls command have these results, in its order."""

    results: tuple[ToolResult, ...]


class BudgetSpent(msgspec.Struct, frozen=True):
    """The next model call does not fit the cap."""


Event = Begin | ModelAnswered | Summarised | CallsDone | BudgetSpent


class AskModel(msgspec.Struct, frozen=True):
    """Send this request; `round` counts from 1."""

    request: ModelRequest
    round: int


class AskCompactor(msgspec.Struct, frozen=True):
    """Have the middle of the conversation summarised."""

    request: ModelRequest
    at: Cut


class RunCalls(msgspec.Struct, frozen=True):
    """Carry these calls out: batch after batch, the calls of one batch together."""

    batches: tuple[tuple[ToolCall, ...], ...]
    round: int


class Finish(msgspec.Struct, frozen=True):
    """The run is over."""

    outcome: PlanOutcome


Command = AskModel | AskCompactor | RunCalls | Finish
CallModel = Callable[[ModelRequest, int], Awaitable[ModelAnswer]]
OnToolCall = Callable[[ToolCall, int], Awaitable[ToolResult]]


def start(given: LoopInput) -> LoopState:
    """The state before the first event."""
    system, user = ChatMessage("system", given.system), ChatMessage("user", given.user)
    return LoopState((system, *given.prior, user))


def opening(given: LoopInput) -> ModelRequest:
    """The first request, without reminders."""
    return _request(given, start(given))


def step(given: LoopInput, state: LoopState, event: Event) -> tuple[LoopState, Command]:
    """The state after `event`, and what to do next."""
    match event:
        case Begin():
            pass
        case ModelAnswered(answer=answer):
            state = _heard(given, state, answer)
            if state.turn:
                to_run = tuple(each.call for each in state.turn if each.must_run)
                # Tens where every call is safe to run beside the others, else one at a time.
                is_safe = given.is_parallel_safe
                is_together = is_safe is not None and all(is_safe(call.name) for call in to_run)
                size = PARALLEL_BATCH if is_together else 1
                firsts = range(0, len(to_run), size)
                batches = tuple(to_run[first : first + size] for first in firsts)
                return state, RunCalls(batches, state.rounds)
        case CallsDone(results=results):
            state = _calls_done(given, state, results)
        case Summarised(at=at, answer=answer):
            state = replace(state, compaction_tried=True)
            if answer is not None:
                state = replace(
                    state,
                    messages=folded(at, told_summary(read_spoken(answer.content or "").text)),
                    folded_turns=len(at.middle),
                    usage=state.usage.plus(answer),
                )
        case BudgetSpent():
            state = replace(state, stop="budget")
        case _:
            assert_never(event)
    return _next(given, state)


async def run_loop(
    given: LoopInput, call_model: CallModel, on_tool_call: OnToolCall
) -> PlanOutcome:
    """Run the loop to its end.

    `call_model(request, round)` may raise BudgetExhausted, which ends the run with the plan so far;
    its other errors propagate (also ProviderError), except for the compaction call, asked as round
    0, where a ProviderError is survived. `on_tool_call` is asked for checked calls only, and must
    not raise.
    """
    state, command = step(given, start(given), Begin())
    while True:
        match command:
            case AskModel(request=request, round=number):
                try:
                    event = ModelAnswered(await call_model(request, number))
                except BudgetExhausted:
                    event = BudgetSpent()
            case AskCompactor(request=request, at=at):
                try:
                    event = Summarised(at, await call_model(request, COMPACTION_ROUND))
                except (ProviderError, BudgetExhausted):
                    event = Summarised(at, None)
            case RunCalls(batches=batches, round=number):
                results: list[ToolResult] = []
                for batch in batches:
                    results += await asyncio.gather(*(on_tool_call(call, number) for call in batch))
                event = CallsDone(tuple(results))
            case Finish(outcome=outcome):
                return outcome
            case _:
                assert_never(command)
        state, command = step(given, state, event)


def _next(given: LoopInput, state: LoopState) -> tuple[LoopState, Command]:
    """Finish, fold the conversation, or ask the model again."""
    if state.stop is None and state.rounds >= given.max_rounds:
        state = replace(state, stop="max-rounds")
    if state.stop is not None:
        return state, Finish(
            PlanOutcome(
                rounds=state.rounds,
                executed_calls=state.executed,
                summary=state.summary,
                stop_reason=state.stop,
                messages=state.messages,
                usage=state.usage,
                reminders=state.reminders,
                folded_turns=state.folded_turns,
                duplicates=state.duplicates,
                dropped_calls=state.dropped_calls,
                resolved_model=state.resolved_model,
                cut_turns=state.cut_turns,
                unread_calls=state.unread_calls,
            )
        )
    request, settings = _request(given, state), given.compaction
    if settings is not None and not state.compaction_tried:
        tokens = context_tokens(request, state.bytes_per_token)
        if should_compact(tokens, settings.ceiling(state.resolved_context), settings.threshold):
            at = cut(state.messages, settings.keep_recent)
            if at is not None:
                return state, AskCompactor(compaction_request(settings, at, given.model), at)
    hints: tuple[Reminder, ...] = ()
    if given.remind:
        recent = state.executed[-RECENT_CALLS:]
        view = LoopView(
            round=state.rounds + 1,
            tool_call_count=len(state.executed),
            usage=state.usage,
            recent=tuple(RecentCall(done.call.name, done.result.success) for done in recent),
            compactions_done=1 if state.folded_turns else 0,
        )
        hints = given.remind(view)
    if hints:
        request = _request(given, state, hints)
    asked = replace(state, reminders=(*state.reminders, *hints), asked_bytes=len(request.raw))
    return asked, AskModel(request, state.rounds + 1)


def _request(given: LoopInput, state: LoopState, hints: tuple[Reminder, ...] = ()) -> ModelRequest:
    reminders = (ChatMessage("system", f"<reminder>{hint.text}</reminder>") for hint in hints)
    more = () if given.offer is None else (given.offer.specs[name] for name in state.brought)
    return ModelRequest(
        model=given.model,
        messages=(*state.messages, *reminders),
        tools=(*given.tools, *more),
        temperature=given.temperature,
        max_output=given.max_output,
    )


def _heard(given: LoopInput, state: LoopState, answer: ModelAnswer) -> LoopState:
    """The state after an answer: its calls are the present turn, and without calls the run ends.

    Calls in its text count where it made none in the way that was asked for. A refusal beside calls
    ends nothing: what it did not refuse is its owner's to judge.
    """
    offered: dict[str, JsonObject] = {}
    for spec in (*given.tools, *(given.offer.specs.values() if given.offer else ())):
        function: JsonObject = spec["function"]
        offered[function["name"]] = function.get("parameters", {}).get("properties", {})
    spoken = read_spoken(answer.content or "", offered)
    made = answer.tool_calls or spoken.calls
    calls = tuple(
        replace(call, name=meant_name(call.name, offered)) for call in made[:MAX_CALLS_PER_TURN]
    )
    content = None if answer.content is None else spoken.text
    turn_said = ChatMessage(
        "assistant", content, calls, carried=answer.carried, said_by=answer.resolved_model
    )
    said = spoken.text
    bytes_per_token = state.bytes_per_token
    if answer.usage_reported and answer.prompt_tokens > 0:
        bytes_per_token = state.asked_bytes / answer.prompt_tokens
    heard = replace(
        state,
        rounds=state.rounds + 1,
        usage=state.usage.plus(answer),
        messages=(*state.messages, turn_said),
        bytes_per_token=bytes_per_token,
        resolved_model=answer.resolved_model or state.resolved_model,
        resolved_context=answer.context_tokens or state.resolved_context,
        cut_turns=state.cut_turns + (answer.finish_reason in _CUT_OFF and bool(calls)),
        dropped_calls=state.dropped_calls + len(made) - len(calls),
        unread_calls=state.unread_calls + (0 if answer.tool_calls else spoken.unread),
    )
    if calls:
        turn = _screened(given, heard, calls)
        if said.strip():  # a call without a reason of its own has that of its turn
            reason = bounded(said)
            turn = tuple(
                each
                if each.call.rationale
                else replace(each, call=replace(each.call, rationale=reason))
                for each in turn
            )
        brought = dict.fromkeys((*state.brought, *(name for each in turn for name in each.brings)))
        return replace(heard, turn=turn, brought=tuple(brought))
    stop: StopReason = "assistant-stop" if answer.finish_reason == "stop" else "no-tool-calls"
    if answer.finish_reason == "length":
        stop = "length"
    elif answer.refusal:
        stop, content = "refused", answer.refusal
    elif answer.finish_reason == "content_filter":
        stop = "content-filter"
    elif not said.strip() and not any(done.is_planned for done in state.executed):
        stop = "empty"
    return replace(heard, summary=content, stop=stop)


def _screened(
    given: LoopInput, state: LoopState, calls: tuple[ToolCall, ...]
) -> tuple[ScreenedCall, ...]:
    """Decide for each call of a turn: refused, a repeat, a question for tools, or to be run."""
    shown = {spec["function"]["name"] for spec in given.tools} | set(state.brought)
    brought = set(state.brought)
    earlier = {done.key for done in state.executed if done.result.success}
    accepted = sum(done.is_planned for done in state.executed)
    running: dict[str, int] = {}
    turn: list[ScreenedCall] = []
    for place, made in enumerate(calls):
        call = replace(made, carried={})  # what only its model can read stays in the conversation
        checked = given.check(call)
        offer = given.offer
        asked = None if offer is None else offer.asked(call, checked, shown, brought)
        if asked is not None:
            brought.update(asked.names)
            turn.append(ScreenedCall(call, asked.told, brings=asked.names))
            continue
        if isinstance(checked, ToolResult):
            turn.append(ScreenedCall(call, checked))
            continue
        key = f"#{place}" if call.name in given.repeatable else _key(checked)
        if key in earlier:
            turn.append(ScreenedCall(checked, REPEATED))
        elif key in running:
            turn.append(ScreenedCall(checked, repeats=running[key]))
        elif given.is_step(call.name) and accepted >= MAX_STEPS:
            turn.append(ScreenedCall(checked, PLAN_FULL))
        else:
            running[key] = place
            accepted += given.is_step(call.name)
            turn.append(ScreenedCall(checked))
    return tuple(turn)


def _key(call: ToolCall) -> str:
    """Equal for two calls of one tool with the same arguments."""
    return f"{call.name} {canonical_json(call.arguments)}"


def _calls_done(given: LoopInput, state: LoopState, results: tuple[ToolResult, ...]) -> LoopState:
    """The state after a turn: each call has a tool message, and counts once if it repeats."""
    arrived = iter(results)
    answers: list[ToolResult] = []
    for screened in state.turn:
        if screened.repeats is not None:
            answers.append(answers[screened.repeats])
        else:
            answers.append(next(arrived) if screened.answer is None else screened.answer)
    turn = tuple(zip(state.turn, answers, strict=True))
    executed = tuple(
        ExecutedCall(state.rounds, screened.call, result, given.is_step(screened.call.name))
        for screened, result in turn
        if not screened.is_duplicate
    )
    said = tuple(
        ChatMessage("tool", result_content(result), tool_call_id=screened.call.id)
        for screened, result in turn
    )
    return replace(
        state,
        turn=(),
        messages=(*state.messages, *said),
        executed=(*state.executed, *executed),
        duplicates=state.duplicates + len(turn) - len(executed),
    )
