"""What one run may use: its tools, who carries them out, and what the model was shown."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import msgspec

from mana_actors.agent.attempt.job import Job
from mana_actors.agent.deployed.declaration import declared_tools
from mana_actors.agent.deployed.handlers import DeployedTools
from mana_actors.agent.planner.prompt import ResolvedInput, iterations_in_prompt
from mana_actors.agent.planner.subagents import with_sub_agents
from mana_actors.agent.retries import retried
from mana_actors.agent.tools.catalogue import Toolbox, proposing_tools
from mana_actors.agent.tools.executor import Executor
from mana_actors.agent.tools.injection_watch import InjectionWatch, Sighting
from mana_actors.agent.tools.reading.handlers import ReadingTools
from mana_actors.agent.tools.reading.records import Tables
from mana_actors.agent.tools.seen_ids import SeenIds
from mana_actors.json_values import canonical_json
from mana_actors.messages import AgentSettings
from state.log.merge import TableRows
from state.log.stamps import datetime_of, parse_instant
from state.store.agent import AgentStore


class Kit(msgspec.Struct, frozen=True):
    """The tools of one run, and what it remembers about them."""

    toolbox: Toolbox
    executor: Executor
    seen: SeenIds
    watch: InjectionWatch


def kit_of(
    job: Job,
    inputs: Iterable[ResolvedInput],
    store: AgentStore,
    settings: AgentSettings,
    saw: Callable[[Sighting], None],
) -> Kit:
    """The kit of a claimed run; `saw` hears of text that reads like an instruction.

    An agent whose record is missing or deleted carries nothing out: what its owner allowed it is
    not known, and less must never mean more.
    """
    inputs = tuple(inputs)
    seen = _shown(job, inputs)
    who = f"{job.run.user_id}/{job.run.agent_id}"
    watch = InjectionWatch(settings.policy_mode, who, job.mission.id, saw)
    for item in inputs:
        watch.look("input", item.module, [item.title, item.content])
    deployed = declared_tools(settings.tools)
    handlers = _reading(job, store, settings, seen, watch).handlers()
    handlers |= DeployedTools(settings, deployed, seen, watch, job.pinned.boundary).handlers()
    executor = Executor(handlers if job.is_known else {}, watch)
    box = proposing_tools().with_tools(deployed, executor.names)
    return Kit(with_sub_agents(box) if job.is_known else box, executor, seen, watch)


def _reading(
    job: Job, store: AgentStore, settings: AgentSettings, seen: SeenIds, watch: InjectionWatch
) -> ReadingTools:
    now = _pinned_now(job)
    zone = ZoneInfo(job.view.time_zone or settings.time_zone)

    def fetch(app: str, table: str, most: int) -> Awaitable[TableRows]:
        # As of the claim: another attempt of this run reads the same, so that its journal fits.
        return retried(lambda: store.table_changes(app, table, most, now))

    today = now.astimezone(zone).date()
    boundary = job.pinned.boundary
    return ReadingTools(Tables(fetch), seen, watch, boundary=boundary, today=today, zone=zone)


def _pinned_now(job: Job) -> datetime:
    instant = parse_instant(job.pinned.now)
    return datetime.now(UTC) if instant is None else datetime_of(instant)


def _shown(job: Job, inputs: tuple[ResolvedInput, ...]) -> SeenIds:
    """The ids that the first prompt gives the model."""
    mission = job.mission
    earlier = canonical_json(list(iterations_in_prompt(mission)))
    texts = [mission.title, mission.concept_markdown, mission.objective, earlier]
    return SeenIds((item.id for item in inputs), [*texts, *(item.content for item in inputs)])
