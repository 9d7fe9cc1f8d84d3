"""One tiny call that looks like a real one: does a model answer, does it call tools, what fits."""

import time
from typing import Any

import httpx2
import msgspec

from mana_actors.agent.planner.exchange import (
    DEFAULT_TEMPERATURE,
    ChatMessage,
    ModelRequest,
)
from mana_actors.agent.planner.prompt import PlanInput, loop_input
from mana_actors.clients.answers import AnswerUnreadable, BoundedAnswer, bounded_answer
from mana_actors.json_values import JsonObject, as_object, as_text, objects_in
from mana_actors.llm.headers import (
    COST_HEADER,
    DEADLINE_HEADER,
    EXPOSURE_HEADER,
    RESOLVED_HEADER,
    count_in,
)
from mana_actors.llm.provider import AliasFacts
from mana_actors.llm.router.entries.abilities import ASSUMED_CONTEXT
from mana_actors.trust import trust_for
from state.log.records import Mission
from state.rules.policy import DEFAULT_POLICY
from supervisor.node.models import model_asked_for, router_url, token_file
from supervisor.node.settings import Settings

TRIAL_S = 60.0
ASK_S = 3.0
UNTOLD = "no reason given"
TOOL: JsonObject = {
    "type": "function",
    "function": {
        "name": "report_ready",
        "description": "Reports that you are ready.",
        "parameters": {
            "type": "object",
            "properties": {"word": {"type": "string", "description": "The word: ready"}},
            "required": ["word"],
        },
    },
}


class RouterSilent(Exception):
    """The router did not answer in time, or is not there."""


class Trial(msgspec.Struct, frozen=True):
    """What became of the call; no text of the model's is in it.

    `calls_tools`: it called the tool that it was told to call. Without `ok`, `kind` and `error` say
    why nobody answered.
    """

    ok: bool
    latency_ms: float
    status: int = 200
    resolved: str = ""
    exposure: str = ""
    calls_tools: bool = False
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cost_micros: int | None = None
    kind: str = ""
    error: str = ""
    reasons: tuple[str, ...] = ()  # by code, of each entry of the chain that did not answer


async def tried(settings: Settings, model: str, seconds: float = TRIAL_S) -> Trial:
    """Ask an alias or a model by the shape of a real call; raises RouterSilent."""
    asked = {
        "model": model,
        "temperature": DEFAULT_TEMPERATURE,
        "max_tokens": settings.agent.max_output_tokens,
        "stream": False,
        "tools": [TOOL],
        "tool_choice": "auto",
        "messages": [
            {"role": "system", "content": "You test whether you can call tools."},
            {"role": "user", "content": "Call the tool report_ready with the word: ready"},
            {"role": "system", "content": "Do not think long."},
        ],
    }
    began = time.monotonic()
    headers = {DEADLINE_HEADER: str(seconds)}
    told = await ask_router(
        settings, "POST", "/v1/chat/completions", seconds, asked, headers=headers
    )
    took_ms = round((time.monotonic() - began) * 1000, 1)
    body = decoded(told)
    if not told.is_success:
        known = as_object(body.get("detail")) or {}
        return Trial(
            ok=False,
            latency_ms=took_ms,
            status=told.status_code,
            kind=as_text(known.get("kind")) or "unknown",
            error=as_text(known.get("message")) or UNTOLD,
            reasons=tuple(
                as_text(one.get("reason")) or "" for one in objects_in(known.get("attempts"))
            ),
        )
    choices = objects_in(body.get("choices"))
    message = as_object(choices[0].get("message")) if choices else None
    calls = objects_in((message or {}).get("tool_calls"))
    usage = as_object(body.get("usage")) or {}
    prompt, completion = usage.get("prompt_tokens"), usage.get("completion_tokens")
    return Trial(
        ok=True,
        latency_ms=took_ms,
        resolved=told.headers.get(RESOLVED_HEADER, ""),
        exposure=told.headers.get(EXPOSURE_HEADER, ""),
        calls_tools=any(
            (as_object(call.get("function")) or {}).get("name") == "report_ready" for call in calls
        ),
        prompt_tokens=prompt if isinstance(prompt, int) else None,
        completion_tokens=completion if isinstance(completion, int) else None,
        cost_micros=count_in(told.headers.get(COST_HEADER)),
    )


def first_prompt_bytes(settings: Settings) -> int:
    """How long the first request of a mission is of which nothing is written yet."""
    agent = settings.agent
    given = loop_input(
        PlanInput(
            mission=Mission("m", "u"),
            agent=None,
            inputs=(),
            policy=DEFAULT_POLICY,
            boundary="0" * 16,
            model=model_asked_for(settings),
            max_output=agent.max_output_tokens,
            offered=agent.tools_offered,
        )
    )
    messages = ChatMessage("system", given.system), ChatMessage("user", given.user)
    return len(ModelRequest(given.model, messages, given.tools).raw)


def model_warnings(told: JsonObject, settings: Settings, *, has_money_limit: bool) -> list[str]:
    """What is wrong with the models that the router told of, in words; nothing if all is well."""
    facts, size = _facts_of(told, settings), first_prompt_bytes(settings)
    found: list[str] = []
    if facts is not None and 0 < facts.longest_prompt_bytes < size:
        found.append(
            f"a mission's first prompt needs about {facts.tokens_of(size):,} tokens, and no model"
            f" of {model_asked_for(settings)} takes more than {facts.largest_context_tokens:,}: use"
            " one with a larger context, or state its context in the alias file"
        )
    return found + (money_warnings(told, settings) if has_money_limit else [])


def context_in_words(told: JsonObject, model: str) -> str:
    """How long a model's context is, and who says so, by what the router told of it."""
    known = _told_of(told, model)
    tokens = (as_object(known.get("abilities")) or {}).get("context")
    if not isinstance(tokens, int):
        return f"nobody says how long its context is: {ASSUMED_CONTEXT:,} tokens are assumed"
    teller = as_text((as_object(known.get("told_by")) or {}).get("context"))
    return f"its context is {tokens:,} tokens ({teller or 'assumed'})"


def money_warnings(told: JsonObject, settings: Settings) -> list[str]:
    """Which models a limit in money does not bound, in words; nothing where all have a price."""
    facts = _facts_of(told, settings)
    if facts is None or not facts.unpriced:
        return []
    remedy = (
        "give one in the alias file, or with MANA_LLM_PRICE_PROMPT and MANA_LLM_PRICE_COMPLETION"
    )
    unpriced = ", ".join(facts.unpriced)
    return [f"limits in money do not bound {unpriced}: there is no price; {remedy}"]


def _facts_of(told: JsonObject, settings: Settings) -> AliasFacts | None:
    raw = _told_of(told, model_asked_for(settings)).get("facts")
    return None if raw is None else msgspec.convert(raw, AliasFacts)


def _told_of(told: JsonObject, name: str) -> JsonObject:
    """What the router says of an alias or a model, {} where that is nothing."""
    for each in (*objects_in(told.get("aliases")), *objects_in(told.get("models"))):
        if each.get("name") == name:
            return each
    return {}


async def ask_router(
    settings: Settings,
    verb: str,
    path: str,
    seconds: float = ASK_S,
    content: object = None,
    headers: dict[str, str] | None = None,
) -> BoundedAnswer:
    """The router's answer, good or bad; raises RouterSilent."""
    try:
        token = token_file(settings).read_text().strip()
        shown = {"authorization": f"Bearer {token}"} | (headers or {})
        raw = None if content is None else msgspec.json.encode(content)
        url = router_url(settings) + path
        async with httpx2.AsyncClient(verify=trust_for(url), trust_env=False) as http:
            return await bounded_answer(
                http, verb, url, within_s=seconds, headers=shown, content=raw
            )
    except AnswerUnreadable as exc:
        raise RouterSilent(exc.reason) from exc
    except (OSError, ValueError) as exc:
        raise RouterSilent(type(exc).__name__) from exc


def decoded(told: BoundedAnswer) -> dict[str, Any]:
    """The JSON object of an answer; raises RouterSilent where it is none."""
    try:
        return msgspec.json.decode(told.content, type=dict[str, Any])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
        raise RouterSilent("no JSON") from exc
