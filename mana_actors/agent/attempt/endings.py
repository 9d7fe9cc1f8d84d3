"""What a claimed run can end in, before the database has heard of it. Pure.

What comes of an ending, and what follows from that, is `state.runs.outcome`.
"""

from __future__ import annotations

from datetime import datetime

import msgspec

from mana_actors.agent.attempt.job import Job
from mana_actors.agent.inputs.sealed_inputs import Unreadable
from mana_actors.agent.planner.loop import PlanOutcome
from mana_actors.errors import ProviderError
from mana_actors.llm.failures.cause import Cause, LackKind
from state.log.iterations import PlannedStep, failed_iteration, iteration_from_plan
from state.log.stamps import text_of
from state.rules.budgets import Hold, Shortfall
from state.runs.commit import Iteration
from state.runs.occurrence import Closed
from state.runs.reason_words import ReasonCode
from state.runs.reasons import Language, in_words, told


class Planned(msgspec.Struct, frozen=True):
    """A plan to be written; `is_derived`: decrypted text went into it, so it is sealed."""

    plan: PlanOutcome
    warnings: tuple[str, ...]
    is_derived: bool

    @property
    def steps(self) -> int:
        """How many steps it has."""
        return len(self.plan.steps)

    @property
    def reason(self) -> str:
        """What the plan lacks, "" if nothing."""
        return "; ".join(filter(None, [self.plan.cut_short, *self.warnings]))


class GaveUp(msgspec.Struct, frozen=True):
    """No further try: the owner sees a failed iteration, and the mission moves on.

    `words` are the model's own, for its owner alone: they are in no reason. `is_derived` as of a
    plan.
    """

    name: str
    reason: str
    steps: int = 0
    words: str = ""
    is_derived: bool = False


class ComesAgain(msgspec.Struct, frozen=True):
    """It waits, the longer the more often it `failed`, or as long as a provider `asked_s` for.

    `is_failure` counts against its tries: an absent key holder is no failure of this mission.
    """

    failed: int
    reason: str
    is_failure: bool
    asked_s: float | None = None


class NoRoom(msgspec.Struct, frozen=True):
    """Its first call did not fit: it comes again when room returns or a cap changes."""

    hold: Hold
    short: Shortfall


class Blind(msgspec.Struct, frozen=True):
    """An input cannot be read: skipped rather than planned without it."""

    unreadable: Unreadable


class Stopped(msgspec.Struct, frozen=True):
    """Its owner wants it no longer, or its run was closed."""

    reason: str


Ending = Planned | GaveUp | ComesAgain | NoRoom | Blind | Stopped


FAILURES: dict[Cause, ReasonCode] = {
    "unconfigured": "model-unconfigured",
    "settings": "model-settings",
    "unreachable": "model-unreachable",
    "network": "model-network",
    "timeout": "model-timeout",
    "broken": "model-broken",
    "overloaded": "model-overloaded",
    "rate_limit": "model-rate-limit",
    "auth": "model-auth",
    "quota": "model-quota",
    "missing_model": "model-missing-model",
    "capability": "model-capability",
    "too_long": "model-too-long",
    "too_large": "model-too-large",
    "refused": "model-refused",
    "malformed": "model-malformed",
    "blocked": "model-blocked",
    "invalid_answer": "model-invalid-answer",
    "failed_answer": "model-failed-answer",
    "truncated": "model-truncated",
    "exposure": "model-exposure",
    "no_healthy_provider": "model-no-healthy-provider",
}
LACKS: dict[LackKind, ReasonCode] = {
    "tools": "model-lacks-tools",
    "images": "model-lacks-images",
    "parameter": "model-lacks-parameter",
    "token_limit_name": "model-lacks-token-limit-name",
    "output_limit": "model-lacks-output-limit",
    "system_first": "model-lacks-system-first",
    "call_ids": "model-lacks-call-ids",
    "reasoning": "model-lacks-reasoning",
    "schema": "model-lacks-schema",
    "context": "model-lacks-context",
}


def failure_in_words(exc: ProviderError) -> str:
    """What became of a model call, as rows keep it.

    One that the lists lack (a test says so) still has a reason: an ending must not be an error.
    """
    lack = exc.lack
    if lack is None:
        return told(FAILURES.get(exc.cause, "model-refused"))
    if lack.kind == "context" and lack.asked and lack.limit:
        return told("model-too-long-by", size=lack.asked, most=lack.limit)
    return told(LACKS.get(lack.kind, "model-capability"))


def why_empty(plan: PlanOutcome) -> ReasonCode:
    """Why there are neither steps nor words."""
    match plan.stop_reason:
        case "max-rounds":
            return "empty-rounds"
        case "length":
            return "empty-cut"
        case "content-filter":
            return "empty-filtered"
        case _:
            return "empty-unread" if plan.unread_calls else "empty"


def iteration_of(
    ending: Planned | GaveUp, job: Job, now: datetime, language: Language
) -> tuple[Iteration, Closed]:
    """What the owner sees of it, in words and not sealed, and what the run is then."""
    id_, at = job.occurrence.iteration_id, text_of(now)
    if isinstance(ending, GaveUp):
        said = in_words(ending.reason, language)
        return failed_iteration(
            id_, at, ending.name, f"{said}\n\n{ending.words}" if ending.words else said
        ), "failed"
    plan = ending.plan
    steps = [
        PlannedStep(call.name, dict(call.arguments), rationale=call.rationale)
        for call in plan.steps
    ]
    lacks = in_words(plan.cut_short, language)
    return iteration_from_plan(steps, plan.summary or "", id_, at, lacks), "committed"
