"""What is told of runs, plans and data, as JSON."""

from typing import Any

import msgspec

Json = dict[str, Any]


class ApiAnswer(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """Instants are RFC 3339 in UTC, money is in millionths."""


class ReasonTold(ApiAnswer, frozen=True):
    """Why: what happened; the same with what happens next and what to do; codes for programs."""

    reason: str | None
    reason_text: str | None
    reason_codes: list[str]


class IterationTold(ApiAnswer, frozen=True):
    """An iteration as it is stored, and its run where there is one of ours.

    What was made of encrypted inputs is sealed in it, for its owner's client to open.
    """

    iteration: Json
    run_id: str | None


class IterationList(ApiAnswer, frozen=True):
    """The newest first; `after`, given back, continues with older ones."""

    items: list[IterationTold]
    after: str | None


class RunTold(ReasonTold, frozen=True):
    """One occurrence of a mission; `lost` attempts ended without a word."""

    run_id: str
    mission_id: str
    agent_id: str
    due_at: str
    woken_by: str
    state: str
    state_text: str
    attempt: int
    failures: int
    lost: int
    waiting_for: str | None
    not_before: str | None
    stop_reason: str | None
    iteration_id: str | None
    steps: int | None
    tokens: int
    opened_at: str
    claimed_at: str
    closed_at: str | None


class RunList(ApiAnswer, frozen=True):
    """The latest occurrence first; `after`, given back, continues with earlier ones."""

    items: list[RunTold]
    after: str | None


class CallTold(ApiAnswer, frozen=True):
    """One call to a model; `tokens` of one under way are those it holds.

    Who answered and which of the offered tools were called, each as often as they were, are known
    once it is paid for; which calls came back as failed (`refused`; a name that is no tool's is
    `another`), once its run ends. `parts` says what its prompt was made of, `inputs` how much of
    it each input of the mission was, in the mission's order: in tokens.
    """

    number: int
    state: str
    began_at: str | None
    ended_at: str | None
    tokens: int
    cost_micros: int | None
    provider: str | None
    model: str | None
    exposure: str | None
    cached_tokens: int
    wasted_tokens: int
    completion_tokens: int
    took_ms: int
    tools: list[str]
    refused: list[str]
    parts: dict[str, int]
    inputs: list[int]


class DecisionTold(ReasonTold, frozen=True):
    """What was decided about the occurrence."""

    decision: str
    decision_text: str
    at: str


class ReadingTold(ApiAnswer, frozen=True):
    """A granted record that the run looked at, or why it could not."""

    table: str
    record: str
    status: str
    reason: str | None
    at: str


class RunDetail(RunTold, frozen=True):
    """A run with all that is known of it, each list in the order of time."""

    cost_micros: int
    calls: list[CallTold]
    decisions: list[DecisionTold]
    read: list[ReadingTold]


class TableTold(ApiAnswer, frozen=True):
    """A table of a module: how many records it ever had, and rows in the log."""

    table: str
    records: int
    rows: int


class ModuleTold(ApiAnswer, frozen=True):
    """A module that something is kept of."""

    module: str
    tables: list[TableTold]


class ModuleList(ApiAnswer, frozen=True):
    """All modules that something is kept of."""

    items: list[ModuleTold]


class AuthorTold(ApiAnswer, frozen=True):
    """Who wrote: a person, an agent (with mission and reason) or a part of the system."""

    actor: Json
    origin: str


class FieldTold(AuthorTold, frozen=True):
    """A value, and since when and by whom it is so."""

    value: Any
    at: str


class RowTold(AuthorTold, frozen=True):
    """One row of the log: which fields it wrote, and from which client."""

    at: str
    op: str
    fields: list[str]
    client: str


class RecordTold(ApiAnswer, frozen=True):
    """A record as it is now, its fields by name; one that is too large to read is only named."""

    table: str
    id: str
    too_large: bool = False
    fields: Json = {}
    updated_at: str | None = None
    updated_by: AuthorTold | None = None


class RecordList(ApiAnswer, frozen=True):
    """By table and id; a page may be short of its limit, since deleted records are not told."""

    items: list[RecordTold]
    after: str | None


class RecordDetail(ApiAnswer, frozen=True):
    """A record as it is now, each field with who wrote it, and the last rows it is made of."""

    table: str
    id: str
    too_large: bool = False
    fields: dict[str, FieldTold] = {}
    updated_at: str | None = None
    rows: list[RowTold] = []


class DeedTold(AuthorTold, frozen=True):
    """One row of the log: when it came in, what it did to which record, and from which client.

    `fields` are the names of those it wrote.
    """

    id: str
    at: str
    op: str
    module: str
    table: str
    record: str
    fields: list[str]
    client: str
    space_id: str | None


class DeedList(ApiAnswer, frozen=True):
    """The newest first; a page may be short, or empty: `after` says whether the list ends."""

    items: list[DeedTold]
    after: str | None
