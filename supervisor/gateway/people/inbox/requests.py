"""All that people can ask for about what becomes of their agents' plans."""

from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response

from state.rules.scopes import Scope
from supervisor.custody.vaults import Caller
from supervisor.gateway.people.inbox import approvals, proposals
from supervisor.gateway.people.owners import Owners

PROPOSALS = "/api/v1/me/proposals"
APPROVALS = "/api/v1/me/standing-approvals"
ITERATION = "/api/v1/me/iterations/{id}"

InboxHandler = Callable[[Request, Caller, Owners], Awaitable[Response]]

INBOX: tuple[tuple[str, str, Scope, InboxHandler], ...] = (
    ("GET", PROPOSALS, "read", proposals.get_proposals),
    ("POST", f"{PROPOSALS}/answers", "approve", proposals.post_answers),
    ("GET", f"{PROPOSALS}/{{id}}", "read", proposals.get_proposal),
    ("POST", f"{PROPOSALS}/{{id}}/answer", "approve", proposals.post_answer),
    ("POST", f"{PROPOSALS}/{{id}}/claim", "approve", proposals.post_claim),
    ("POST", f"{PROPOSALS}/{{id}}/done", "approve", proposals.post_done),
    ("POST", f"{PROPOSALS}/{{id}}/undo", "approve", proposals.post_undo),
    ("POST", f"{ITERATION}/revert", "approve", proposals.post_revert),
    ("GET", APPROVALS, "read", approvals.get_approvals),
    ("POST", APPROVALS, "approve", approvals.post_approval),
    ("DELETE", f"{APPROVALS}/{{id}}", "approve", approvals.delete_approval),
)
