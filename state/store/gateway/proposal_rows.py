"""Proposals and standing approvals as their tables keep them."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import asyncpg
import msgspec

from state.proposals.obstacles import StandingApproval
from state.proposals.proposal import Decision, Proposal, Written

_SAME = [
    "user_id",
    "mission_id",
    "iteration_id",
    "step_id",
    "agent_id",
    "agent_name",
    "tool",
    "rationale",
    "created_at",
    "expires_at",
    "state",
    "not_before",
    "feedback",
    "reason",
    "claimed_by",
    "claimed_until",
]
_APPROVAL = [
    "agent_id",
    "tool",
    "module",
    "until",
    "per_day",
    "created_at",
    "created_address",
    "created_client",
    "revoked_at",
    "used_today",
]


def proposal_of(row: asyncpg.Record) -> Proposal:
    """A proposal from its row."""
    decision = None
    if row["decided_by"] is not None:
        decision = Decision(
            row["decided_by"],
            row["decided_at"],
            row["decided_address"],
            row["decided_client"],
            None if row["approval_id"] is None else str(row["approval_id"]),
        )
    return Proposal(
        id=str(row["proposal_id"]),
        params=_decoded(row["params"]),
        edited=_decoded(row["edited"]),
        written=msgspec.json.decode(row["written"], type=tuple[Written, ...]),
        decision=decision,
        **{name: row[name] for name in _SAME},
    )


def approval_of(row: asyncpg.Record) -> StandingApproval:
    """A standing approval from its row."""
    return StandingApproval(id=str(row["approval_id"]), **{name: row[name] for name in _APPROVAL})


def columns_when_made(proposal: Proposal) -> dict[str, Any]:
    """What a new proposal's row is made of."""
    decision = proposal.decision
    return {
        "user": proposal.user_id,
        "id": UUID(proposal.id),
        "mission": proposal.mission_id,
        "iteration": proposal.iteration_id,
        "step": proposal.step_id,
        "agent": proposal.agent_id,
        "agent_name": proposal.agent_name,
        "tool": proposal.tool,
        "params": _encoded(proposal.params),
        "rationale": proposal.rationale,
        "created_at": proposal.created_at,
        "expires_at": proposal.expires_at,
        "state": proposal.state,
        "decided_by": None if decision is None else decision.by,
        "decided_at": None if decision is None else decision.at,
        "reason": proposal.reason,
    }


def columns_that_change(proposal: Proposal) -> dict[str, Any]:
    """What of a proposal's row an answer changes."""
    decision = proposal.decision
    approval = None if decision is None else decision.approval_id
    return {
        "user": proposal.user_id,
        "id": UUID(proposal.id),
        "state": proposal.state,
        "not_before": proposal.not_before,
        "edited": _encoded(proposal.edited),
        "decided_by": None if decision is None else decision.by,
        "decided_at": None if decision is None else decision.at,
        "decided_address": None if decision is None else decision.address,
        "decided_client": None if decision is None else decision.client,
        "approval": None if approval is None else UUID(approval),
        "feedback": proposal.feedback,
        "reason": proposal.reason,
        "written": msgspec.json.encode(proposal.written).decode(),
        "claimed_by": proposal.claimed_by,
        "claimed_until": proposal.claimed_until,
    }


def _decoded(text: str | None) -> dict[str, Any] | None:
    return None if text is None else msgspec.json.decode(text)


def _encoded(value: object) -> str | None:
    return None if value is None else msgspec.json.encode(value).decode()
