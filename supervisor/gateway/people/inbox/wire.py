"""A proposal on the wire: an interrupt as AG-UI has it, so that other inboxes can read it.

`id`, `reason`, `message`, `toolCallId`, `responseSchema` and `expiresAt` are that protocol's; what
it has no field for is under `metadata.mana`.
"""

from datetime import datetime
from typing import Any, cast

from mana_actors.agent.tools.catalogue import catalogue, function_spec
from mana_actors.http.bodies import BadRequest
from state.log.stamps import datetime_of, parse_instant
from state.proposals.answers import MAX_FEEDBACK_CHARS, Answer, Approve, NotNow, Reject
from state.proposals.obstacles import StandingApproval
from state.proposals.proposal import OPEN, Proposal, new_record_id, shown_instant

Json = dict[str, Any]
RECORD_IDS = 4


def proposal_json(proposal: Proposal) -> Json:
    """One proposal."""
    tool = catalogue().get(proposal.tool)
    found: Json = {
        "id": proposal.id,
        "reason": "tool_call",
        "message": f"{proposal.tool}: {proposal.rationale}"
        if proposal.rationale
        else proposal.tool,
        "toolCallId": proposal.step_id,
        "expiresAt": shown_instant(proposal.expires_at),
        "metadata": {
            "mana": {
                "state": proposal.state,
                "tool": proposal.tool,
                "module": None if tool is None else tool.module,
                "params": proposal.params,
                "editedParams": proposal.edited,
                "sealed": proposal.params is None,
                "rationale": proposal.rationale,
                "missionId": proposal.mission_id,
                "iterationId": proposal.iteration_id,
                "agentId": proposal.agent_id,
                "agentName": proposal.agent_name,
                "createdAt": shown_instant(proposal.created_at),
                "notBefore": shown_instant(proposal.not_before),
                "decision": _decision(proposal),
                "feedback": proposal.feedback or None,
                "why": proposal.reason or None,
                "wrote": [
                    {"app": one.app, "table": one.table, "id": one.id, "op": one.op}
                    for one in proposal.written
                ],
                "canUndo": proposal.state == "done" and bool(proposal.written),
                "claimedBy": proposal.claimed_by or None,
                "claimedUntil": shown_instant(proposal.claimed_until),
            }
        },
    }
    if proposal.state in OPEN:
        found["responseSchema"] = _response_schema(proposal)
    return found


def claimed_json(proposal: Proposal) -> Json:
    """What a device needs to carry it out: who signs, and the ids of records that it makes.

    The ids are the same for every device, so that two that both write make one record.
    """
    ids = [new_record_id(proposal.id, number) for number in range(RECORD_IDS)]
    return proposal_json(proposal) | {"actor": proposal.actor, "recordIds": ids}


def approval_json(approval: StandingApproval) -> Json:
    """One standing approval."""
    return {
        "id": approval.id,
        "agentId": approval.agent_id,
        "tool": approval.tool,
        "module": approval.module,
        "until": shown_instant(approval.until),
        "perDay": approval.per_day,
        "usedToday": approval.used_today,
        "createdAt": shown_instant(approval.created_at),
        "createdFrom": {"address": approval.created_address, "client": approval.created_client},
        "revokedAt": shown_instant(approval.revoked_at),
    }


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


def _decision(proposal: Proposal) -> Json | None:
    if proposal.decision is None:
        return None
    made = proposal.decision
    return {
        "by": made.by,
        "at": shown_instant(made.at),
        "address": made.address,
        "client": made.client,
        "approvalId": made.approval_id,
    }


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
