"""`PUT /api/v1/me/ai-sealed-copies`: records for one mission, sealed under its data key."""

from starlette.requests import Request
from starlette.responses import Response

from mana_actors.http.bodies import answer
from state.grants.vault import VaultRefused, bad_request
from state.sealing.copies import CopiesRefused, read_copies
from supervisor.custody.vaults import Caller
from supervisor.gateway.answers import checked_id
from supervisor.gateway.people.folded import once_folded
from supervisor.gateway.people.owners import Owners, json_object


async def put_copies(request: Request, caller: Caller, owners: Owners) -> Response:
    """Keep these until the mission's grant ends; they take the place of earlier ones."""
    body = await json_object(request)
    mission = body.get("missionId")
    if not isinstance(mission, str) or not mission:
        raise bad_request("missionId must be a non-empty text")
    checked_id("missionId", mission)
    try:
        copies = read_copies(body.get("copies"))
    except CopiesRefused as exc:
        raise bad_request(str(exc)) from None
    if not await once_folded(lambda: owners.view.put_copies(caller.user, mission, copies)):
        raise VaultRefused(409, "NO_GRANT", "there is no such mission of yours with a grant")
    return answer({"ok": True, "copies": len(copies)})
