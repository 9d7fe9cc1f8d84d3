"""What a plan adds to the metrics (tick §13); labels are our catalogue's, not the model's."""

from __future__ import annotations

from collections.abc import Iterable

from mana_actors.agent.planner.loop import ExecutedCall, PlanOutcome
from mana_actors.agent.tools.catalogue import Toolbox
from mana_actors.messages import Count


def run_counts(
    outcome: PlanOutcome, toolbox: Toolbox, sub_outcomes: Iterable[PlanOutcome] = ()
) -> list[Count]:
    """Rounds, tool calls (of sub-agents too), reminders, compactions of a plan with these tools."""
    counts = [Count("planner_rounds", (), outcome.rounds, observe=True)]
    counts += [
        _tool_call(done, toolbox)
        for each in (outcome, *sub_outcomes)
        for done in each.executed_calls
    ]
    counts += [
        Count("reminders_emitted_total", (hint.producer, hint.severity))
        for hint in outcome.reminders
    ]
    if outcome.folded_turns:
        counts += [
            Count("compactions_triggered_total"),
            Count("mana_ai_compacted_turns", (), outcome.folded_turns, observe=True),
        ]
    return counts


def _tool_call(done: ExecutedCall, toolbox: Toolbox) -> Count:
    tool = toolbox.tools.get(done.call.name)
    well = "deferred" if done.is_step else "success"
    labels = (
        toolbox.label(done.call.name),
        tool.default_policy if tool else "propose",
        well if done.result.success else "failure",
    )
    return Count("tool_calls_total", labels)
