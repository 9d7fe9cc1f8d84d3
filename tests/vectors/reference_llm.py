"""The model gateway's aliases, health and fallback in plain words, with each Rule to switch on.

Without Rules it is the original, with all of them it is what we promise.
"""

from __future__ import annotations

from typing import Any, cast

import yaml

from tests.vectors.reference import Rules

Given = dict[str, Any]
LLM_RULES: Rules = frozenset(
    {
        "whole-file",  # repeated keys, aliases inside a chain, halves of an entry are refused
        "default-alias",  # a request without a model means the default
        "next-capable",  # a capability miss tries the next entry
        "next-key",  # a refused key tries the next entry, and closes its provider off
        "next-model",  # a missing model tries the next entry, and closes only itself off
        "typed-429",  # a status of 429 is a rate limit
        "passing",  # a plain timeout, 408, 409 and 425 are outages as well
        "short-wait",  # a rate limit closes off for 15 s
        "own-refusal",  # a 4xx that no other rule knows tries the next entry
        "half-answer",  # a truncated answer is no outage
        "own-health",  # a model's failures close only that model off, unless another one's join
    }
)
UNREACHED = {"connect", "read_error", "write_error", "remote_protocol"}
TIMEOUTS = {"connect_timeout", "read_timeout", "write_timeout", "pool_timeout"}
OUTAGES = UNREACHED | TIMEOUTS | {"rate_limit", "truncated", "provider_error"}
PASSING = {"builtin_timeout", "http_408", "http_409", "http_425"}
KEY = {"auth", "http_401", "http_402", "http_403"}
NAMES = {
    "connect": "ConnectError",
    "connect_timeout": "ConnectTimeout",
    "read_timeout": "ReadTimeout",
    "write_timeout": "WriteTimeout",
    "pool_timeout": "PoolTimeout",
    "read_error": "ReadError",
    "write_error": "WriteError",
    "remote_protocol": "RemoteProtocolError",
    "value_error": "ValueError",
    "builtin_timeout": "TimeoutError",
}
STATUS = {
    "blocked": 422,
    "truncated": 502,
    "auth": 502,
    "rate_limit": 429,
    "capability": 400,
    "no_healthy_provider": 503,
    "unknown": 502,
}


def llm(given: Given, rules: Rules) -> Any:
    """What a case of the suite gives."""
    return FUNCTIONS[given["fn"]](given, rules)


# --- the file -----------------------------------------------------------------------------------


class Repeated(Exception):
    """A key stands in the file twice."""


class Strict(yaml.SafeLoader):
    """Refuses repeated keys."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [
            repr(cast("object", self.construct_object(key, deep=True))) for key, _ in node.value
        ]
        if len(set(keys)) < len(keys):
            raise Repeated
        return super().construct_mapping(node, deep)


def table(text: str, rules: Rules) -> Given | None:
    """Aliases and default, or None where the file is refused."""
    try:
        root: Any = yaml.load(text, Strict if "whole-file" in rules else yaml.SafeLoader)  # noqa: S506
    except (yaml.YAMLError, Repeated):
        return None
    whole = cast("Given", root) if isinstance(root, dict) else {}
    aliases = whole.get("aliases")
    if not isinstance(aliases, dict) or not aliases:
        return None
    bodies = cast("dict[Any, Any]", aliases)
    found = [alias(name, bodies[name], rules) for name in bodies]
    default = whole.get("default")
    if None in found or (default is not None and default not in bodies):
        return None
    named = sorted((one for one in found if one), key=lambda one: one["name"])
    return {"aliases": named, "default": default}


def alias(name: Any, body: Any, rules: Rules) -> Given | None:
    """One alias, or None."""
    parts = name.split("/") if isinstance(name, str) else []
    if len(parts) != 2 or parts[0] != "mana" or not parts[1] or not isinstance(body, dict):
        return None
    shown = cast("Given", body)
    about, chain = shown.get("description", ""), shown.get("chain")
    is_text = about is None or isinstance(about, str)
    if not is_text or not isinstance(chain, list) or not chain:
        return None
    entries = cast("list[Any]", chain)
    if not all(is_entry(entry, rules) for entry in entries):
        return None
    stripped = [entry.strip() for entry in entries]
    return {"name": name, "description": (about or "").strip(), "chain": stripped}


def is_entry(entry: Any, rules: Rules) -> bool:
    """Whether an entry of a chain is taken."""
    if not isinstance(entry, str) or "/" not in entry.strip():
        return False
    provider, _, model = entry.strip().partition("/")
    is_whole = bool(provider and model) and provider.lower() != "mana"
    return is_whole or "whole-file" not in rules


def registry(given: Given, rules: Rules) -> Any:
    """Whether the file is taken, and what it says."""
    found = table(given["yaml"], rules)
    return {"ok": found is not None} | (found or {})


def resolve(given: Given, rules: Rules) -> Any:
    """What a name means."""
    found, name = table(given["yaml"], rules) or {"aliases": []}, given["name"]
    chains = {one["name"]: one["chain"] for one in found["aliases"]}
    known = {"chain": chains[name]} if name in chains else {"unknown": True}
    return {"isAlias": name.startswith("mana/")} | known


def reload(given: Given, rules: Rules) -> Any:
    """What is in force after a second file."""
    first, second = table(given["first"], rules), table(given["second"], rules)
    return {"ok": second is not None} | (second or first or {})


# --- health -------------------------------------------------------------------------------------


class Book:
    """States of providers and of models."""

    def __init__(self, given: Given) -> None:
        self.threshold, self.backoff = given["threshold"], given["backoff"]
        self.now = 1000.0
        self.states: dict[str, Given] = {}
        self.suspects: dict[str, set[str]] = {}
        self.notices: list[list[Any]] = []

    def state(self, name: str) -> Given:
        blank = {"healthy": True, "consecutiveFailures": 0, "lastError": None}
        return self.states.setdefault(name, blank | {"unhealthyUntil": 0.0, "lastCheck": 0.0})

    def check(self, name: str) -> bool:
        return self.states.get(name, {"unhealthyUntil": 0.0})["unhealthyUntil"] <= self.now

    def ok(self, name: str) -> None:
        state = self.state(name)
        if not state["healthy"]:
            self.notices.append([name, True])
        state |= {"healthy": True, "consecutiveFailures": 0, "lastError": None}
        state |= {"unhealthyUntil": 0.0, "lastCheck": self.now}
        self.suspects.pop(name, None)

    def fail(
        self,
        name: str,
        reason: str = "set",
        wait: float | None = None,
        *,
        trips: bool | None = None,
    ) -> None:
        state = self.state(name)
        failures = state["consecutiveFailures"] + 1
        if trips is None:
            trips = failures >= self.threshold
        if trips or not state["healthy"]:
            until = self.now + (self.backoff if wait is None else wait)
            state["unhealthyUntil"] = max(state["unhealthyUntil"], until)
            if state["healthy"]:
                self.notices.append([name, False])
            state["healthy"] = False
        state |= {"consecutiveFailures": failures, "lastError": reason, "lastCheck": self.now}

    def shown(self) -> Given:
        return {name: dict(state) for name, state in self.states.items()}


def health(given: Given, rules: Rules) -> Any:
    """Checks, states and notices of a list of events."""
    if given["threshold"] < 1 or given["backoff"] < 0:
        return {"error": True}
    book, checks = Book(given), list[bool]()
    for name, *what in given["ops"]:
        if name == "advance":
            book.now += what[0]
        elif name == "check":
            checks.append(book.check(what[0]))
        elif name == "ok":
            book.ok(what[0])
        else:
            book.fail(*what)
    return {"checks": checks, "states": book.shown(), "notices": book.notices}


def probe(given: Given, rules: Rules) -> Any:
    """States and checks after each round."""
    book, rounds = Book(given), list[Given]()
    for answers in given["rounds"]:
        for name, answer in answers.items():
            book.ok(name) if answer == "up" else book.fail(name)
        rounds.append(
            {"checks": {name: book.check(name) for name in answers}, "states": book.shown()}
        )
        book.now += given["secondsBetweenRounds"]
    return {"rounds": rounds}


# --- fallback -----------------------------------------------------------------------------------


def blame(error: str, rules: Rules) -> tuple[bool, str]:
    """Whether the next entry is tried, and who is to blame: provider, key, model, missing or ""."""
    if error == "capability":
        return "next-capable" in rules, ""
    if error in KEY:
        return ("next-key" in rules), "key" if "next-key" in rules else ""
    if error == "http_404":
        return ("next-model" in rules), "missing" if "next-model" in rules else ""
    if error == "truncated" and "half-answer" in rules:
        return True, ""
    is_new = (error in PASSING and "passing" in rules) or (
        error == "http_429" and "typed-429" in rules
    )
    if error in OUTAGES or error.startswith("http_5") or is_new:
        own = "own-health" in rules and error not in UNREACHED
        return True, "model" if own else "provider"
    return "own-refusal" in rules and error.startswith("http_4"), ""


def retryable(given: Given, rules: Rules) -> Any:
    """Whether the next entry is tried."""
    return {"retryable": blame(given["error"], rules)[0]}


class Routes:
    """The gateway with its providers."""

    def __init__(self, given: Given, rules: Rules) -> None:
        self.given, self.rules = given, rules
        found = table(given["yaml"], rules) or {"aliases": [], "default": None}
        self.chains = {one["name"]: one["chain"] for one in found["aliases"]}
        self.default = found["default"]
        self.providers, self.models = Book(given), Book(given)
        self.played: dict[str, int] = {}

    def advance(self, seconds: float) -> None:
        self.providers.now += seconds
        self.models.now += seconds

    def chain(self, model: str) -> list[str] | None:
        if not model and "default-alias" in self.rules:
            return self.chains.get(self.default or "")
        return self.chains.get(model) if model.startswith("mana/") else [model]

    def answer(self, provider: str) -> str:
        place = self.played.get(provider, 0)
        self.played[provider] = place + 1
        answers = self.given["providers"][provider].get("answers", ["ok"])
        return answers[min(place, len(answers) - 1)]

    def obstacle(self, provider: str, model: str, request: Given) -> str:
        if provider not in self.given["providers"]:
            return "unconfigured"
        if not (self.providers.check(provider) and self.models.check(f"{provider}/{model}")):
            return "cache-unhealthy"
        tools = self.given["providers"][provider].get("tools", True)
        is_able = tools if isinstance(tools, bool) else model in tools
        return "" if is_able or not request.get("tools") else "capability"

    def ask(self, request: Given) -> Given:
        chain = self.chain(request["model"])
        if chain is None:
            return {"error": {"kind": None, "name": "unknown_alias"}, "calls": []}
        calls, attempts, refusal = list[str](), list[list[str]](), ""
        for entry in chain:
            provider, _, model = (entry if "/" in entry else f"ollama/{entry}").partition("/")
            provider = provider.lower()
            obstacle = self.obstacle(provider, model, request)
            if obstacle == "capability" and "next-capable" not in self.rules:
                return {"error": failed("capability"), "calls": calls}
            if obstacle:
                attempts.append([entry, obstacle])
                continue
            calls.append(f"{provider}/{model}")
            error, chunks, later = outcome(self.answer(provider), provider)
            if not error:
                self.providers.ok(provider)
                self.models.ok(calls[-1])
                served = {"error": failed(later)} if later else {"served": calls[-1]}
                return served | {"calls": calls} | ({"chunks": chunks} if chunks else {})
            goes_on, culprit = blame(error, self.rules)
            self.note(provider, calls[-1], error, culprit)
            if not goes_on:
                return {"error": failed(error), "calls": calls}
            is_refusal = culprit == "" and error.startswith("http_4")
            refusal = error if is_refusal else refusal
            reason = "refused" if is_refusal else "failed"
            attempts.append([entry, "capability" if error == "capability" else reason])
        if refusal and {reason for _, reason in attempts} <= {
            "unconfigured",
            "capability",
            "refused",
        }:
            return {"error": failed(refusal), "calls": calls}
        attempts = [[entry, "failed" if why == "refused" else why] for entry, why in attempts]
        if {reason for _, reason in attempts} - {"unconfigured"} == {"capability"}:
            return {"error": failed("capability"), "calls": calls}
        return {"error": failed("no_healthy_provider"), "attempts": attempts, "calls": calls}

    def note(self, provider: str, target: str, error: str, culprit: str) -> None:
        limited = error in ("rate_limit", "http_429")
        wait = 15.0 if limited and "short-wait" in self.rules else None
        if culprit in ("model", "missing"):
            trips = True if culprit == "missing" else None
            self.models.fail(target, wait=wait, trips=trips)
        if culprit not in ("model", "provider", "key"):
            return
        suspects = self.providers.suspects.setdefault(provider, set())
        suspects.add(target)
        enough = (
            self.providers.state(provider)["consecutiveFailures"] + 1 >= self.providers.threshold
        )
        is_own = culprit != "model"
        trips = culprit == "key" or (enough and (is_own or len(suspects) > 1))
        self.providers.fail(provider, wait=wait, trips=trips)


def outcome(answer: str, provider: str) -> tuple[str, list[str], str]:
    """The error before the first chunk or "", the chunks, and the error after them or ""."""
    head, _, rest = answer.partition(":")
    if head == "after":
        return "", [f"{provider}:0"], rest
    if head == "ok":
        return "", [f"{provider}:{place}" for place in range(int(rest or 0))], ""
    return ("" if head == "empty" else rest if head == "before" else answer), [], ""


def failed(error: str) -> Given:
    """An error as the suite shows it."""
    if error in STATUS:
        return {"kind": error, "httpStatus": STATUS[error]}
    if error == "provider_error":
        return {"kind": "unknown", "httpStatus": 502}
    return {"kind": None, "name": NAMES.get(error, "HTTPStatusError")}


def route(given: Given, rules: Rules) -> Any:
    """What became of each request, and the states of the providers at the end."""
    routes, requests = Routes(given, rules), list[Given]()
    for step in given["steps"]:
        (what, value), *_ = step.items()
        if what == "request":
            requests.append(routes.ask(value))
        elif what == "advance":
            routes.advance(value)
        else:
            routes.providers.ok(value) if what == "ok" else routes.providers.fail(value)
    return {"requests": requests, "states": routes.providers.shown()}


FUNCTIONS = {
    "registry": registry,
    "resolve": resolve,
    "reload": reload,
    "health": health,
    "probe": probe,
    "retryable": retryable,
    "route": route,
}
