"""Checks that no setting switches off: of the inputs before a plan is made, and of the plan."""

from collections.abc import Iterable, Sequence
from typing import Literal

import msgspec

from mana_actors.agent.planner.exchange import ToolCall
from mana_actors.agent.tools.validation import NEVER_EMPTY
from mana_actors.json_values import as_text
from state.runs.reasons import told

MAX_INPUT_CHARS = 100_000
MAX_STEPS = 25


class Objection(msgspec.Struct, frozen=True):
    """What one guardrail holds against a plan."""

    name: str
    severity: Literal["block", "warn"]
    reason: str


class PlanCheck(msgspec.Struct, frozen=True):
    """All that the guardrails of a phase object to."""

    objections: tuple[Objection, ...] = ()

    @property
    def blocked(self) -> Objection | None:
        """The first objection that stops the plan, if any."""
        return next((each for each in self.objections if each.severity == "block"), None)


def before_plan(contents: Iterable[str]) -> PlanCheck:
    """Blocks when the resolved inputs hold more than 100,000 characters together."""
    size = sum(len(content) for content in contents)
    if size <= MAX_INPUT_CHARS:
        return PlanCheck()
    reason = told("inputs-too-long", size=size, most=MAX_INPUT_CHARS)
    return PlanCheck((Objection("input-size-limit", "block", reason),))


def after_plan(steps: Sequence[ToolCall]) -> PlanCheck:
    """Blocks over 25 steps or an empty required field; warns of a doubled `undo_drink`."""
    if len(steps) > MAX_STEPS:
        reason = told("too-many-steps", count=len(steps), most=MAX_STEPS)
        return PlanCheck((Objection("plan-step-limit", "block", reason),))
    found: list[Objection] = []
    if sum(step.name == "undo_drink" for step in steps) > 1:
        reason = told("undone-twice")
        found.append(Objection("duplicate-destructive-tool", "warn", reason))
    for tool, field in sorted(NEVER_EMPTY):
        calls = (step for step in steps if step.name == tool)
        if any(not as_text(call.arguments.get(field)).strip() for call in calls):
            reason = told("field-missing", tool=tool, field=field)
            found.append(Objection("empty-required-params", "block", reason))
            break
    return PlanCheck(tuple(found))
