"""What a plan adds to the metrics (tick §13); labels are our catalogue's, not the model's."""

from __future__ import annotations

from mana_actors.agent.planner.loop import PlanOutcome
from mana_actors.agent.tools.catalogue import catalogue, metric_label
from mana_actors.messages import Count


def run_counts(outcome: PlanOutcome) -> list[Count]:
    """Rounds, tool calls, reminders and compactions of one plan."""
    counts = [Count("planner_rounds", (), outcome.rounds, observe=True)]
    for done in outcome.executed_calls:
        tool = catalogue().get(done.call.name)
        policy = tool.default_policy if tool else "propose"
        counts.append(
            Count(
                "tool_calls_total",
                (
                    metric_label(done.call.name),
                    policy,
                    "deferred" if done.result.success else "failure",
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
