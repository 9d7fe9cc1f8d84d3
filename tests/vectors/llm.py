"""The cases of the model gateway, put to our registry, health and router."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from mana_actors.errors import ProviderBusy, ProviderError, ProviderRefused
from mana_actors.llm.completions import failure
from mana_actors.llm.router.aliases.alias_file import RegistryInvalid, read_registry
from mana_actors.llm.router.aliases.registry import (
    ProviderEntry,
    Registry,
    Target,
    UnknownAlias,
    direct_target,
    is_alias,
)
from mana_actors.llm.router.chain.circuits import Circuits, ModelHealth, ProviderTrouble
from mana_actors.llm.router.chain.failures import consequence_of
from mana_actors.llm.router.chain.trail import NoProviderLeft
from mana_actors.llm.router.routing import Router
from tests.upstreams import HandClock, ScriptedUpstream
from tests.vectors.reference_llm import NAMES, STATUS, TIMEOUTS, UNREACHED
from tests.vectors.verdict import Case

Given = dict[str, Any]
ASK_S = 10.0
PROBE_TIMEOUT_S = 0.05


def give_llm(given: Given) -> Any:
    """What ours gives for a case."""
    return FUNCTIONS[given["fn"]](given)


def view_llm(value: Any, case: Case) -> Any:
    """Without empty lists of chunks, and the texts of errors where the suite leaves them open."""
    if isinstance(value, dict):
        shown = cast("Given", value)
        return {
            key: view_llm(part, case)
            for key, part in shown.items()
            if (key, part) != ("chunks", [])
        }
    if isinstance(value, list):
        parts = cast("list[Any]", value)
        return [view_llm(part, case) for part in parts]
    return value


# --- the file -----------------------------------------------------------------------------------


def _shown(registry: Registry) -> Given:
    aliases = [
        {
            "name": alias.name,
            "description": alias.description,
            "chain": [target.name for target in alias.chain],
        }
        for alias in registry.aliases.values()
    ]
    return {"aliases": aliases, "default": registry.default}


def _registry(given: Given) -> Any:
    try:
        return {"ok": True} | _shown(read_registry(given["yaml"]))
    except RegistryInvalid:
        return {"ok": False}


def _resolve(given: Given) -> Any:
    registry, name = read_registry(given["yaml"]), given["name"]
    alias = registry.aliases.get(name)
    known = {"chain": [target.name for target in alias.chain]} if alias else {"unknown": True}
    return {"isAlias": is_alias(name)} | known


def _reload(given: Given) -> Any:
    first = read_registry(given["first"])
    try:
        return {"ok": True} | _shown(read_registry(given["second"]))
    except RegistryInvalid:
        return {"ok": False} | _shown(first)


# --- health -------------------------------------------------------------------------------------


def _state(health: ModelHealth, *, texts: bool) -> Given:
    return {
        "healthy": health.status == "healthy",
        "consecutiveFailures": health.consecutive_failures,
        "lastError": health.last_error if texts or not health.last_error else "set",
        "unhealthyUntil": health.unhealthy_until_unix or 0.0,
        "lastCheck": health.last_check_unix or 0.0,
    }


def _health(given: Given) -> Any:
    notices: list[list[Any]] = []
    try:
        health = Circuits(
            given["threshold"], given["backoff"], lambda name, well: notices.append([name, well])
        )
    except ValueError:
        return {"error": True}
    now, checks = 1000.0, list[bool]()
    for what, first, *reason in given["ops"]:
        if what == "advance":
            now += first
        elif what == "check":
            checks.append(health.is_available(Target(first, "m"), now))
        elif what == "ok":
            health.succeeded(Target(first, "m"), now)
        else:
            health.failed(Target(first, "m"), ProviderTrouble(reason[0]), now)
    states = {name: _state(shown, texts=True) for name, shown in health.snapshot().items()}
    return {"checks": checks, "states": states, "notices": notices}


def _probe(given: Given) -> Any:
    return asyncio.run(_rounds(given))


PROBES: dict[str, Any] = {"up": True, "down": False, "raise": RuntimeError("x"), "hang": "hang"}


async def _rounds(given: Given) -> Any:
    names = sorted({name for answers in given["rounds"] for name in answers})
    upstreams = {name: ScriptedUpstream(name) for name in names}
    clock = HandClock()
    router = Router(
        Registry({}),
        upstreams,
        clock=clock,
        threshold=given["threshold"],
        backoff_s=given["backoff"],
    )
    rounds: list[Given] = []
    for answers in given["rounds"]:
        for name, answer in answers.items():
            upstreams[name].probes = [PROBES[answer]]
        await router.probe_once(PROBE_TIMEOUT_S)
        states = {name: _state(h, texts=False) for name, h in router.health().items()}
        checks = {name: states[name]["unhealthyUntil"] <= clock.now for name in answers}
        rounds.append({"checks": checks, "states": states})
        clock.now += given["secondsBetweenRounds"]
    return {"rounds": rounds}


# --- fallback -----------------------------------------------------------------------------------


def _error(name: str) -> Exception:
    """The error of ours that means what the suite calls `name`."""
    if name.startswith("http_"):
        return failure(int(name[5:]), b"", retry_after_s=None, provider="p")
    if name == "value_error":
        return ValueError("x")
    if name == "provider_error":
        return ProviderBusy("unknown", 502)
    if name in ("auth", "blocked", "capability"):
        return ProviderRefused(name, STATUS[name])
    if name in ("rate_limit", "truncated"):
        return ProviderBusy(name, STATUS[name])
    if name in TIMEOUTS or name == "builtin_timeout":
        return ProviderBusy("timeout")
    if name in UNREACHED:
        return ProviderBusy("network")
    return type(name, (Exception,), {})(name)  # whatever it is, it is none of the network's


def _retryable(given: Given) -> Any:
    error = _error(given["error"])
    return {"retryable": isinstance(error, ProviderError) and consequence_of(error).next_entry}


def _answer(text: str) -> tuple[Any, tuple[Exception, str] | None]:
    """An answer for a scripted upstream, and the error it plays with the suite's name for it."""
    head, _, rest = text.partition(":")
    if head in ("ok", "empty"):
        return ({"chunks": int(rest or 0)} if rest or head == "empty" else "ok"), None
    error = _error(rest or text)
    played = {"chunks": 1, "error": error} if head == "after" else error
    return played, (error, rest or text)


class _Stage:
    """Our router among the providers of a case."""

    def __init__(self, given: Given) -> None:
        self.calls: list[str] = []
        self.names: list[tuple[Exception, str]] = []
        self.clock = HandClock()
        providers: dict[str, Given] = given["providers"]
        registry = read_registry(given["yaml"])
        entries = {name: _entry(name, about) for name, about in providers.items()}
        self.router = Router(
            Registry(registry.aliases, registry.default, entries),
            {name: self._upstream(name, about) for name, about in providers.items()},
            clock=self.clock,
            threshold=given["threshold"],
            backoff_s=given["backoff"],
        )

    def _upstream(self, name: str, about: Given) -> ScriptedUpstream:
        found = [_answer(text) for text in about.get("answers", ["ok"])]
        self.names += [named for _, named in found if named is not None]
        return ScriptedUpstream(name, [answer for answer, _ in found], self.calls)

    async def ask(self, request: Given) -> Given:
        self.calls.clear()
        chunks: list[str] = []
        body: Given = {"model": request["model"], "messages": []}
        body |= {"tools": [{"type": "function"}]} if request.get("tools") else {}
        try:
            served = await self._served(body, chunks, stream=bool(request.get("stream")))
        except Exception as exc:  # noqa: BLE001 - whatever comes out is what the case is about
            served = self._failed(exc, request["model"])
        return served | {"calls": list(self.calls), "chunks": chunks}

    async def _served(self, body: Given, chunks: list[str], *, stream: bool) -> Given:
        if not stream:
            answer = await self.router.complete(body, exposure="any", deadline_s=ASK_S)
            return {"served": answer.target.name}
        found = await self.router.stream(body, exposure="any", deadline_s=ASK_S)
        async for chunk in found.answer:
            chunks.append(chunk["chunk"])  # noqa: PERF401 - what came before an error counts
        return {"served": found.target.name}

    def _failed(self, exc: Exception, model: str) -> Given:
        if isinstance(exc, UnknownAlias):
            return {"error": {"kind": None, "name": "unknown_alias"}}
        named = next((name for error, name in self.names if error is exc), "")
        if named and named not in STATUS and named != "provider_error":
            is_http = named.startswith("http_")
            name = "HTTPStatusError" if is_http else NAMES.get(named, named)
            return {"error": {"kind": None, "name": name}}
        kind = exc.kind if isinstance(exc, ProviderError) else type(exc).__name__
        error = {"error": {"kind": kind, "httpStatus": STATUS.get(kind)}}
        if isinstance(exc, NoProviderLeft):
            error["attempts"] = [_attempt(a.target, a.reason, model) for a in exc.attempts]  # pyright: ignore[reportArgumentType]
        return error

    def mark(self, provider: str, *, well: bool) -> None:
        health = self.router._circuits  # pyright: ignore[reportPrivateUsage] - what calls would tell it
        target = Target(provider, "m")
        if well:
            health.succeeded(target, self.clock.now)
        else:
            health.failed(target, ProviderTrouble("set"), self.clock.now)


def _entry(name: str, about: Given) -> ProviderEntry:
    tools = about.get("tools", True)
    return ProviderEntry(
        name, "http://x", "any", tools=tools if isinstance(tools, bool) else tuple(tools)
    )


def _attempt(target: Target, reason: str, model: str) -> list[str]:
    """An attempt under the name that was asked for, with the suite's word for every failure."""
    known = ("unconfigured", "cache-unhealthy", "capability")
    name = model if direct_target(model) == target else target.name
    return [name, reason if reason in known else "failed"]


def _route(given: Given) -> Any:
    return asyncio.run(_requests(given))


async def _requests(given: Given) -> Any:
    stage, requests = _Stage(given), list[Given]()
    for step in given["steps"]:
        (what, value), *_ = step.items()
        if what == "request":
            requests.append(await stage.ask(value))
        elif what == "advance":
            stage.clock.now += value
        else:
            stage.mark(value, well=what == "ok")
    shown = stage.router.health().items()
    states = {n: _state(health, texts=False) for n, health in shown if health.last_check_unix}
    return {"requests": requests, "states": states}


FUNCTIONS = {
    "registry": _registry,
    "resolve": _resolve,
    "reload": _reload,
    "health": _health,
    "probe": _probe,
    "retryable": _retryable,
    "route": _route,
}
