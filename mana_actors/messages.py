"""All that crosses Ray: ids, versions, deltas of missions and agents, decisions; no text or secret.

Each message is a frozen Struct in msgpack, so a receiver unpickles nothing but bytes.
New fields have defaults, so that an older or newer release still understands its neighbour.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Literal

import msgspec

from mana_actors.keys.tls import TlsAddress
from state.log.deltas import AgentColumns, MissionColumns, RecordDelta
from state.rules.exposure import Exposure
from state.runs.decision import Decision
from state.runs.outcome import Outcome, Ran, after, word
from state.runs.reasons import Language
from state.runs.versions import Versions
from state.slots import Slots


class AgentSettings(msgspec.Struct, frozen=True):
    """What an agent's process needs to work; secrets are paths only."""

    dsn: str
    role: str
    password_file: str
    model_url: str
    model_key_file: str | None
    model: str
    lease_ms: int = 60_000
    call_deadline_s: float = 120.0
    max_output_tokens: int = 4096
    bytes_per_token: float = 2.0
    max_rounds: int = 5
    run_attempts: int = 4
    backoff_min_s: float = 5.0
    backoff_max_s: float = 900.0
    time_zone: str = "Europe/Berlin"
    compact_max_ctx: int = 1_000_000
    crash_at: str | None = None
    heard_timeout_s: float = 120.0
    policy_mode: Literal["off", "log-only", "enforce"] = "enforce"
    tools_offered: Literal["fitting", "all"] = "fitting"
    devices: bool = True  # whether people's devices carry out what the server cannot
    tools_file: str | None = None
    tools: bytes = b"[]"  # what that file declares, as JSON
    tool_deadline_s: float = 20.0
    tool_memory_mb: int = 512
    exposure: Exposure = "any"
    language: Language = "en"  # in which owners read reasons
    key_socket: str | None = None  # of the key holder on this machine
    key_address: TlsAddress | None = None  # of one on another machine; comes before the socket
    slots: Slots | None = None  # for connections that stay open between runs; None: none does


class Bind(msgspec.Struct, frozen=True, tag="bind"):
    """Become this (user, agent), once and for ever; a second or older bind is refused."""

    user_id: str
    agent_id: str
    epoch: int
    supervisor: str
    capability: str
    settings: AgentSettings


class Order(msgspec.Struct, frozen=True):
    """One mission to run, or to heal, with the version the supervisor saw.

    `due_at` is the occurrence, and `decided_by` the versions it was decided by; both None from an
    older supervisor.
    """

    mission_id: str
    version: int
    kind: Literal["run", "heal"] = "run"
    due_at: datetime | None = None
    decided_by: Versions | None = None


class Orders(msgspec.Struct, frozen=True, tag="orders"):
    """What to do now; `capability` replaces the one held."""

    epoch: int
    capability: str
    orders: tuple[Order, ...]


class Changed(msgspec.Struct, frozen=True, tag="changed"):
    """New versions of this agent's missions and of its own record, and what leads to them.

    An older supervisor tells the versions alone.
    """

    epoch: int
    missions: tuple[tuple[str, int], ...] = ()
    agent_version: int | None = None
    deltas: tuple[RecordDelta[MissionColumns], ...] = ()
    agent: RecordDelta[AgentColumns] | None = None


class Stop(msgspec.Struct, frozen=True, tag="stop"):
    """This run is over: its row is closed; `reason` holds no user's text."""

    epoch: int
    mission_id: str
    run_id: str
    reason: str


class Hello(msgspec.Struct, frozen=True, tag="hello"):
    """A supervisor of this epoch is there and asks who the process is."""

    epoch: int
    supervisor: str


class Sleep(msgspec.Struct, frozen=True, tag="sleep"):
    """End, unless something is running."""

    epoch: int


class GiveBack(msgspec.Struct, frozen=True, tag="give-back"):
    """Give back the orders that wait for a place: none of them begins."""

    epoch: int


class Ask(msgspec.Struct, frozen=True, tag="ask"):
    """Say what you hold."""

    epoch: int


AgentMessage = Bind | Orders | Changed | Stop | GiveBack | Hello | Sleep | Ask


class Remembered(msgspec.Struct, frozen=True):
    """What an agent's process holds: ids, versions and numbers, and no text.

    `is_whole`: it has read everything once; `is_behind`: it knows of something newer. Tokens are
    those of 24 hours, None until they were read; `waiting` are orders kept for a free place.
    """

    is_whole: bool
    is_behind: bool
    agent_version: int | None = None
    missions: dict[str, int] = {}
    time_zone: str | None = None
    cap: int | None = None
    used: int | None = None
    held: int | None = None
    under_way: tuple[str, ...] = ()
    waiting: tuple[str, ...] = ()


class Identity(msgspec.Struct, frozen=True, tag="identity"):
    """Who an agent process is; `user_id` None while it is unbound."""

    name: str
    pid: int
    release: str
    user_id: str | None = None
    agent_id: str | None = None
    epoch: int = 0
    running: tuple[str, ...] = ()
    idle_s: float = 0.0
    memory_bytes: int = 0  # its share of what is shared; 0: the system does not say
    tokens_24h: int | None = None  # spent by this agent; None until it has read the ledger
    accepted: bool = True
    held_a_key: bool = False  # decrypted text was here: it sleeps as soon as nothing is in flight
    memory: Remembered | None = None  # what it holds, where it was asked
    cpu_s: float = 0.0  # burned since the process began; 0 from older releases
    is_fork: bool = False  # of the node's fork server; else Ray started it


RunMetric = Literal[
    "calls_above_hold_total",
    "compacted_turns",
    "compactions_triggered_total",
    "decrypts_total",
    "grant_scope_violations_total",
    "grant_skips_total",
    "injection_markers_total",
    "journal_unreadable_total",
    "parse_failures_total",
    "planner_request_duration_seconds",
    "planner_rounds",
    "provider_errors_total",
    "reminders_emitted_total",
    "tool_calls_total",
]
"""What a run may count; `supervisor.supervision.metrics` says what each means."""

# Decoded as any text: what a newer agent counts must not cost an older supervisor its report.
if TYPE_CHECKING:
    CountName = RunMetric
else:
    CountName = str


class Count(msgspec.Struct, frozen=True):
    """One metric increment or observation; labels are from our catalogue, never user text."""

    name: CountName
    labels: tuple[str, ...] = ()
    value: float = 1.0
    observe: bool = False


class Report(msgspec.Struct, frozen=True, tag="report"):
    """What became of an order; `state.runs.outcome.after` says what follows from its ending."""

    holder: str
    user_id: str
    agent_id: str
    mission_id: str
    version: int
    ended: Outcome
    tokens: int = 0
    model_calls: int = 0
    counts: tuple[Count, ...] = ()
    held_a_key: bool = False  # as in Identity
    decided_by: Versions | None = None  # the ending; None from an older process

    @property
    def outcome(self) -> str:
        """The ending in a word."""
        return word(self.ended)

    @property
    def decision(self) -> Decision | None:
        """What the owner is told about the occurrence, if anything."""
        return after(self.ended).decision

    @property
    def reason(self) -> str:
        """Why, in words for a person; empty where there is nothing to say."""
        return after(self.ended).reason

    @property
    def due_at(self) -> datetime | None:
        """The occurrence, where the ending is about one."""
        return after(self.ended).due_at

    @property
    def steps(self) -> int:
        """Steps of the plan that was written, 0 without one."""
        return self.ended.steps if isinstance(self.ended, Ran) else 0


def encode(message: msgspec.Struct) -> bytes:
    """A message as bytes."""
    return msgspec.msgpack.encode(message)


decode_for_agent = msgspec.msgpack.Decoder(AgentMessage).decode
decode_identity = msgspec.msgpack.Decoder(Identity).decode
decode_report = msgspec.msgpack.Decoder(Report).decode
