"""Every place where a Rule of the spec beats the original, as a predicate on a case's input.

A Rule matters for an input exactly when switching it changes the reference's answer: when taking
it out of all Rules does, or putting it in alone. The value we must then give is the reference's
with all Rules on.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.vectors import reference, reference_grants, reference_prompt
from tests.vectors.reference import DUE_RULES, FOLD_RULES, Rules
from tests.vectors.reference_llm import LLM_RULES, llm
from tests.vectors.reference_loop import LOOP_RULES, planner_loop
from tests.vectors.reference_tick import TICK_RULES, tick
from tests.vectors.verdict import Override

FOLD_TEXTS = {
    "instants": "data-model §2.3: compare instants, not text; an unparsable stamp is none (D-12)",
    "normal-stamps": "data-model §2.3: store winning stamps as normalised strings",
    "object-stamps": "data-model §2.3: an object stamp counts by its `at` in every reader (D-12)",
    "internal-fields": "data-model §2.3: id, __fieldMeta, _updatedAtIndex are never merged",
    "later-insert": "data-model §2.3: a later insert is as old as data.updatedAt, createdAt",
    "undelete": "data-model §2.3: after a hard delete a later row recreates the record (D-18)",
    "soft-delete": "data-model §2.3: a delete row with deletedAt is a write of that field (D-18)",
    "quarantine": "design 'Poison', F21: a row with an unknown op or wrong data is skipped",
    "one-merge": "D-12: one shared reducer, the same result for every reader",
    "late-rows": "D-14: no committed row is ever skipped; a late one makes its record be replayed",
    "deleted-nonnull": "data-model §2.3: a record is hidden when deletedAt is non-null",
}
DUE_TEXTS = FOLD_TEXTS | {
    "complete": "data-model §2.3: a record without an insert row is never schedulable",
    "due-instants": "data-model §3, D-19: due compares instants; without one it is never due",
    "tolerant-fields": "data-model §3: a field or entry of a wrong type is taken as absent",
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
        "data-model §4: a value out of range is refused, the mission is not scheduled",
        lambda given: reference.cadence_fault(given["cadence"]),
        _cadence_value,
    ),
    Override(
        "gap-shift",
        "data-model §4: a wall time shifted by a gap does not shift the days after it",
        _gap_matters,
        _cadence_value,
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
        "malformed", "data-model §7: a malformed policy is tolerated and only restricts"
    ),
    _policy_override("unknown", "data-model §7: an unknown decision is treated as deny"),
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
    """The row by data-model §5, spelled out."""
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
        "data-model §5: the iteration id is one per occurrence, so that retries collapse (D-03)",
        _repeats,
        _row_value,
    ),
    Override(
        "bounded-history",
        "D-58, design 'One run': the array keeps the newest 200 iterations or 256 KiB",
        _overflows,
        _row_value,
    ),
)

# --- tick ---------------------------------------------------------------------------------------

TICK_TEXTS = {
    "next-run": "D-01, tick §12: `iterations` and `nextRunAt` change in the same row",
    "served-slot": "D-01, design 'When': a due slot whose run is over is moved on, never run again",
    "blocked-waits": "design 'When': a decision is counted when it changes, not at each poll",
    "missing-agent": "D-24: a named agent that is deleted, unknown or another user's: skipped",
    "default-agent": "D-24: a mission without agentId is legacy:ai-default's, with its limits",
    "per-user": "D-04: keys are (user, agent); one user never limits another",
    "tolerant-agent": "D-31: an agent's odd state, concurrency or cap only restricts",
    "tolerant-policy": "D-31: an odd policy only restricts, and is no error",
    "complete": "data-model §2.3: a record without an insert row is never schedulable",
    "checked-calls": "D-28: only offered tools with valid arguments become steps",
    "no-doubles": "D-32: the same call made twice is one step",
    "no-empty-plan": "D-32: an empty reply is a failed iteration, not an approved one",
    "hold": "D-25, P5: no call starts unless its hold fits under the cap",
    "all-usage": "D-26: usage is recorded without an agent and for failed runs too",
    "unreported": "tick §11, design 'Budget': usage that is not reported is charged at its hold",
    "back-off": "D-09: what failed backs off; what fails for good is a visible failed iteration",
    "winning-stamps": "design 'One run': our stamp wins against a clock that runs ahead",
}


def _waits_for_research(given: Any) -> bool:
    return bool(given["deepResearch"] or given["researchJobs"])


TICK = (
    Override(
        "no-research-yet",
        "research arrives with the research issue; until then planned without it",
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
        "crypto §4 (D-41): version, scope, dates and the 30-day maximum are checked before the key",
        reference_grants.bad_claims,
        lambda given: {"ok": False, "reason": "malformed"},
    ),
    Override(
        "scope-validated",
        "D-48: ids are table:id of a listed table, without commas; the scope is bounded",
        reference_grants.bad_scope,
        lambda given: REFUSED_400,
    ),
    Override(
        "scope-deduplicated",
        "D-48: a scope lists each table and record once",
        reference_grants.repeated_scope,
        reference_grants.minted_once,
    ),
)
AESGCM = (
    Override(
        "bad-utf8",
        "crypto §7: bytes that are no UTF-8 are a failed decryption (decrypt-failed)",
        reference_grants.holds_bad_utf8,
        reference_grants.failed_opening,
    ),
    Override(
        "audit-ciphertext-only",
        "crypto §7 (D-43): no ok row for a record without ciphertext",
        reference_grants.reads_plain_record,
        reference_grants.unaudited,
    ),
)

# --- planner ------------------------------------------------------------------------------------

LOOP_TEXTS = {
    "all-usage": "D-26, tick §11: a provider's total_tokens counts where it is larger",
    "bounded-answer": "design 'Budget': max_tokens makes the hold of a call a bound",
    "measured-context": "D-33, tick §10.3: compaction measures the context that is really sent",
    "no-doubles": "D-32: the same proposal made twice counts once",
    "no-empty-tools": "D-33, tick §10.3: neither tools nor tool_choice where no tools are offered",
    "plan-size": "D-30, tick §15: a plan has 25 steps at most, and one turn 50 calls",
    "stop-reasons": "D-32: empty and truncated answers are marked as such",
    "whole-exchanges": "D-33: a kept tool turn keeps its call, and the current request stays",
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
        "data-model §3: a mission that arrived as ciphertext is skipped-unreadable",
        reference_prompt.is_unreadable,
    ),
    _run_override(
        "identity",
        "D-35: the agent's name and role are in the prompt, its ciphertext never",
        reference_prompt.identity,
    ),
    _run_override(
        "not-blind",
        "crypto §5 (D-40, D-46): read as sealed copies under a grant, else skipped",
        reference_prompt.reads_sealed,
    ),
    _run_override(
        "no-web-yet",
        "web search arrives with the research issue; until then planned without it",
        reference_prompt.is_researched,
    ),
)

# --- llm_alias ----------------------------------------------------------------------------------

LLM_TEXTS = {
    "whole-file": "llm-gateway §2 [D]: repeated keys and aliases inside a chain are refused",
    "default-alias": "llm-gateway §2 [D]: a request without a model means the default alias",
    "next-capable": "llm-gateway §4 [D], issue 3: a capability miss tries the next entry",
    "next-key": "llm-gateway §4 [D]: a refused key is that provider's trouble, the next one serves",
    "next-model": "llm-gateway §4 [D]: a missing model (404) falls back, and is its own trouble",
    "typed-429": "llm-gateway §4 [D]: a 429 is a rate limit, falls back and counts",
    "passing": "tick §10.1: any timeout, 408, 409 and 425 pass, so the next entry is tried",
    "short-wait": "llm-gateway §4: a rate limit backs off for 15 s, or as long as it says",
    "half-answer": "llm-gateway §4 [D]: a truncated answer is no outage",
    "own-health": "llm-gateway §3 [D], issue 3: health per model, one slow model blocks no other",
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
}
