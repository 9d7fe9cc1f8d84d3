"""Thinking up one plan: the loop with the tools carried out here, sub-agents among them."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec.structs import replace

from mana_actors.agent.metering import run_counts
from mana_actors.agent.planner.exchange import ToolCall, ToolResult
from mana_actors.agent.planner.guardrails import MAX_STEPS
from mana_actors.agent.planner.loop import (
    CallModel,
    OnToolCall,
    PlanOutcome,
    record_proposal,
    run_loop,
)
from mana_actors.agent.planner.prompt import PlanInput, loop_input
from mana_actors.agent.planner.reminders import reminder_channel
from mana_actors.agent.planner.subagents import TASK, SubAgents, with_proposals
from mana_actors.messages import Count


async def make_plan(
    plan: PlanInput, call_model: CallModel, handlers: Mapping[str, OnToolCall]
) -> tuple[PlanOutcome, list[Count]]:
    """The plan with what sub-agents proposed, and what it adds to the metrics.

    `handlers` carry out tools by name; a call of any other is recorded as a proposal. Errors of
    `call_model` propagate as in `run_loop`.
    """

    async def on_tool_call(call: ToolCall, number: int) -> ToolResult:
        return await known.get(call.name, record_proposal)(call, number)

    given = loop_input(plan)
    subs = SubAgents(given, call_model, on_tool_call, boundary=plan.boundary)
    known: dict[str, OnToolCall] = {**handlers, TASK.name: subs}
    remind = reminder_channel(plan.allowance, lambda: subs.usage.total_tokens)
    outcome = await run_loop(replace(given, remind=remind), call_model, on_tool_call)
    counts = run_counts(outcome, [done.outcome for done in subs.finished])
    return with_proposals(outcome, subs.finished, MAX_STEPS), counts
