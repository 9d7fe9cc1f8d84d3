"""`PUT /api/v1/me/ai-sealed-copies`: records for one mission, sealed under its data key."""

import asyncio
import time

from starlette.requests import Request
from starlette.responses import Response

from state.sealed_copies import CopiesRefused, SealedCopy, read_copies
from state.store.owner import OwnerView
from state.vault import VaultRefused, bad_request
from supervisor.gateway.answers import answer, checked_id
from supervisor.gateway.custody import Caller
from supervisor.gateway.owners import Owners, json_object

FOLDED_WITHIN_S = 2.0
LOOK_AGAIN_S = 0.1


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
    if not await _put(owners.view, caller.user, mission, copies):
        raise VaultRefused(409, "NO_GRANT", "there is no such mission of yours with a grant")
    return answer({"ok": True, "copies": len(copies)})


async def _put(view: OwnerView, user: str, mission: str, copies: tuple[SealedCopy, ...]) -> bool:
    """Whether they are kept; a grant pushed just now may be a moment away."""
    give_up = time.monotonic() + FOLDED_WITHIN_S
    while not await view.put_copies(user, mission, copies):
        if time.monotonic() >= give_up:
            return False
        await asyncio.sleep(LOOK_AGAIN_S)
    return True
