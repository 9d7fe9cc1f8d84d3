"""Every place where a rule of ours wins over what the original did, and why, in words.

Each override has a predicate on a case's input. A rule matters for an input exactly when switching
it changes the reference's answer: when taking it out of all rules does, or putting it in alone.
What we must then give is the answer of the reference with all rules on.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.vectors import reference, reference_grants, reference_prompt
from tests.vectors.reference import DUE_RULES, FOLD_RULES, Rules
from tests.vectors.reference_llm import LLM_RULES, llm
from tests.vectors.reference_loop import LOOP_RULES, planner_loop
from tests.vectors.reference_tick import TICK_RULES, tick
from tests.vectors.staging import STAGING
from tests.vectors.verdict import Override

FOLD_TEXTS = {
    "instants": "stamps compare as instants, since one moment has many texts; no instant, no stamp",
    "normal-stamps": "a winning stamp is stored in one form, so that all readers store the same",
    "object-stamps": "an object stamp counts by its `at` in every reader, or readers would differ",
    "internal-fields": "id, __fieldMeta and _updatedAtIndex are a client's own and never data",
    "later-insert": "a second insert is as old as updatedAt or createdAt say, or it beats edits",
    "undelete": "a row after a hard delete makes the record anew, or the owner's write is lost",
    "soft-delete": "a delete with deletedAt writes that field, so that a newer undelete beats it",
    "quarantine": "a row with an unknown op or wrong data is skipped, or it stops the whole log",
    "one-merge": "every reader merges alike, or two readers see two records",
    "late-rows": "no committed row is skipped: one that comes late has its record replayed",
    "deleted-nonnull": "a record is gone once deletedAt is neither null nor empty",
}
DUE_TEXTS = FOLD_TEXTS | {
    "complete": "a record without an insert row is never due: only half of it is known",
    "due-instants": "due compares instants, as text is not in order of time; without one never due",
    "tolerant-fields": "a field or entry of a wrong type counts as absent, and the rest is read",
}


def _switched(
    answer: Callable[[Any, Rules], Any], rules: Rules, texts: dict[str, str]
) -> tuple[Override, ...]:
    def matters(rule: str) -> Callable[[Any], bool]:
        def applies(given: Any) -> bool:
            without = answer(given, rules - {rule})
            alone = answer(given, frozenset({rule}))
            return without != answer(given, rules) or alone != answer(given, frozenset())

        return applies

    return tuple(
        Override(rule, texts[rule], matters(rule), lambda given: answer(given, rules))
        for rule in sorted(rules)
    )


# --- cadence ------------------------------------------------------------------------------------


def _cadence_value(given: Any) -> Any:
    return {"nextRunAt": reference.next_run(given, shifted=False)}


def _gap_matters(given: Any) -> bool:
    return reference.next_run(given, shifted=True) != reference.next_run(given, shifted=False)


CADENCE = (
    Override(
        "cadence-range",
        "a cadence out of range is refused and not scheduled: nobody can say when it would run",
        lambda given: reference.cadence_fault(given["cadence"]),
        _cadence_value,
    ),
    Override(
        "gap-shift",
        "a wall time moved by a clock change moves that day alone, not the days after it",
        _gap_matters,
        _cadence_value,
    ),
    Override(
        "cron",
        "an expression that can be read is scheduled in the owner's zone",
        lambda given: reference.next_match(given) is not None,
        lambda given: {"nextRunAt": reference.next_match(given)},
    ),
)

# --- policy -------------------------------------------------------------------------------------


def _policy_of(given: Any) -> Any:
    if given["fn"] == "resolve":
        return given["policy"] if given["actor"]["kind"] == "ai" else None
    agent: dict[str, Any] = given.get("agent") or {}
    return agent.get("policy") if given["fn"] == "filter" else None


def _policy_value(given: Any) -> Any:
    modules = {tool["name"]: tool["module"] for tool in given["tools"]}
    policy = _policy_of(given)
    if given["fn"] == "resolve":
        name = given["toolName"]
        return {"decision": reference.decision(name, modules.get(name), policy)}
    kept = [
        name
        for name, module in modules.items()
        if reference.decision(name, module, policy) != "deny"
    ]
    return {"tools": kept}


def _policy_override(fault: str, rule: str) -> Override:
    return Override(
        f"policy-{fault}",
        rule,
        lambda given: fault in reference.policy_faults(_policy_of(given)),
        _policy_value,
    )


POLICY = (
    _policy_override(
        "malformed", "a malformed policy only ever restricts: nothing is allowed that nobody wrote"
    ),
    _policy_override(
        "unknown", "an unknown decision denies: whoever wrote it meant something else than yes"
    ),
)

# --- iteration ----------------------------------------------------------------------------------

KEEP, KEEP_BYTES = 200, 262_144


def _is_append(given: Any) -> bool:
    return given["fn"] == "append" and bool(given["userId"])


def _repeats(given: Any) -> bool:
    return _is_append(given) and any(
        old["id"] == given["newIteration"]["id"] for old in given["existing"]
    )


def _overflows(given: Any) -> bool:
    if not _is_append(given):
        return False
    whole = [*given["existing"], given["newIteration"]]
    return reference.bounded(whole, KEEP, KEEP_BYTES) != whole


def _kept_iterations(given: Any) -> list[Any]:
    new, existing = given["newIteration"], given["existing"]
    finished = [old for old in existing if old["overallStatus"] not in ("failed", "running")]
    if any(old["id"] == new["id"] for old in finished):
        return reference.bounded(existing, KEEP, KEEP_BYTES)
    others = [old for old in existing if old["id"] != new["id"]]
    return reference.bounded([*others, new], KEEP, KEEP_BYTES)


def _row_value(given: Any) -> Any:
    """The row that clients expect, spelled out."""
    actor: dict[str, Any] = {
        "kind": "system",
        "principalId": "system:mission-runner",
        "displayName": "Mission-Runner",
    }
    if given["iterationId"]:
        agent = given["agent"] or {"id": "legacy:ai-default", "name": "Mana"}
        actor = {"kind": "ai", "principalId": agent["id"], "displayName": agent["name"]}
        actor |= {"missionId": given["missionId"], "iterationId": given["iterationId"]}
        actor |= {"rationale": given["rationale"] or ""}
    return {
        "row": {
            "app_id": "ai",
            "table_name": "aiMissions",
            "record_id": given["missionId"],
            "user_id": given["userId"],
            "op": "update",
            "data": {"iterations": _kept_iterations(given)},
            "field_meta": {"iterations": given["now"]},
            "client_id": "mana-ai-runner",
            "schema_version": 1,
            "actor": actor,
            "origin": "agent",
        }
    }


ITERATION = (
    Override(
        "same-iteration",
        "one occurrence has one iteration id, so that a retry does not add a second plan",
        _repeats,
        _row_value,
    ),
    Override(
        "bounded-history",
        "the array keeps the newest 200 iterations or 256 KiB: it travels whole with every write",
        _overflows,
        _row_value,
    ),
)

# --- tick ---------------------------------------------------------------------------------------

TICK_TEXTS = {
    "next-run": "`iterations` and `nextRunAt` change in one row, or a crash between runs it twice",
    "served-slot": "a due time whose run is over is moved on, never run again",
    "blocked-waits": "a decision counts when it changes, not at each poll, or counts mean nothing",
    "missing-agent": "an agent that is named but deleted, unknown or another user's runs nothing",
    "default-agent": "a mission that names no agent belongs to the owner's default agent",
    "per-user": "an agent is told by user and id: one user never limits another",
    "at-once": "a cap limits what runs at once, not what a pass begins: the next waits for a place",
    "tolerant-agent": "an agent's odd state, concurrency or cap only restricts",
    "tolerant-policy": "an odd policy only restricts and stops nothing else",
    "complete": "a record without an insert row is never due: only half of it is known",
    "checked-calls": "only tools that were offered, with valid arguments, become steps",
    "no-doubles": "a call made twice is one step: its owner would approve it twice",
    "no-empty-plan": "an empty reply is a failed iteration, not one approved without being seen",
    "hold": "no call starts unless the most it can cost fits under the cap",
    "all-usage": "usage counts for failed runs and for missions without an agent, too",
    "unreported": "usage that is not reported is charged at what was held, or it would be free",
    "back-off": "what failed waits longer each time; what fails for good leaves an iteration",
    "winning-stamps": "our stamp wins over a clock that runs ahead, or we could never write",
}


def _waits_for_research(given: Any) -> bool:
    return bool(given["deepResearch"] or given["researchJobs"])


TICK = (
    Override(
        "no-research-yet",
        "there is no research yet, so such a mission is planned without it",
        _waits_for_research,
        lambda given: tick(given, TICK_RULES),
    ),
    *_switched(tick, TICK_RULES, TICK_TEXTS),
)

# --- grant and aesgcm ---------------------------------------------------------------------------

REFUSED_400 = {"status": 400, "code": "BAD_REQUEST"}

GRANT = (
    Override(
        "grant-claims",
        "version, scope, dates and 30 days at most are checked before the key is touched",
        reference_grants.bad_claims,
        lambda given: {"ok": False, "reason": "malformed"},
    ),
    Override(
        "scope-validated",
        "a scope is bounded, and its ids are table:id without commas, or two scopes read the same",
        reference_grants.bad_scope,
        lambda given: REFUSED_400,
    ),
    Override(
        "scope-deduplicated",
        "a scope lists each table and record once, so that one scope gives one key",
        reference_grants.repeated_scope,
        reference_grants.minted_once,
    ),
)
AESGCM = (
    Override(
        "bad-utf8",
        "bytes that are no UTF-8 fail to decrypt instead of reaching a prompt with holes",
        reference_grants.holds_bad_utf8,
        reference_grants.failed_opening,
    ),
    Override(
        "audit-ciphertext-only",
        "the audit says nothing of a record without ciphertext, since nothing was decrypted",
        reference_grants.reads_plain_record,
        reference_grants.unaudited,
    ),
)

# --- planner ------------------------------------------------------------------------------------

LOOP_TEXTS = {
    "all-usage": "a provider's own total counts where it is larger: parts leave something out",
    "bounded-answer": "max_tokens is sent, so that what is held before a call is a bound",
    "measured-context": "compaction measures what is really sent, with tools and system prompt",
    "no-doubles": "a proposal made twice counts once: its owner would approve it twice",
    "no-empty-tools": "neither tools nor tool_choice is sent where none are offered",
    "plan-size": "a plan has 25 steps at most and a turn 50 calls: nobody reviews more",
    "stop-reasons": "an empty, cut-off or oddly ended answer is marked: it is no whole plan",
    "whole-exchanges": "a kept tool answer keeps its call, or providers refuse the conversation",
}


def _run_override(name: str, rule: str, applies: Callable[[dict[str, Any]], object]) -> Override:
    return Override(
        name,
        rule,
        lambda given: given["fn"] == "run" and bool(applies(given)),
        reference_prompt.run_prompt,
    )


PROMPT = (
    _run_override(
        "unreadable",
        "a mission that arrived as ciphertext is skipped: a plan of it would be a guess",
        reference_prompt.is_unreadable,
    ),
    _run_override(
        "identity",
        "the agent's name and role are in the prompt and its ciphertext never",
        reference_prompt.identity,
    ),
    _run_override(
        "not-blind",
        "encrypted inputs are read as sealed copies under a grant, else nothing is planned blindly",
        reference_prompt.reads_sealed,
    ),
    _run_override(
        "no-web-yet",
        "there is no web search yet, so such a mission is planned without it",
        reference_prompt.is_researched,
    ),
)

# --- llm_alias ----------------------------------------------------------------------------------

LLM_TEXTS = {
    "whole-file": "repeated keys are refused, as one would be lost; so are aliases inside a chain",
    "default-alias": "a request without a model means the default alias",
    "next-capable": "an entry that lacks a capability is passed by, as the next may have it",
    "next-key": "a refused key is that provider's trouble, and the next entry serves",
    "next-model": "a missing model (404) falls back and is that model's own trouble",
    "typed-429": "a 429 is a rate limit: it falls back and counts as one",
    "passing": "timeouts, 408, 409 and 425 pass by themselves, so the next entry is tried",
    "short-wait": "a rate limit backs off for 15 s, or for as long as the provider says",
    "own-refusal": "a refusal mostly speaks of one entry, so the next is tried; no model is blamed",
    "half-answer": "an answer that was cut off is no outage: the provider is there",
    "own-health": "health is kept for each model, so that one slow model blocks no other",
}

OVERRIDES: dict[str, tuple[Override, ...]] = {
    "lww": _switched(reference.lww, FOLD_RULES, FOLD_TEXTS),
    "due": _switched(reference.due, DUE_RULES, DUE_TEXTS),
    "actor": (),
    "cadence": CADENCE,
    "iteration": ITERATION,
    "policy": POLICY,
    "grant": GRANT,
    "aesgcm": AESGCM,
    "planner_loop": _switched(planner_loop, LOOP_RULES, LOOP_TEXTS),
    "reminders": (),
    "injection": (),
    "prompt": PROMPT,
    "tick": TICK,
    "llm_alias": _switched(llm, LLM_RULES, LLM_TEXTS),
    "staging": STAGING,
}
