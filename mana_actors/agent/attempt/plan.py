"""Thinking up one plan: the loop with the tools carried out here, sub-agents among them."""

from __future__ import annotations

from msgspec.structs import replace

from mana_actors.agent.attempt.counts import run_counts
from mana_actors.agent.planner.guardrails import MAX_STEPS
from mana_actors.agent.planner.loop import (
    CallModel,
    PlanOutcome,
    run_loop,
)
from mana_actors.agent.planner.prompt import PlanInput, loop_input
from mana_actors.agent.planner.reminders import reminder_channel
from mana_actors.agent.planner.subagents import TASK, SubAgents, with_proposals
from mana_actors.agent.tools.catalogue import proposing_tools
from mana_actors.agent.tools.executor import Executor
from mana_actors.messages import Count


async def make_plan(
    plan: PlanInput, call_model: CallModel, executor: Executor
) -> tuple[PlanOutcome, list[Count]]:
    """The plan with what sub-agents proposed, and what it adds to the metrics.

    `executor` is this plan's own: sub-agents are registered with it, and use it as well. Errors of
    `call_model` propagate as in `run_loop`.
    """
    given = loop_input(plan)
    subs = SubAgents(given, call_model, executor, boundary=plan.boundary)
    executor.register(TASK.name, subs)
    remind = reminder_channel(plan.allowance, lambda: subs.usage.total_tokens)
    outcome = await run_loop(replace(given, remind=remind), call_model, executor)
    box = plan.toolbox or proposing_tools()
    counts = run_counts(outcome, box, [done.outcome for done in subs.finished])
    return with_proposals(outcome, subs.finished, MAX_STEPS), counts
