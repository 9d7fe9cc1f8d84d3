"""A proposal: one step of a plan, put to its owner, and what was decided about it."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Any, Literal

import msgspec

from state.log.own_changes import RecordAt
from state.log.principals import Actor, agent_actor
from state.log.stamps import text_of

PROPOSAL_NAMESPACE = uuid.UUID("0d1ce8a4-4d1c-5c5e-8e3e-6a4b7c2f9d10")

State = Literal[
    "pending",
    "waiting-for-device",
    "done",
    "rejected",
    "expired",
    "refused",
    "undone",
]
"""`refused`: approved, but it could not be carried out, and why; it may be answered again."""

OPEN: frozenset[State] = frozenset({"pending", "refused"})
"""States in which an owner's answer counts."""

DecidedBy = Literal["user", "standing-approval", "auto-expire", "device"]


class Decision(msgspec.Struct, frozen=True):
    """Who decided, when, and from where: an address and a program, as the asker says."""

    by: DecidedBy
    at: datetime
    address: str | None = None
    client: str | None = None
    approval_id: str | None = None


class Written(msgspec.Struct, frozen=True):
    """One row that carrying out wrote: of each field our stamp, and what was there before.

    `before` lacks a field that the record did not have, `replaced` the stamp of one without.
    """

    app: str
    table: str
    id: str
    op: Literal["insert", "update", "delete"]
    stamps: dict[str, str]
    before: dict[str, Any] = {}
    replaced: dict[str, str] = {}


class Proposal(msgspec.Struct, frozen=True, kw_only=True):
    """One proposal of a user; `params` None: sealed for the owner, and unreadable here."""

    id: str
    user_id: str
    mission_id: str
    iteration_id: str
    step_id: str
    agent_id: str
    agent_name: str
    tool: str
    params: dict[str, Any] | None
    rationale: str
    created_at: datetime
    expires_at: datetime | None = None
    state: State = "pending"
    not_before: datetime | None = None
    edited: dict[str, Any] | None = None
    decision: Decision | None = None
    feedback: str = ""
    reason: str = ""
    written: tuple[Written, ...] = ()
    claimed_by: str = ""
    claimed_until: datetime | None = None

    @property
    def effective(self) -> dict[str, Any]:
        """The parameters that count: the owner's where they changed them."""
        return self.edited if self.edited is not None else self.params or {}

    @property
    def actor(self) -> Actor:
        """Who signs what carrying it out writes."""
        return agent_actor(
            self.agent_id,
            self.agent_name,
            mission_id=self.mission_id,
            iteration_id=self.iteration_id,
            rationale=self.rationale,
        )


def proposal_id(user_id: str, mission_id: str, iteration_id: str, step_id: str) -> str:
    """The id of the one proposal of a step, so that staging it again adds none."""
    parts = (user_id, mission_id, iteration_id, step_id)
    name = "".join(f"{len(part)}:{part}" for part in parts)
    return str(uuid.uuid5(PROPOSAL_NAMESPACE, name))


def new_record_id(proposal: str, number: int) -> str:
    """The id of a record that carrying a proposal out makes: the same at each try."""
    return str(uuid.uuid5(PROPOSAL_NAMESPACE, f"{proposal}:{number}"))


def new_change_id(proposal: str, at: RecordAt, number: int) -> str:
    """The id of the change that carrying a proposal out makes of a record, whoever carries it out.

    A log takes an id once, so that two devices that both write change the record once.
    """
    name = "".join(f"{len(part)}:{part}" for part in (proposal, at.app, at.table, at.id))
    return str(uuid.uuid5(PROPOSAL_NAMESPACE, f"change:{name}:{number}"))


def shown_instant(moment: datetime | None) -> str | None:
    """An instant as every component writes it, None for none."""
    return None if moment is None else text_of(moment)
