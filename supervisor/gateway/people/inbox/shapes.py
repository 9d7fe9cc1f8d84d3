"""Proposals and standing approvals as the API describes and sends them; `wire.py` fills them."""

from typing import Any, Literal

import msgspec

from state.proposals.proposal import DecidedBy, State

Json = dict[str, Any]


class InboxAnswer(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """What an answer holds."""


class ProposalDecided(InboxAnswer, frozen=True):
    """Who decided, when and from where."""

    by: DecidedBy
    at: str | None
    address: str | None
    client: str | None
    approval_id: str | None


class WroteTold(InboxAnswer, frozen=True):
    """A record that was written."""

    app: str
    table: str
    id: str
    op: str


class ManaTold(InboxAnswer, frozen=True):
    """What AG-UI has no field for; `params` null: sealed for the owner."""

    state: State
    tool: str
    module: str | None
    params: Json | None
    edited_params: Json | None
    sealed: bool
    rationale: str
    mission_id: str
    iteration_id: str
    agent_id: str
    agent_name: str
    created_at: str | None
    not_before: str | None
    decision: ProposalDecided | None
    feedback: str | None
    why: str | None
    wrote: list[WroteTold]
    can_undo: bool
    claimed_by: str | None
    claimed_until: str | None


class MetadataTold(InboxAnswer, frozen=True):
    """Where other inboxes find nothing of theirs."""

    mana: ManaTold


class ProposalTold(InboxAnswer, frozen=True):
    """A proposal, as an interrupt of AG-UI; `responseSchema` while an answer counts."""

    id: str
    reason: Literal["tool_call"]
    message: str
    tool_call_id: str
    expires_at: str | None
    metadata: MetadataTold
    response_schema: Json | msgspec.UnsetType = msgspec.UNSET


class ProposalList(InboxAnswer, frozen=True):
    """The newest first; `after`, given back, continues the list."""

    proposals: list[ProposalTold]
    after: str | None


class ProposalAnswered(ProposalTold, frozen=True, kw_only=True):
    """The proposal as it is now, and whether the answer changed it."""

    changed: bool


class ProposalClaimed(ProposalTold, frozen=True, kw_only=True):
    """What a device carries out, as whom, and the ids of records that it makes."""

    actor: Json
    record_ids: list[str]


class AnswerTold(InboxAnswer, frozen=True):
    """What became of one of many answers."""

    interrupt_id: str
    changed: bool | msgspec.UnsetType = msgspec.UNSET
    proposal: ProposalTold | msgspec.UnsetType = msgspec.UNSET
    error: str | msgspec.UnsetType = msgspec.UNSET
    code: str | msgspec.UnsetType = msgspec.UNSET


class AnswerList(InboxAnswer, frozen=True):
    """Each on its own."""

    answers: list[AnswerTold]


class PayloadGiven(InboxAnswer, frozen=True):
    """Approved or not, with other parameters, words or a later time."""

    approved: bool | msgspec.UnsetType = msgspec.UNSET
    edited_args: Json | msgspec.UnsetType = msgspec.UNSET
    feedback: str | msgspec.UnsetType = msgspec.UNSET
    later: str | msgspec.UnsetType = msgspec.UNSET


class AnswerGiven(InboxAnswer, frozen=True):
    """`resolved` with a payload, or `cancelled`."""

    status: Literal["resolved", "cancelled"]
    payload: PayloadGiven | msgspec.UnsetType = msgspec.UNSET


class NamedAnswer(AnswerGiven, frozen=True, kw_only=True):
    """The answer to one of many."""

    interrupt_id: str


class AnswersGiven(InboxAnswer, frozen=True):
    """Up to 100 answers."""

    resume: list[NamedAnswer]


class DeviceGiven(InboxAnswer, frozen=True):
    """Which device takes it."""

    device: str


class OutcomeGiven(DeviceGiven, frozen=True):
    """What became of it there; without a problem it was carried out."""

    problem: str | msgspec.UnsetType = msgspec.UNSET


class CreatedFrom(InboxAnswer, frozen=True):
    """From where it was given."""

    address: str | None
    client: str | None


class ApprovalTold(InboxAnswer, frozen=True):
    """What a person always approves; `usedToday` of the last 24 hours."""

    id: str
    agent_id: str
    tool: str | None
    module: str | None
    until: str | None
    per_day: int | None
    used_today: int
    created_at: str | None
    created_from: CreatedFrom
    revoked_at: str | None


class ApprovalList(InboxAnswer, frozen=True):
    """All of them."""

    standing_approvals: list[ApprovalTold]


class ApprovalGiven(InboxAnswer, frozen=True):
    """For one agent, a tool or a module, until a time, so often a day."""

    agent_id: str
    tool: str | msgspec.UnsetType = msgspec.UNSET
    module: str | msgspec.UnsetType = msgspec.UNSET
    until: str | msgspec.UnsetType = msgspec.UNSET
    per_day: int | msgspec.UnsetType = msgspec.UNSET


class ApprovalRevoked(InboxAnswer, frozen=True):
    """It approves nothing any more."""

    id: str
    revoked: bool
