"""Agents and missions on the wire of our API, and how records become that."""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from state.log import merge
from state.log.own_changes import version_of
from state.log.records import ENCRYPTED_PREFIX, agent_from_record, mission_from_record
from state.log.stamps import format_instant, parse_instant
from state.proposals.answers import MAX_FEEDBACK_CHARS
from state.store.gateway.own_log import OwnRecord
from supervisor.gateway.people.made.cadence_words import cadence_words

Title = Annotated[str, Meta(min_length=1, max_length=500, description="a line of text")]
Text = Annotated[str, Meta(max_length=50_000)]
Line = Annotated[str, Meta(max_length=500)]
RecordId = Annotated[str, Meta(min_length=1, max_length=512)]
Words = Annotated[str, Meta(min_length=1, max_length=1100)]
Every = Annotated[
    str,
    Meta(
        max_length=200,
        description='manual, "30 minutes", "daily 07:00", "mon 07:00", or five cron fields',
        examples=["daily 07:00"],
    ),
]
Tokens = Annotated[int, Meta(ge=0, le=2**53)]
Missed = Literal["one", "none"]


class Wanted(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """What a request may set; a field that it leaves out stays as it is."""


class AgentFields(Wanted, frozen=True):
    """What an owner says of an agent."""

    name: Title | UnsetType = UNSET
    role: Line | UnsetType = UNSET
    avatar: Line | UnsetType | None = UNSET
    system_prompt: Text | UnsetType | None = UNSET
    memory: Text | UnsetType | None = UNSET
    policy: dict[str, Any] | UnsetType = UNSET
    max_tokens_per_day: Tokens | UnsetType | None = UNSET
    max_concurrent_missions: Annotated[int, Meta(ge=1, le=100)] | UnsetType = UNSET


class AgentWanted(AgentFields, frozen=True):
    """A new agent; `template` fills in what is left out."""

    template: Line | UnsetType = UNSET
    space_id: RecordId | UnsetType = UNSET


class InputWanted(Wanted, frozen=True):
    """A record that a mission reads."""

    module: RecordId
    table: RecordId
    id: RecordId


class MissionFields(Wanted, frozen=True):
    """What an owner says of a mission; `every` in words or `cadence` as records hold it."""

    title: Title | UnsetType = UNSET
    objective: Text | UnsetType = UNSET
    concept_markdown: Text | UnsetType = UNSET
    agent_id: RecordId | UnsetType = UNSET
    every: Every | UnsetType = UNSET
    cadence: dict[str, Any] | UnsetType = UNSET
    read: Annotated[list[Words], Meta(max_length=100)] | UnsetType = UNSET
    inputs: Annotated[list[InputWanted], Meta(max_length=500)] | UnsetType = UNSET
    missed_runs: Missed | UnsetType = UNSET


class MissionWanted(MissionFields, frozen=True):
    """A new mission: it needs a title; without `every` it runs when asked."""

    space_id: RecordId | UnsetType = UNSET


class CancelWanted(Wanted, frozen=True):
    """Which run ends; by default the one under way."""

    run_id: RecordId | UnsetType = UNSET


class FeedbackWanted(Wanted, frozen=True):
    """Words on a plan."""

    words: Annotated[str, Meta(min_length=1, max_length=MAX_FEEDBACK_CHARS)]


class NothingWanted(Wanted, frozen=True):
    """A request that says all in its path."""


class AgentShown(msgspec.Struct, frozen=True, rename="camel"):
    """An agent; `sealed` names the fields that only its owner's devices can open."""

    id: str
    name: str
    role: str
    avatar: str | None
    system_prompt: str | None
    memory: str | None
    policy: dict[str, Any] | None
    max_tokens_per_day: int | None
    max_concurrent_missions: int
    state: str
    space_id: str | None
    created_at: str | None
    updated_at: str | None
    sealed: list[str]
    problems: list[str]
    version: str


class MissionShown(msgspec.Struct, frozen=True, rename="camel"):
    """A mission; `every` is its cadence in words, `nextRuns` are instants and as its owner's clock.

    `notes` says what a request made of words that could be meant in two ways.
    """

    id: str
    agent_id: str
    title: str | None
    objective: str | None
    concept_markdown: str | None
    inputs: list[dict[str, str]]
    cadence: Any
    every: str | None
    missed_runs: str
    state: str
    next_run_at: str | None
    time_zone: str
    next_runs: list[dict[str, str]]
    space_id: str | None
    created_at: str | None
    updated_at: str | None
    sealed: list[str]
    problems: list[str]
    notes: list[str]
    version: str


class AgentPage(msgspec.Struct, frozen=True):
    """Agents by id; `after`, given back, continues the list."""

    items: list[AgentShown]
    after: str | None


class MissionPage(msgspec.Struct, frozen=True):
    """Missions by id; `after`, given back, continues the list."""

    items: list[MissionShown]
    after: str | None


def agent_shown(record: OwnRecord) -> AgentShown:
    """An agent as its owner may see it."""
    agent, fields = agent_from_record(record.owner, record.at.id, record.fields), record.fields
    policy = fields.get("policy")
    return AgentShown(
        id=record.at.id,
        name=agent.name,
        role=agent.role,
        avatar=agent.avatar,
        system_prompt=_open(agent.system_prompt),
        memory=_open(agent.memory),
        policy=policy if isinstance(policy, dict) else None,  # pyright: ignore[reportUnknownArgumentType]
        max_tokens_per_day=agent.max_tokens_per_day,
        max_concurrent_missions=agent.max_concurrent,
        state=agent.state,
        space_id=_text(fields.get("spaceId")) or record.space,
        created_at=_text(fields.get("createdAt")),
        updated_at=_updated_at(record),
        sealed=_sealed(fields),
        problems=list(agent.problems),
        version=version_of(record.snapshot),
    )


def mission_shown(
    record: OwnRecord, zone: str, next_runs: list[dict[str, str]], notes: list[str]
) -> MissionShown:
    """A mission as its owner may see it."""
    fields = record.fields
    mission = mission_from_record(record.owner, record.at.id, fields)
    return MissionShown(
        id=record.at.id,
        agent_id=mission.agent_id or "legacy:ai-default",
        title=_open(mission.title),
        objective=_open(mission.objective),
        concept_markdown=_open(mission.concept_markdown),
        inputs=[{"module": ref.module, "table": ref.table, "id": ref.id} for ref in mission.inputs],
        cadence=fields.get("cadence"),
        every=None if mission.cadence is None else cadence_words(mission.cadence),
        missed_runs=mission.missed_runs,
        state=mission.state,
        next_run_at=_text(fields.get("nextRunAt")),
        time_zone=zone,
        next_runs=next_runs,
        space_id=_text(fields.get("spaceId")) or record.space,
        created_at=_text(fields.get("createdAt")),
        updated_at=_updated_at(record),
        sealed=_sealed(fields),
        problems=list(mission.problems),
        notes=notes,
        version=version_of(record.snapshot),
    )


def given(wanted: Wanted, *names: str) -> dict[str, Any]:
    """Those of these fields that a request sets, by the names that records use."""
    said = msgspec.to_builtins(wanted)
    return {name: said[name] for name in names if name in said}


def _open(text: str | None) -> str | None:
    return None if text is None or text.startswith(ENCRYPTED_PREFIX) else text


def _sealed(fields: dict[str, Any]) -> list[str]:
    return sorted(
        name
        for name, value in fields.items()
        if isinstance(value, str) and value.startswith(ENCRYPTED_PREFIX)
    )


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _updated_at(record: OwnRecord) -> str | None:
    """When anything of it was written last, which no record says of itself."""
    known = [parse_instant(text) for text in record.snapshot.stamps.values()]
    created = _text(record.fields.get("createdAt"))
    known.append(parse_instant(created) if created else None)
    instants = [instant for instant in known if instant is not None]
    return format_instant(max(instants)) if instants and not merge.hidden(record.snapshot) else None
