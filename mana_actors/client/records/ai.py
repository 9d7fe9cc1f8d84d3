"""Agents and missions."""

from __future__ import annotations

from msgspec import UNSET

from mana_actors.client.records.shape import (
    Object,
    Objects,
    Text,
    Texts,
    TypedRecord,
    Whole,
    table_of,
)
from state.proposals.effects import TablePlace


class AgentRecord(TypedRecord):
    """An agent; `policy` says a word for tools, `max_tokens_per_day` 0 lets nothing run."""

    name: Text = UNSET
    avatar: Text = UNSET
    role: Text = UNSET
    system_prompt: Text = UNSET
    memory: Text = UNSET
    scope_tag_ids: Texts = UNSET
    default_writing_style_id: Text = UNSET
    policy: Object = UNSET
    max_tokens_per_day: Whole = UNSET
    max_concurrent_missions: Whole = UNSET
    state: Text = UNSET


class MissionRecord(TypedRecord):
    """A mission; `iterations` are its plans, oldest first, and are the runtime's to write."""

    title: Text = UNSET
    objective: Text = UNSET
    concept_markdown: Text = UNSET
    inputs: Objects = UNSET
    cadence: Object = UNSET
    state: Text = UNSET
    next_run_at: Text = UNSET
    missed_runs: Text = UNSET
    iterations: Objects = UNSET
    agent_id: Text = UNSET
    grant: Object = UNSET


AGENTS = table_of(TablePlace("ai", "agents"), AgentRecord)
MISSIONS = table_of(TablePlace("ai", "aiMissions"), MissionRecord)
