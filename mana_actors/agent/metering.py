"""What a plan adds to the metrics (tick §13); labels are our catalogue's, not the model's."""

from __future__ import annotations

from mana_actors.agent.planner.loop import PlanOutcome
from mana_actors.agent.tools.catalogue import Toolbox
from mana_actors.messages import Count


def run_counts(outcome: PlanOutcome, toolbox: Toolbox) -> list[Count]:
    """Rounds, tool calls, reminders and compactions of one plan made with these tools."""
    counts = [Count("planner_rounds", (), outcome.rounds, observe=True)]
    for done in outcome.executed_calls:
        tool = toolbox.tools.get(done.call.name)
        policy = tool.default_policy if tool else "propose"
        well = "deferred" if done.is_step else "success"
        counts.append(
            Count(
                "tool_calls_total",
                (
                    toolbox.label(done.call.name),
                    policy,
                    well if done.result.success else "failure",
                ),
            )
        )
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
