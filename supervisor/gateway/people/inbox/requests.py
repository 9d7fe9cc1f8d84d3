"""All that people can ask for about what becomes of their agents' plans."""

from typing import Any

from supervisor.gateway.api.openapi import Handler, Operation, reading
from supervisor.gateway.people.inbox import approvals, proposals
from supervisor.gateway.people.inbox.shapes import (
    AnswerGiven,
    AnswerList,
    AnswersGiven,
    ApprovalGiven,
    ApprovalList,
    ApprovalRevoked,
    ApprovalTold,
    DeviceGiven,
    OutcomeGiven,
    ProposalAnswered,
    ProposalClaimed,
    ProposalList,
    ProposalTold,
)

PROPOSALS = "/api/v1/me/proposals"
PROPOSAL = f"{PROPOSALS}/{{id}}"
APPROVALS = "/api/v1/me/standing-approvals"
TEXT = {"type": "string"}
FLAG = {"type": "boolean"}
FILTERS = (
    ("state", {"type": "string", "enum": list(proposals.STATES)}, "Only those in this state."),
    ("missionId", TEXT, "Only of this mission."),
    ("agentId", TEXT, "Only of this agent."),
    ("due", FLAG, "Leaves out what was put off."),
)


def _posted(
    path: str, handler: Handler, summary: str, gives: Any, body: Any = None, status: int = 200
) -> Operation:
    return Operation(
        verb="POST",
        path=path,
        scope="approve",
        handler=handler,
        summary=summary,
        gives=gives,
        status=status,
        body=body,
    )


INBOX: tuple[Operation, ...] = (
    reading(
        PROPOSALS,
        proposals.get_proposals,
        "Proposals, the newest first",
        ProposalList,
        paged=True,
        asks=FILTERS,
    ),
    _posted(
        f"{PROPOSALS}/answers", proposals.post_answers, "Answer many", AnswerList, AnswersGiven
    ),
    reading(PROPOSAL, proposals.get_proposal, "One proposal", ProposalTold),
    _posted(
        f"{PROPOSAL}/answer", proposals.post_answer, "Answer it", ProposalAnswered, AnswerGiven
    ),
    _posted(
        f"{PROPOSAL}/claim",
        proposals.post_claim,
        "A device takes what only it can carry out",
        ProposalClaimed,
        DeviceGiven,
    ),
    _posted(
        f"{PROPOSAL}/done",
        proposals.post_done,
        "A device says what became of it",
        ProposalAnswered,
        OutcomeGiven,
    ),
    _posted(f"{PROPOSAL}/undo", proposals.post_undo, "Take back what it wrote", ProposalAnswered),
    _posted(
        "/api/v1/me/iterations/{id}/revert",
        proposals.post_revert,
        "Take back all of one plan",
        AnswerList,
    ),
    reading(
        APPROVALS,
        approvals.get_approvals,
        "What is always approved",
        ApprovalList,
        asks=(("revoked", FLAG, "Also what no longer is."),),
    ),
    _posted(
        APPROVALS,
        approvals.post_approval,
        "Approve in advance",
        ApprovalTold,
        ApprovalGiven,
        status=201,
    ),
    Operation(
        verb="DELETE",
        path=f"{APPROVALS}/{{id}}",
        scope="approve",
        handler=approvals.delete_approval,
        summary="Approve so no longer",
        gives=ApprovalRevoked,
    ),
)
