"""`/api/v1/me/standing-approvals`: what a person always lets an agent do, in one list."""

from datetime import UTC, datetime
from uuid import NAMESPACE_OID, UUID, uuid4, uuid5

from starlette.requests import Request
from starlette.responses import Response

from mana_actors.agent.tools.catalogue import catalogue
from mana_actors.http.bodies import BadRequest, answer, json_object
from mana_actors.json_values import JsonObject
from state.proposals.obstacles import StandingApproval
from state.store.gateway.own_log import NoSuchRecord
from supervisor.custody.vaults import Caller
from supervisor.gateway.answers import checked_id, path_part, query, yes_or_no
from supervisor.gateway.people.inbox.proposals import inbox_of
from supervisor.gateway.people.inbox.wire import approval_json, instant_from
from supervisor.gateway.people.owners import Owners

MOST_A_DAY = 1000
FIELDS = ("agentId", "tool", "module", "until", "perDay")


async def get_approvals(request: Request, caller: Caller, owners: Owners) -> Response:
    """All that is in force, and with `revoked=true` what no longer is."""
    given = query(request, ("revoked",))
    store, _ = await inbox_of(caller, owners)
    revoked = yes_or_no("revoked", given.get("revoked", "false"))
    found = await store.approvals(caller.user, revoked=revoked)
    return answer({"standingApprovals": [approval_json(one) for one in found]})


async def post_approval(request: Request, caller: Caller, owners: Owners) -> Response:
    """A new one. An Idempotency-Key makes asking again give the same one."""
    body = await json_object(request)
    key = request.headers.get("idempotency-key")
    id_ = uuid4() if key is None else uuid5(NAMESPACE_OID, f"{len(caller.user)}:{caller.user}{key}")
    store, asked = await inbox_of(caller, owners)
    made = await store.add_approval(asked, approval_from(body, str(id_)))
    return answer(approval_json(made), 201)


def approval_from(body: JsonObject, id_: str) -> StandingApproval:
    """The standing approval that these fields ask for; raises BadRequest, naming one."""
    for name in body:
        if name not in FIELDS:
            raise BadRequest(name[:64], f"is not known here; known are {', '.join(FIELDS)}")
    agent, tool, module = (body.get(name) for name in ("agentId", "tool", "module"))
    if not isinstance(agent, str):
        raise BadRequest("agentId", "must be text")
    if (tool is None) == (module is None):
        raise BadRequest("tool", "or module must be given, and not both")
    proposing = {one.name: one for one in catalogue().values() if one.default_policy == "propose"}
    modules = {one.module for one in proposing.values()}
    if tool is not None and tool not in proposing:
        raise BadRequest("tool", "is not a tool that proposes something")
    if module is not None and module not in modules:
        raise BadRequest("module", f"must be one of {', '.join(sorted(modules))}")
    until, per_day = body.get("until"), body.get("perDay")
    end = None if until is None else instant_from(until, "until")
    if end is not None and end <= datetime.now(UTC):
        raise BadRequest("until", "is in the past")
    if per_day is not None and (
        isinstance(per_day, bool) or not isinstance(per_day, int) or not 1 <= per_day <= MOST_A_DAY
    ):
        raise BadRequest("perDay", f"must be a whole number from 1 to {MOST_A_DAY}")
    return StandingApproval(
        id=id_,
        agent_id=checked_id("agentId", agent),
        tool=tool,
        module=module,
        until=end,
        per_day=per_day,
        created_at=datetime.now(UTC),
    )


async def delete_approval(request: Request, caller: Caller, owners: Owners) -> Response:
    """End one: from the answer on, nothing more is approved by it."""
    try:
        id_ = str(UUID(path_part(request, "id")))
    except ValueError:
        raise BadRequest("id", "is not the id of a standing approval") from None
    store, asked = await inbox_of(caller, owners)
    if not await store.revoke_approval(asked, id_):
        raise NoSuchRecord
    return answer({"id": id_, "revoked": True})
