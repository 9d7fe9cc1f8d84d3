"""A proposal on the wire: an interrupt as AG-UI has it, so that other inboxes can read it.

`id`, `reason`, `message`, `toolCallId`, `responseSchema` and `expiresAt` are that protocol's; what
it has no field for is under `metadata.mana`.
"""

from datetime import datetime
from typing import Any, cast

import msgspec

from mana_actors.agent.tools.catalogue import catalogue, function_spec
from mana_actors.http.bodies import BadRequest
from state.log.stamps import datetime_of, parse_instant
from state.proposals.answers import MAX_FEEDBACK_CHARS, Answer, Approve, NotNow, Reject
from state.proposals.obstacles import StandingApproval
from state.proposals.proposal import OPEN, Proposal, new_record_id, shown_instant
from supervisor.gateway.people.inbox.shapes import (
    ApprovalTold,
    CreatedFrom,
    ManaTold,
    MetadataTold,
    ProposalClaimed,
    ProposalDecided,
    ProposalTold,
    WroteTold,
)

Json = dict[str, Any]
RECORD_IDS = 4


def proposal_json(proposal: Proposal) -> Json:
    """One proposal."""
    return msgspec.to_builtins(_told(proposal))


def claimed_json(proposal: Proposal) -> Json:
    """What a device needs to carry it out: who signs, and the ids of records that it makes.

    The ids are the same for every device, so that two that both write make one record.
    """
    ids = [new_record_id(proposal.id, number) for number in range(RECORD_IDS)]
    told = msgspec.structs.asdict(_told(proposal))
    return msgspec.to_builtins(ProposalClaimed(**told, actor=proposal.actor, record_ids=ids))


def approval_json(approval: StandingApproval) -> Json:
    """One standing approval."""
    told = ApprovalTold(
        id=approval.id,
        agent_id=approval.agent_id,
        tool=approval.tool,
        module=approval.module,
        until=shown_instant(approval.until),
        per_day=approval.per_day,
        used_today=approval.used_today,
        created_at=shown_instant(approval.created_at),
        created_from=CreatedFrom(address=approval.created_address, client=approval.created_client),
        revoked_at=shown_instant(approval.revoked_at),
    )
    return msgspec.to_builtins(told)


def answer_from(body: Json, field: str = "") -> Answer:
    """The answer in a resume entry; raises BadRequest naming the field."""
    for name in body:
        if name not in ("interruptId", "status", "payload", "metadata"):
            raise BadRequest(f"{field}{name[:64]}", "is not known here")
    status = body.get("status")
    if status == "cancelled":
        return Reject()
    if status != "resolved":
        raise BadRequest(f"{field}status", "must be resolved or cancelled")
    payload = body.get("payload")
    if not isinstance(payload, dict):
        raise BadRequest(f"{field}payload", "must be an object")
    said, field = cast("Json", payload), f"{field}payload."
    for name in said:
        if name not in ("approved", "editedArgs", "feedback", "later"):
            raise BadRequest(f"{field}{name[:64]}", "is not known here")
    if "later" in said:
        return NotNow(instant_from(said["later"], f"{field}later"))
    if said.get("approved") is True:
        edited = said.get("editedArgs")
        if edited is not None and not isinstance(edited, dict):
            raise BadRequest(f"{field}editedArgs", "must be an object")
        return Approve(cast("Json | None", edited))
    if said.get("approved") is not False:
        raise BadRequest(f"{field}approved", "must be true or false")
    feedback = said.get("feedback", "")
    if not isinstance(feedback, str) or "\0" in feedback:
        raise BadRequest(f"{field}feedback", "must be text")
    if len(feedback) > MAX_FEEDBACK_CHARS:
        raise BadRequest(f"{field}feedback", f"is longer than {MAX_FEEDBACK_CHARS} characters")
    return Reject(feedback)


def instant_from(raw: object, field: str) -> datetime:
    """An instant; raises BadRequest."""
    instant = parse_instant(raw) if isinstance(raw, str) else None
    if instant is None:
        raise BadRequest(field, "must be an instant such as 2026-05-02T07:00:00Z")
    return datetime_of(instant)


def _told(proposal: Proposal) -> ProposalTold:
    tool = catalogue().get(proposal.tool)
    mana = ManaTold(
        state=proposal.state,
        tool=proposal.tool,
        module=None if tool is None else tool.module,
        params=proposal.params,
        edited_params=proposal.edited,
        sealed=proposal.params is None,
        rationale=proposal.rationale,
        mission_id=proposal.mission_id,
        iteration_id=proposal.iteration_id,
        agent_id=proposal.agent_id,
        agent_name=proposal.agent_name,
        created_at=shown_instant(proposal.created_at),
        not_before=shown_instant(proposal.not_before),
        decision=_decision(proposal),
        feedback=proposal.feedback or None,
        why=proposal.reason or None,
        wrote=[
            WroteTold(app=one.app, table=one.table, id=one.id, op=one.op)
            for one in proposal.written
        ],
        can_undo=proposal.state == "done" and bool(proposal.written),
        claimed_by=proposal.claimed_by or None,
        claimed_until=shown_instant(proposal.claimed_until),
    )
    why = f": {proposal.rationale}" if proposal.rationale else ""
    return ProposalTold(
        id=proposal.id,
        reason="tool_call",
        message=f"{proposal.tool}{why}",
        tool_call_id=proposal.step_id,
        expires_at=shown_instant(proposal.expires_at),
        metadata=MetadataTold(mana=mana),
        response_schema=_response_schema(proposal) if proposal.state in OPEN else msgspec.UNSET,
    )


def _decision(proposal: Proposal) -> ProposalDecided | None:
    if proposal.decision is None:
        return None
    made = proposal.decision
    return ProposalDecided(
        by=made.by,
        at=shown_instant(made.at),
        address=made.address,
        client=made.client,
        approval_id=made.approval_id,
    )


def _response_schema(proposal: Proposal) -> Json:
    """What an answer's payload may be; `editedArgs` replace the parameters whole."""
    properties: Json = {
        "approved": {"type": "boolean"},
        "feedback": {"type": "string", "maxLength": MAX_FEEDBACK_CHARS},
        "later": {"type": "string", "format": "date-time"},
    }
    tool = catalogue().get(proposal.tool)
    if tool is not None and proposal.params is not None:
        properties["editedArgs"] = function_spec(tool)["function"]["parameters"]
    return {
        "type": "object",
        "properties": properties,
        "anyOf": [{"required": ["approved"]}, {"required": ["later"]}],
        "additionalProperties": False,
    }
