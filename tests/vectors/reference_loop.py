"""The planner loop of the original, with each rule of ours as a switch: suite `planner_loop`.

Without Rules it is the original, with all of them it says what we must give.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any

from mana_actors.agent.planner.exchange import TokenUsage
from mana_actors.agent.planner.loop import PLAN_FULL, REPEATED
from mana_actors.agent.planner.reminders import (
    Allowance,
    LoopView,
    RecentCall,
    reminders_for,
)
from mana_actors.json_values import as_object
from tests.vectors.reference import Rules
from tests.vectors.reference_tick import CATALOGUE

Given = dict[str, Any]

LOOP_RULES: Rules = frozenset(
    {
        "all-usage",
        "bounded-answer",
        "measured-context",
        "no-doubles",
        "no-empty-tools",
        "plan-size",
        "stop-reasons",
        "whole-exchanges",
    }
)
MODEL = "mana/reasoning"
STEPS, CALLS_PER_TURN, BATCH = 25, 50, 10
ANSWER_TOKENS, UNKNOWN_CONTEXT = 4096, 200_000
AGAIN: Given = {"success": REPEATED.success, "message": REPEATED.message}
FULL: Given = {"success": PLAN_FULL.success, "message": PLAN_FULL.message}
TYPES = ("string", "number", "integer", "boolean", "array", "object")


def planner_loop(given: Given, rules: Rules) -> Any:
    """The expected value of a case of planner_loop.json under `rules`."""
    match given["fn"]:
        case "loop":
            return _Loop(given, rules).run()
        case "wire":
            return _wire(given, rules)
        case "should_compact":
            threshold: float = 0.92 if given["threshold"] is None else given["threshold"]
            return {"compact": _is_full(given["totalTokens"], given["maxContextTokens"], threshold)}
        case "parse_summary":
            return {"summary": _summary(given["text"])}
        case _:
            return _specs(given["tools"])


def spec_of(name: str) -> Given:
    """The function spec under which the cases' tools are offered."""
    schema: Given = {"type": "object", "properties": {}, "required": []}
    function = {"name": name, "description": "", "parameters": schema}
    return {"type": "function", "function": function}


def _is_full(tokens: float, ceiling: float | None, threshold: float) -> bool:
    most = ceiling or 0
    return most > 0 and tokens > 0 and tokens / most >= threshold


def _summary(text: str) -> Given:
    parts: Given = {}
    names = ("Goal", "Decisions", "Tools Called", "Current Progress")
    for key, name in zip(
        ("goal", "decisions", "toolsCalled", "currentProgress"), names, strict=True
    ):
        pattern = rf"^##\s+{name}\s*$(.*?)(?=^##\s|\Z)"
        found = re.search(pattern, text, re.IGNORECASE | re.MULTILINE | re.DOTALL)
        parts[key] = found[1].strip() if found else ""
    return parts


def _specs(tools: list[Given]) -> Given:
    specs: list[Given] = []
    for tool in tools:
        properties: Given = {}
        for parameter in tool["parameters"]:
            if parameter["type"] not in TYPES:
                return {"error": True}
            shown = {"type": parameter["type"], "description": parameter["description"]}
            choices = {"enum": parameter["enum"]} if parameter.get("enum") else {}
            properties[parameter["name"]] = shown | choices
        required = [one["name"] for one in tool["parameters"] if one["required"]]
        schema = {"type": "object", "properties": properties, "required": required}
        function = {
            "name": tool["name"],
            "description": tool["description"],
            "parameters": schema,
        }
        specs.append({"type": "function", "function": function})
    return {"specs": specs}


# --- the wire -----------------------------------------------------------------------------------


def _body(
    messages: list[Given], tools: list[Given], model: str, temperature: float, rules: Rules
) -> Given:
    body: Given = {"model": model, "temperature": temperature, "stream": False}
    if "bounded-answer" in rules:
        body["max_tokens"] = ANSWER_TOKENS
    if tools or "no-empty-tools" not in rules:
        body |= {"tools": tools, "tool_choice": "auto"}
    return body | {"messages": [_turn(message) for message in messages]}


def _turn(message: Given) -> Given:
    turn: Given = {"role": message["role"], "content": message.get("content")}
    if message.get("toolCalls"):
        turn["tool_calls"] = [
            {
                "id": call["id"],
                "type": "function",
                "function": {"name": call["name"], "arguments": _json(call["arguments"])},
            }
            for call in message["toolCalls"]
        ]
    if message.get("toolCallId"):
        turn["tool_call_id"] = message["toolCallId"]
    return turn


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _wire(given: Given, rules: Rules) -> Given:
    asked, answer = given["request"], given["answer"]
    temperature = 0.3 if asked["temperature"] is None else asked["temperature"]
    body = _body(asked["messages"], asked["tools"], asked["model"], temperature, rules)
    key = "Bearer svc-key"
    sent = {"path": "/v1/chat/completions", "authorization": key, "body": body}
    if answer["status"] >= 300:
        detail = as_object(answer.get("body", {}).get("detail")) or {}
        kind = detail.get("kind", "unknown")
        return {"ok": False, "kind": kind, "sent": sent}
    if not answer.get("body", {}).get("choices"):
        return {"ok": False, "kind": None, "sent": sent}
    return {"ok": True, "response": _response(answer["body"], rules), "sent": sent}


def _response(body: Given, rules: Rules) -> Given:
    choice: Given = body["choices"][0]
    calls: list[Given] = choice["message"].get("tool_calls") or []
    finish: object = choice.get("finish_reason") or "stop"
    if finish not in ("stop", "tool_calls", "length", "content_filter"):
        finish = "length" if "stop-reasons" in rules else "stop"
    response: Given = {
        "content": choice["message"].get("content"),
        "toolCalls": [
            {
                "id": call["id"],
                "name": call["function"]["name"],
                "arguments": _arguments(call["function"].get("arguments")),
            }
            for call in calls
        ],
        "finishReason": finish,
    }
    if usage := body.get("usage"):
        prompt, completion = usage.get("prompt_tokens", 0), usage.get("completion_tokens", 0)
        total = usage.get("total_tokens", prompt + completion)
        response["usage"] = {
            "promptTokens": prompt,
            "completionTokens": completion,
            "totalTokens": total,
        }
    return response


def _arguments(text: str | None) -> Given:
    try:
        value: Any = json.loads(text or "{}")
    except ValueError:
        return {}
    return as_object(value) or {}


# --- the loop -----------------------------------------------------------------------------------


class _Loop:
    """One case of the loop."""

    def __init__(self, given: Given, rules: Rules) -> None:
        self.given, self.rules = given, rules
        system, user = ({"role": r, "content": given[r]} for r in ("system", "user"))
        self.messages: list[Given] = [system, *given["prior"], user]
        self.script = list(given["script"])
        self.results = {name: list(some) for name, some in given["toolResults"].items()}
        self.tools = [spec_of(name) for name in given["tools"]]
        self.executed: list[Given] = []
        self.requests: list[Given] = []
        self.states: list[Given] = []
        self.usage = {"promptTokens": 0, "completionTokens": 0, "totalTokens": 0}
        self.folded = self.compactions = self.in_flight = 0
        self.bytes_per_token: float | None = None
        self.rounds = 0

    def run(self) -> Given:
        most: int = 5 if self.given["maxRounds"] is None else self.given["maxRounds"]
        stop, summary = "max-rounds", None
        while self.rounds < most:
            self._compact()
            entry = self._ask()
            if entry.get("throw"):
                return {"error": True, "requests": len(self.requests)}
            calls: list[Given] = entry["calls"]
            if "plan-size" in self.rules:
                calls = calls[:CALLS_PER_TURN]
            self.messages.append(
                {"role": "assistant", "content": entry["content"]}
                | ({"toolCalls": [_call(call) for call in calls]} if calls else {})
            )
            if not calls:
                summary, stop = entry["content"], self._stop(entry)
                break
            self._run_calls(calls)
        return self._outcome(stop, summary)

    def _ask(self) -> Given:
        self.rounds += 1
        hints = self._hints()
        sent = [*self.messages, *hints]
        roles = [message["role"] for message in sent]
        asked = {"roles": roles, "reminders": len(hints), "tools": self.given["tools"]}
        self.requests.append(asked)
        entry: Given = self.script.pop(0)
        if entry.get("throw"):
            return entry
        if usage := entry["usage"]:
            prompt, completion, *total = usage
            reported = total[0] if total and "all-usage" in self.rules else 0
            self.usage["promptTokens"] += prompt
            self.usage["completionTokens"] += completion
            self.usage["totalTokens"] += max(reported, prompt + completion)
            if prompt > 0:
                self.bytes_per_token = self._size(sent) / prompt
        return entry

    def _size(self, messages: list[Given]) -> int:
        return len(_json(_body(messages, self.tools, MODEL, 0.3, LOOP_RULES)).encode())

    def _stop(self, entry: Given) -> str:
        finish: str = entry["finish"]
        if "stop-reasons" in self.rules:
            if finish in ("length", "content_filter"):
                return finish.replace("_", "-")
            planned = any(done["success"] for done in self.executed)
            if not planned and not (entry["content"] or "").strip():
                return "empty"
        return "assistant-stop" if finish == "stop" else "no-tool-calls"

    # reminders

    def _hints(self) -> list[Given]:
        if self.given["reminders"] is None:
            return []
        recent = [[done["name"], done["success"]] for done in self.executed[-5:]]
        self.states.append(
            {
                "round": self.rounds,
                "toolCallCount": len(self.executed),
                "usage": dict(self.usage),
                "lastCall": recent[-1][0] if recent else None,
                "recentCalls": recent,
                "compactionsDone": int(self.folded > 0),
            }
        )
        if self.given["reminders"] != "runner":
            listed: list[list[str]] = self.given["reminders"]
            texts = listed[self.rounds - 1] if self.rounds <= len(listed) else []
            return [_hint(text) for text in texts]
        return self._runner_hints(recent)

    def _runner_hints(self, recent: list[Any]) -> list[Given]:
        allowance = allowance_of(self.given.get("agent"), self.given.get("pretickUsage"))
        usage = TokenUsage(*self.usage.values())
        calls = tuple(RecentCall(name, success) for name, success in recent)
        view = LoopView(self.rounds, len(self.executed), usage, calls, int(self.folded > 0))
        # Which hints there are is what suite `reminders` says; here it is that they are sent.
        return [_hint(reminder.text) for reminder in reminders_for(view, allowance)]

    # calls

    def _run_calls(self, calls: list[Given]) -> None:
        answers: list[Given] = []
        first: dict[str, int] = {}
        earlier = {_same(done) for done in self.executed if done["success"]}
        accepted = sum(done["success"] for done in self.executed)
        ran = 0
        for place, call in enumerate(calls):
            done: Given = {"round": self.rounds, "id": call["id"], "name": call["name"]}
            done["arguments"] = call.get("args", {})
            same = _same(done) if self._counts_once(done) else f"#{place}"
            if same in earlier:
                answers.append(AGAIN)
                continue
            if same in first:
                answers.append(answers[first[same]])
                continue
            if "plan-size" in self.rules and accepted + len(first) >= STEPS:
                answer = FULL
            else:
                first[same] = place
                ran += 1
                answer = self._result(call["name"])
            answers.append(answer)
            self.executed.append(done | {"success": answer["success"]})
        self._note_in_flight(calls, ran)
        self.messages += [
            {"role": "tool", "toolCallId": call["id"], "content": _json(answer), "tool": answer}
            for call, answer in zip(calls, answers, strict=True)
        ]

    def _counts_once(self, done: Given) -> bool:
        reads = CATALOGUE.get(done["name"], {}).get("defaultPolicy") == "auto"
        return "no-doubles" in self.rules and not reads

    def _result(self, name: str) -> Given:
        listed: list[Given] = self.results.get(name) or [{"success": True, "message": "ok"}]
        return listed.pop(0) if len(listed) > 1 else listed[0]

    def _note_in_flight(self, calls: list[Given], ran: int) -> None:
        safe: list[str] = self.given["parallelSafe"] or []
        together = ran > 1 and all(call["name"] in safe for call in calls)
        self.in_flight = max(self.in_flight, min(ran, BATCH) if together else min(ran, 1))

    # compaction

    def _compact(self) -> None:
        settings: Given | None = self.given["compactor"]
        if settings is None or self.folded or not self._is_due(settings):
            return
        keep: int = 4 if settings["keepRecent"] is None else settings["keepRecent"]
        head = 2 if self.messages[1]["role"] == "user" else 1
        start = len(self.messages) - keep
        whole = "whole-exchanges" in self.rules
        while whole and 0 < start < len(self.messages) and self.messages[start]["role"] == "tool":
            start -= 1
        if start - head < 1:
            return
        middle, tail = self.messages[head:start], self.messages[start:]
        current = [one for one in middle if one["role"] == "user"][-1:] if whole else []
        if any(one["role"] == "user" for one in tail):
            current = []
        middle = [one for one in middle if one not in current]
        if not middle:
            return
        self.compactions += 1
        self.folded = len(middle)
        said = {"role": "assistant", "content": _rendered(self.given["compactScript"])}
        self.messages = [*self.messages[:head], said, *current, *tail]

    def _is_due(self, settings: Given) -> bool:
        ceiling: float = settings["maxContextTokens"] or 0
        tokens: float = self.usage["totalTokens"]
        if "measured-context" in self.rules:
            ceiling = min(ceiling, UNKNOWN_CONTEXT)
            tokens = math.ceil(self._size(self.messages) / (self.bytes_per_token or 4))
        threshold: float = 0.92 if settings["threshold"] is None else settings["threshold"]
        return _is_full(tokens, ceiling, threshold)

    # the outcome

    def _outcome(self, stop: str, summary: str | None) -> Given:
        outcome: Given = {
            "rounds": self.rounds,
            "stopReason": stop,
            "summary": summary,
            "executed": self.executed,
            "usage": self.usage,
            "messages": [_shown(message) for message in self.messages],
            "requests": self.requests,
        }
        if self.given["reminders"] is not None:
            outcome["reminderStates"] = self.states
        if self.given["compactor"] is not None:
            outcome["compaction"] = {"calls": self.compactions, "foldedTurns": self.folded}
        if self.given["parallelSafe"] is not None:
            outcome["maxInFlight"] = self.in_flight
        if self.script:
            outcome["unusedScript"] = len(self.script)
        return outcome


def allowance_of(agent: Given | None, used: float | None) -> Allowance | None:
    """What the reminders know of an agent of these suites."""
    if agent is None:
        return None
    return Allowance(agent["name"], agent.get("maxTokensPerDay"), int(used or 0))


def _hint(text: str) -> Given:
    return {"role": "system", "content": f"<reminder>{text}</reminder>"}


def _call(call: Given) -> Given:
    return {"id": call["id"], "name": call["name"], "arguments": call.get("args", {})}


def _same(done: Given) -> str:
    return json.dumps([done["name"], done["arguments"]], sort_keys=True)


def _rendered(script: list[str]) -> str:
    parts = _summary(script[0] if script else "")
    names = ("Goal", "Decisions", "Tools Called", "Current Progress")
    empty = ("(unclear)", "(none)", "(none)", "(unclear)")
    shown = zip(names, parts.values(), empty, strict=True)
    body = "\n\n".join(f"## {name}\n{part or nothing}" for name, part, nothing in shown)
    return f"<compact-summary>\n{body}\n</compact-summary>"


def _shown(message: Given) -> Given:
    shown: Given = {"role": message["role"]}
    if message.get("toolCalls"):
        shown["toolCallIds"] = [call["id"] for call in message["toolCalls"]]
    if message["role"] == "tool":
        shown |= {"tool_call_id": message["toolCallId"], "tool": message["tool"]}
    return shown
