"""A proposal as a device shows it: as the server tells it, or its mission's record. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec

from mana_actors.client.errors import ServerAway
from mana_actors.json_values import as_object, as_text, objects_in
from state.log.iterations import DEFAULT_AUTHOR, Author
from state.log.records import mission_from_record
from state.proposals.proposal import State, proposal_id, shown_instant
from state.proposals.staging import new_proposals, state_of_step


class InboxProposal(msgspec.Struct, frozen=True, kw_only=True):
    """One step that its owner is asked about; `params` None: sealed, or not known here.

    `answered_here` is an answer that has not reached the server, `refused_answer` why it was not
    taken. Instants are texts, as everywhere on the wire.
    """

    id: str
    state: State
    tool: str
    mission_id: str
    iteration_id: str
    step_id: str
    params: dict[str, Any] | None = None
    edited: dict[str, Any] | None = None
    rationale: str = ""
    agent_id: str = ""
    agent_name: str = ""
    created_at: str | None = None
    expires_at: str | None = None
    not_before: str | None = None
    feedback: str = ""
    why: str = ""
    claimed_by: str = ""
    claimed_until: str | None = None
    answered_here: dict[str, Any] | None = None
    refused_answer: str = ""


class _Details(msgspec.Struct, frozen=True, rename="camel"):
    state: State
    tool: str
    mission_id: str
    iteration_id: str
    params: dict[str, Any] | None = None
    edited_params: dict[str, Any] | None = None
    rationale: str = ""
    agent_id: str = ""
    agent_name: str = ""
    created_at: str | None = None
    not_before: str | None = None
    feedback: str | None = None
    why: str | None = None
    claimed_by: str | None = None
    claimed_until: str | None = None


class _Metadata(msgspec.Struct, frozen=True):
    mana: _Details


class _Interrupt(msgspec.Struct, frozen=True, rename="camel"):
    id: str
    tool_call_id: str
    metadata: _Metadata
    expires_at: str | None = None


def told_proposal(raw: object) -> InboxProposal:
    """What the server tells of one; raises ServerAway for what is no proposal."""
    try:
        told = msgspec.convert(raw, _Interrupt)
    except msgspec.ValidationError as exc:
        raise ServerAway("not a proposal") from exc
    of = told.metadata.mana
    return InboxProposal(
        id=told.id,
        state=of.state,
        tool=of.tool,
        mission_id=of.mission_id,
        iteration_id=of.iteration_id,
        step_id=told.tool_call_id,
        params=of.params,
        edited=of.edited_params,
        rationale=of.rationale,
        agent_id=of.agent_id,
        agent_name=of.agent_name,
        created_at=of.created_at,
        expires_at=told.expires_at,
        not_before=of.not_before,
        feedback=of.feedback or "",
        why=of.why or "",
        claimed_by=of.claimed_by or "",
        claimed_until=of.claimed_until,
    )


def proposals_in(
    user: str, mission: str, record: Mapping[str, Any], author: Author | None, now: datetime
) -> list[InboxProposal]:
    """What a mission's record says of its proposals, also of those the server has yet to make.

    The ids are the server's, since both derive them from the step.
    """
    whole = mission_from_record(user, mission, dict(record))
    by = author or DEFAULT_AUTHOR
    known = {one.step_id: one for one in new_proposals(whole, by, {}, now)}
    ends = {step: shown_instant(one.expires_at) for step, one in known.items()}
    found: list[InboxProposal] = []
    for iteration in whole.iterations:
        if iteration.get("source") != "server":
            continue
        iteration_id, is_sealed = as_text(iteration.get("id")), "sealedFor" in iteration
        for step in objects_in(iteration.get("plan")):
            step_id, intent = as_text(step.get("id")), as_object(step.get("intent")) or {}
            state = state_of_step(step)
            if step_id in known:
                state = known[step_id].state
            if intent.get("kind") != "toolCall" or state is None:
                continue
            derived = proposal_id(user, mission, iteration_id, step_id)
            found.append(
                InboxProposal(
                    id=as_text(step.get("proposalId")) or derived,
                    state=state,
                    tool=as_text(intent.get("toolName")),
                    mission_id=mission,
                    iteration_id=iteration_id,
                    step_id=step_id,
                    params=None if is_sealed else as_object(intent.get("params")) or {},
                    edited=as_object(step.get("editedParams")),
                    rationale="" if is_sealed else as_text(step.get("rationale")),
                    agent_id=by.id,
                    agent_name=by.name,
                    created_at=as_text(iteration.get("startedAt")) or None,
                    expires_at=ends.get(step_id),
                    claimed_by=as_text(step.get("claimedBy")),
                    claimed_until=as_text(step.get("claimedUntil")) or None,
                )
            )
    return found
