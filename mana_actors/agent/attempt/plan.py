"""Making one plan: the tools a run may use, who carries them out, and the loop with the model."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable

import msgspec
from msgspec.structs import replace

from mana_actors.agent.attempt.job import Job
from mana_actors.agent.deployed.declaration import declared_tools
from mana_actors.agent.deployed.handlers import DeployedTools
from mana_actors.agent.model.receipt import Receipt
from mana_actors.agent.planner.compaction import CompactionSettings
from mana_actors.agent.planner.guardrails import MAX_STEPS
from mana_actors.agent.planner.loop import CallModel, PlanOutcome, run_loop
from mana_actors.agent.planner.prompt import (
    PlanInput,
    ResolvedInput,
    iterations_in_prompt,
    known_texts,
    loop_input,
)
from mana_actors.agent.planner.reminders import Allowance, reminder_channel
from mana_actors.agent.planner.subagents import (
    CALL_NUMBERS,
    TASK,
    SubAgents,
    with_proposals,
    with_sub_agents,
)
from mana_actors.agent.tools.catalogue import FIND_TOOLS, Toolbox, proposing_tools
from mana_actors.agent.tools.executor import Executor
from mana_actors.agent.tools.injection_watch import InjectionWatch, Sighting
from mana_actors.agent.tools.reading.handlers import ReadingTools
from mana_actors.agent.tools.reading.records import Tables
from mana_actors.agent.tools.seen_ids import SeenIds
from mana_actors.json_values import canonical_json
from mana_actors.messages import AgentSettings, Count
from state.log.merge import TableRows
from state.log.stamps import datetime_of, parse_instant
from state.store.agent import AgentStore

ANOTHER = "another"
"""Stands for each tool that is none."""

LEAST_OUTPUT = 1024
OF_THE_CAP = 8
OF_THE_CONTEXT = 4
"""An answer may have an eighth of a day's cap and a quarter of the context, but these tokens."""


class Tools(msgspec.Struct, frozen=True):
    """The tools of one run, who carries them out, and the ids that the model was shown."""

    toolbox: Toolbox
    executor: Executor
    seen: SeenIds


def tools_of(
    job: Job,
    inputs: Iterable[ResolvedInput],
    store: AgentStore,
    settings: AgentSettings,
    *,
    saw: Callable[[Sighting], None],
    before: Callable[[], Awaitable[None]],
) -> Tools:
    """The tools of a claimed run; `saw` hears of text that reads like an instruction.

    `before` comes before each call that is carried out.

    An agent whose record is missing or deleted carries nothing out: what its owner allowed it is
    not known, and less must never mean more.
    """
    inputs, mission = tuple(inputs), job.mission
    texts = [mission.title, mission.concept_markdown, mission.objective]
    texts += [
        canonical_json(list(iterations_in_prompt(mission))),
        *(item.content for item in inputs),
    ]
    seen = SeenIds((item.id for item in inputs), texts)
    who = f"{job.occurrence.user_id}/{job.occurrence.agent_id}"
    watch = InjectionWatch(settings.policy_mode, who, mission.id, saw)
    for item in inputs:
        watch.look("input", item.module, [item.title, item.content])
    instant = parse_instant(job.pinned.now)
    claimed_at = job.found.now if instant is None else datetime_of(instant)

    def fetch(app: str, table: str, most: int) -> Awaitable[TableRows]:
        # As of the claim: another attempt of this run reads the same, so that its journal fits.
        return store.table_changes(app, table, most, claimed_at)

    zone, boundary = job.zone, job.pinned.boundary
    today = claimed_at.astimezone(zone).date()
    reading = ReadingTools(Tables(fetch), seen, watch, boundary=boundary, today=today, zone=zone)
    deployed = declared_tools(settings.tools)
    calls = DeployedTools(settings, deployed, seen, watch, boundary)
    handlers = {**reading.handlers(), **calls.handlers()}
    executor = Executor(handlers if job.is_known else {}, watch, before)
    box = proposing_tools(with_devices=settings.devices)
    box = box.with_tools(deployed, executor.names)
    if settings.tools_offered != "all":
        box = box.with_tools([FIND_TOOLS], [FIND_TOOLS.name])
    return Tools(with_sub_agents(box) if job.is_known else box, executor, seen)


def plan_input(
    job: Job,
    inputs: tuple[ResolvedInput, ...],
    tools: Tools,
    settings: AgentSettings,
    model_context: int = 0,
) -> PlanInput:
    """What the prompt is made of; `model_context` is the smallest context of the chain."""
    ceiling, cap = settings.compact_max_ctx, job.pinned.cap
    # The most an answer may be is reserved before each call. A small cap or context has to hold
    # several calls or the prompt as well; both are the same for every attempt of the run.
    most = settings.max_output_tokens
    if cap is not None:
        most = min(most, max(LEAST_OUTPUT, cap // OF_THE_CAP))
    if model_context:
        most = min(most, max(LEAST_OUTPUT, model_context // OF_THE_CONTEXT))
    return PlanInput(
        mission=job.mission,
        agent=job.agent,
        inputs=inputs,
        policy=job.agent.policy,
        boundary=job.pinned.boundary,
        model=settings.model,
        now=job.pinned.now,
        max_rounds=settings.max_rounds,
        max_output=most,
        allowance=Allowance(job.agent.name, job.pinned.cap, job.pinned.used),
        compaction=CompactionSettings(ceiling, model_context=model_context) if ceiling else None,
        toolbox=tools.toolbox,
        was_seen=tools.seen.was_seen,
        offered=settings.tools_offered,
    )


async def make_plan(
    plan: PlanInput,
    call_model: CallModel,
    executor: Executor,
    receipt: Receipt | None = None,
) -> tuple[PlanOutcome, list[Count]]:
    """The plan with what sub-agents proposed, and what it adds to the metrics.

    `executor` is this plan's own: sub-agents are registered with it, and use it as well. `receipt`
    hears what its prompts begin with, and which tools came back as failed. Errors of `call_model`
    propagate as in `run_loop`.
    """
    given, box = loop_input(plan), plan.toolbox or proposing_tools()
    receipt = receipt or Receipt()
    receipt.begins(known_texts(plan, given))
    subs = SubAgents(given, call_model, executor, boundary=plan.boundary)
    executor.register(TASK.name, subs)
    remind = reminder_channel(plan.allowance, lambda: subs.usage.total_tokens)
    outcome = await run_loop(replace(given, remind=remind), call_model, executor)
    outcomes = [outcome, *(done.outcome for done in subs.finished)]
    counts = _counts(outcome, outcomes, box)
    receipt.refused(_refused(outcome, 0, box))
    for done in subs.finished:
        receipt.refused(_refused(done.outcome, CALL_NUMBERS * done.number, box))
    return with_proposals(outcome, subs.finished, MAX_STEPS), counts


def _refused(plan: PlanOutcome, before: int, box: Toolbox) -> dict[int, tuple[str, ...]]:
    """By the number of the model's call, the tools that came back as failed.

    A name that is no tool's is the model's own text.
    """
    found: defaultdict[int, list[str]] = defaultdict(list)
    for done in plan.executed_calls:
        if not done.result.success:
            name = done.call.name
            found[before + done.round].append(name if name in box.tools else ANOTHER)
    return {number: tuple(names) for number, names in found.items()}


def _counts(plan: PlanOutcome, outcomes: Iterable[PlanOutcome], box: Toolbox) -> list[Count]:
    """Rounds, reminders and compactions of the plan, tool calls of sub-agents too.

    Labels come from the catalogue: a name that the model made up is none.
    """
    counts = [Count("planner_rounds", (), plan.rounds, observe=True)]
    for done in (call for each in outcomes for call in each.executed_calls):
        tool = box.tools.get(done.call.name)
        well = "deferred" if done.is_step else "success"
        policy = tool.default_policy if tool else "propose"
        labels = box.label(done.call.name), policy, well if done.result.success else "failure"
        counts.append(Count("tool_calls_total", labels))
    counts += [
        Count("reminders_emitted_total", (hint.producer, hint.severity)) for hint in plan.reminders
    ]
    if plan.folded_turns:
        counts.append(Count("compactions_triggered_total"))
        counts.append(Count("compacted_turns", (), plan.folded_turns, observe=True))
    return counts
