"""Checks that no setting switches off: before a plan, and after it (tick §15, D-30)."""

from collections.abc import Iterable, Sequence
from typing import Literal

import msgspec

from mana_actors.agent.planner.exchange import ToolCall
from mana_actors.agent.tools.validation import NEVER_EMPTY
from mana_actors.json_values import as_text

MAX_INPUT_CHARS = 100_000
MAX_STEPS = 25


class Finding(msgspec.Struct, frozen=True):
    """One guardrail that fired."""

    name: str
    severity: Literal["block", "warn"]
    reason: str


class Verdict(msgspec.Struct, frozen=True):
    """What the guardrails of a phase say; `blocked` holds the first block, or None."""

    findings: tuple[Finding, ...] = ()

    @property
    def blocked(self) -> Finding | None:
        """The finding that stops the plan, if any."""
        return next((finding for finding in self.findings if finding.severity == "block"), None)


def before_plan(contents: Iterable[str]) -> Verdict:
    """Blocks when the resolved inputs hold more than 100,000 characters together."""
    size = sum(len(content) for content in contents)
    if size <= MAX_INPUT_CHARS:
        return Verdict()
    reason = f"inputs hold {size} characters, {MAX_INPUT_CHARS} are allowed"
    return Verdict((Finding("input-size-limit", "block", reason),))


def after_plan(steps: Sequence[ToolCall]) -> Verdict:
    """Blocks over 25 steps or an empty required field; warns of a doubled `undo_drink`."""
    findings: list[Finding] = []
    if len(steps) > MAX_STEPS:
        reason = f"plan has {len(steps)} steps, {MAX_STEPS} are allowed"
        return Verdict((Finding("plan-step-limit", "block", reason),))
    if sum(step.name == "undo_drink" for step in steps) > 1:
        findings.append(
            Finding("duplicate-destructive-tool", "warn", "undo_drink is in the plan twice")
        )
    for tool, field in sorted(NEVER_EMPTY):
        if any(step.name == tool and _is_blank(step, field) for step in steps):
            reason = f"{tool} without {field}"
            findings.append(Finding("empty-required-params", "block", reason))
            break
    return Verdict(tuple(findings))


def _is_blank(step: ToolCall, field: str) -> bool:
    return not as_text(step.arguments.get(field)).strip()
