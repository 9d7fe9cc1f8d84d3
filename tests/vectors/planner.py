"""Suites `planner_loop`, `reminders`, `injection` and `prompt`, but for prompts of whole runs."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import Any, get_args

import msgspec

from mana_actors.agent.planner.compaction import (
    CompactionSettings,
    parse_summary,
    should_compact,
)
from mana_actors.agent.planner.exchange import (
    ChatMessage,
    FinishReason,
    ModelAnswer,
    ModelRequest,
    TokenUsage,
    ToolCall,
    ToolResult,
)
from mana_actors.agent.planner.loop import (
    COMPACTION_ROUND,
    LoopInput,
    PlanOutcome,
    run_loop,
)
from mana_actors.agent.planner.prompt import ResolvedInput, system_prompt, user_prompt
from mana_actors.agent.planner.reminders import (
    LoopView,
    RecentCall,
    RemindChannel,
    Reminder,
    compacted,
    reminders_for,
    retry_loop,
    token_budget,
)
from mana_actors.agent.tools.catalogue import Tool, catalogue, function_spec
from mana_actors.errors import CatalogueInvalid, ProviderError
from mana_actors.json_values import as_object
from mana_actors.llm.client import HttpProvider
from mana_actors.llm.completions import SERVICE_KINDS
from state.log.records import Agent, mission_from_record
from state.rules.injection import injection_marker
from tests.fake_provider import FakeProvider
from tests.vectors.reference_loop import MODEL, allowance_of, spec_of
from tests.vectors.verdict import Case

Given = dict[str, Any]
KEY = "svc-key"


class ModelFailed(Exception):
    """The scripted model breaks."""


# --- planner_loop -------------------------------------------------------------------------------


def give_loop(given: Given) -> Any:
    """What the loop, or one of its parts, makes of a case."""
    match given["fn"]:
        case "loop":
            return asyncio.run(_Scripted(given).run())
        case "wire":
            return asyncio.run(_wire(given))
        case "should_compact":
            facts = given["totalTokens"], given["maxContextTokens"], given["threshold"]
            return {"compact": should_compact(*facts)}
        case "parse_summary":
            summary = parse_summary(given["text"])
            names = ("goal", "decisions", "toolsCalled", "currentProgress")
            return {"summary": dict(zip(names, msgspec.structs.astuple(summary), strict=True))}
        case _:
            return _tool_specs(given["tools"])


def _tool_specs(tools: list[Given]) -> Given:
    try:
        return {"specs": [function_spec(msgspec.convert(tool, Tool)) for tool in tools]}
    except CatalogueInvalid:
        return {"error": True}


class _Scripted:
    """A run of the loop with a scripted model, scripted tools and an ear for reminders."""

    def __init__(self, given: Given) -> None:
        self.given = given
        self.script, self.summaries = list(given["script"]), list(given["compactScript"])
        self.results = {name: list(some) for name, some in given["toolResults"].items()}
        self.requests: list[Given] = []
        self.states: list[Given] = []
        self.hints = self.compactions = self.in_flight = self.most_in_flight = 0

    async def run(self) -> Given:
        try:
            outcome = await run_loop(self._input(), self._model, self._tool)
        except ModelFailed:
            return {"error": True, "requests": len(self.requests)}
        return self._shown(outcome)

    def _input(self) -> LoopInput:
        given = self.given
        limit = {} if given["maxRounds"] is None else {"max_rounds": given["maxRounds"]}
        safe: list[str] | None = given["parallelSafe"]
        return LoopInput(
            system=given["system"],
            user=given["user"],
            model=MODEL,
            tools=tuple(spec_of(name) for name in given["tools"]),
            prior=tuple(ChatMessage(turn["role"], turn["content"]) for turn in given["prior"]),
            repeatable=frozenset(
                tool.name for tool in catalogue().values() if tool.default_policy == "auto"
            ),
            remind=self._channel(),
            is_parallel_safe=None if safe is None else lambda name: name in safe,
            compaction=_compaction(given["compactor"]),
            **limit,
        )

    def _channel(self) -> RemindChannel | None:
        reminders = self.given["reminders"]
        if reminders is None:
            return None

        def hints(view: LoopView) -> tuple[Reminder, ...]:
            self.states.append(_view(view))
            if reminders == "runner":
                agent, used = self.given.get("agent"), self.given.get("pretickUsage")
                found = reminders_for(view, allowance_of(agent, used))
            else:
                texts: list[str] = _nth(reminders, view.round)
                found = tuple(Reminder("retry-loop", "info", text) for text in texts)
            self.hints = len(found)
            return found

        return hints

    async def _model(self, request: ModelRequest, number: int) -> ModelAnswer:
        if number == COMPACTION_ROUND:
            self.compactions += 1
            return ModelAnswer(content=self.summaries.pop(0) if self.summaries else "")
        names = [tool["function"]["name"] for tool in request.tools]
        roles = [message.role for message in request.messages]
        self.requests.append({"roles": roles, "reminders": self.hints, "tools": names})
        entry: Given = self.script.pop(0)
        if entry.get("throw"):
            raise ModelFailed
        return _answer(entry)

    async def _tool(self, call: ToolCall, _round: int) -> ToolResult:
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        listed: list[Given] = self.results.get(call.name) or [{"success": True, "message": "ok"}]
        result = listed.pop(0) if len(listed) > 1 else listed[0]
        await asyncio.sleep(0)
        self.in_flight -= 1
        return ToolResult(result["success"], result["message"], result.get("data", msgspec.UNSET))

    def _shown(self, outcome: PlanOutcome) -> Given:
        shown: Given = {
            "rounds": outcome.rounds,
            "stopReason": outcome.stop_reason,
            "summary": outcome.summary,
            "executed": [
                {
                    "round": done.round,
                    "id": done.call.id,
                    "name": done.call.name,
                    "arguments": done.call.arguments,
                    "success": done.result.success,
                }
                for done in outcome.executed_calls
            ],
            "usage": _usage(outcome.usage),
            "messages": [_message(message) for message in outcome.messages],
            "requests": self.requests,
        }
        optional = {
            "reminderStates": (self.given["reminders"], self.states),
            "compaction": (
                self.given["compactor"],
                {"calls": self.compactions, "foldedTurns": outcome.folded_turns},
            ),
            "maxInFlight": (self.given["parallelSafe"], self.most_in_flight),
            "unusedScript": (self.script or None, len(self.script)),
        }
        return shown | {key: value for key, (asked, value) in optional.items() if asked is not None}


def _nth(listed: list[list[str]], round_: int) -> list[str]:
    return listed[round_ - 1] if round_ <= len(listed) else []


def _compaction(compactor: Given | None) -> CompactionSettings | None:
    if compactor is None:
        return None
    names = {"threshold": "threshold", "keepRecent": "keep_recent"}
    more = {ours: compactor[name] for name, ours in names.items() if compactor[name] is not None}
    return CompactionSettings(compactor["maxContextTokens"], **more)


def _answer(entry: Given) -> ModelAnswer:
    calls = tuple(ToolCall(c["id"], c["name"], c.get("args", {})) for c in entry["calls"])
    finish: FinishReason = entry["finish"]
    assert finish in get_args(FinishReason)
    if not entry["usage"]:
        return ModelAnswer(entry["content"], calls, finish)
    prompt, completion, *total = entry["usage"]
    tokens = max(total[0] if total else 0, prompt + completion)
    return ModelAnswer(entry["content"], calls, finish, prompt, completion, tokens, True)


def _usage(usage: TokenUsage) -> Given:
    return {
        "promptTokens": usage.prompt_tokens,
        "completionTokens": usage.completion_tokens,
        "totalTokens": usage.total_tokens,
    }


def _view(view: LoopView) -> Given:
    recent = [[call.name, call.success] for call in view.recent]
    return {
        "round": view.round,
        "toolCallCount": view.tool_call_count,
        "usage": _usage(view.usage),
        "lastCall": recent[-1][0] if recent else None,
        "recentCalls": recent,
        "compactionsDone": view.compactions_done,
    }


def _message(message: ChatMessage) -> Given:
    shown: Given = {"role": message.role}
    if message.tool_calls:
        shown["toolCallIds"] = [call.id for call in message.tool_calls]
    if message.role == "tool":
        shown["tool_call_id"] = message.tool_call_id
        shown["tool"] = msgspec.json.decode(message.content or "")
    return shown


async def _wire(given: Given) -> Given:
    request = _request(given["request"])
    with FakeProvider([_http_answer(given["answer"])]) as service, _key_file() as folder:
        provider = HttpProvider(service.url, key_file=Path(folder, "key"))
        try:
            answer = await provider.complete(request, deadline_s=10)
            result: Given = {"ok": True, "response": _response(answer)}
        except ProviderError as exc:
            # Kinds of our own say what the original leaves untyped.
            result = {"ok": False, "kind": exc.kind if exc.kind in SERVICE_KINDS else None}
        finally:
            await provider.aclose()
        (sent,) = service.requests
    shown = {
        "path": sent.path,
        "authorization": sent.headers["authorization"],
        "body": sent.body,
    }
    return result | {"sent": shown}


def _key_file() -> tempfile.TemporaryDirectory[str]:
    folder = tempfile.TemporaryDirectory()
    Path(folder.name, "key").write_text(KEY, "ascii")
    return folder


def _request(asked: Given) -> ModelRequest:
    messages = tuple(
        ChatMessage(
            turn["role"],
            turn.get("content"),
            tuple(
                ToolCall(call["id"], call["name"], call["arguments"])
                for call in turn.get("toolCalls", ())
            ),
            turn.get("toolCallId"),
        )
        for turn in asked["messages"]
    )
    more = {} if asked["temperature"] is None else {"temperature": asked["temperature"]}
    return ModelRequest(asked["model"], messages, tuple(asked["tools"]), **more)


def _http_answer(answer: Given) -> Given:
    body = answer["text"].encode() if "text" in answer else msgspec.json.encode(answer["body"])
    return {"status": answer["status"], "garbage": body}


def _response(answer: ModelAnswer) -> Given:
    calls = [
        {"id": call.id, "name": call.name, "arguments": call.arguments}
        for call in answer.tool_calls
    ]
    shown: Given = {
        "content": answer.content,
        "toolCalls": calls,
        "finishReason": answer.finish_reason,
    }
    if answer.usage_reported:
        spent = TokenUsage(answer.prompt_tokens, answer.completion_tokens, answer.total_tokens)
        shown["usage"] = _usage(spent)
    return shown


# --- reminders and injection --------------------------------------------------------------------


def give_reminders(given: Given) -> Any:
    """The reminder, or the producers of a whole channel."""
    state: Given = given.get("state", given)
    recent = tuple(RecentCall("t", success) for success in state.get("recent", ()))
    view = LoopView(
        state.get("round", 1),
        len(recent),
        TokenUsage(total_tokens=state.get("roundUsage", 0)),
        recent[-5:],
        state.get("compactionsDone", 0),
    )
    allowance = allowance_of(given.get("agent"), given.get("pretickUsage"))
    match given["fn"]:
        case "budget":
            return {"reminder": _reminder(token_budget(view, allowance))}
        case "retry":
            return {"reminder": _reminder(retry_loop(view))}
        case "compacted":
            return {"reminder": _reminder(compacted(view))}
        case _:
            return {"producers": [hint.producer for hint in reminders_for(view, allowance)]}


def _reminder(reminder: Reminder | None) -> Given | None:
    return None if reminder is None else msgspec.to_builtins(reminder)


def view_reminders(value: Any, case: Case) -> Any:
    """Wording is free: of the text only which of the demanded words it holds."""
    reminder, demanded = value.get("reminder"), as_object(case["expected"].get("reminder")) or {}
    if not reminder or "text" not in reminder:
        return value
    shown = {key: reminder[key] for key in ("producer", "severity")}
    if "mentions" in demanded:
        words: list[str] = demanded["mentions"]
        shown["mentions"] = [word for word in words if str(word) in reminder["text"]]
    return {"reminder": shown}


def give_injection(given: Given) -> Any:
    """The family of markers found in the arguments."""
    marker = injection_marker(given["value"])
    return {"flagged": marker is not None, "marker": marker}


# --- prompt -------------------------------------------------------------------------------------

BOUNDARY = "b0b0b0b0b0b0b0b0"


def give_prompt(given: Given) -> Any:
    """System and user text, or whether two inputs give the same system text."""
    if given["fn"] == "same_system":
        return {"same": _system(given["a"]) == _system(given["b"])}
    titled: list[Given] = [{"title": None} | each for each in given["resolvedInputs"]]
    inputs = msgspec.convert(titled, list[ResolvedInput])
    mission = mission_from_record("u1", given["mission"]["id"], given["mission"])
    user = user_prompt(mission, inputs, boundary=BOUNDARY)
    return {"system": _system(given), "user": user}


def _system(given: Given) -> str:
    agent = Agent(
        "u1",
        "a1",
        "Mana",
        system_prompt=given["agentSystemPrompt"],
        memory=given["agentMemory"],
    )
    return system_prompt(agent, ())


def view_prompt(value: Any, case: Case) -> Any:
    """Wording is free: which demanded texts a prompt lacks, and which forbidden ones it holds."""
    demanded = case["expected"]
    if "same" in value:
        return value
    if "systemContains" in value:
        return {"lacks": [], "holds": [], "order": sorted(value["userOrder"]) and "kept"}
    lacks, holds = _found(value, demanded)
    order: list[str] = demanded["userOrder"]
    places = [value["user"].find(text) for text in order]
    return {
        "lacks": lacks,
        "holds": holds,
        "order": order and ("kept" if places == sorted(places) else "lost"),
    }


def _found(value: Given, demanded: Given) -> tuple[list[str], list[str]]:
    lacks: list[str] = []
    holds: list[str] = []
    for part in ("system", "user"):
        lacks += [text for text in demanded[f"{part}Contains"] if text not in value[part]]
        holds += [text for text in demanded[f"{part}Excludes"] if text in value[part]]
    return lacks, holds
