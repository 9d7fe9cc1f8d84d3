"""`POST /api/v1/me/ai-mission-grant` (grants-auth §1): a key to a few records, for one mission."""

import logging
import time
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from mana_actors.http.bodies import answer
from state.grants.mint import MintRequest, checked_scope, minted_grant, not_configured, read_request
from state.grants.vault import VaultRefused, bad_request
from state.rules.exposure import ORDER, Exposure
from state.sealing.values import DataKey
from state.store.owner import OwnerView
from supervisor.custody.vaults import Caller, Custody
from supervisor.gateway.answers import checked_id
from supervisor.gateway.people.folded import once_folded
from supervisor.gateway.people.owners import Owners, json_object
from supervisor.gateway.people.rate import paced

log = logging.getLogger("mana.gateway")


async def post_grant(request: Request, caller: Caller, owners: Owners) -> Response:
    """A signed grant, checked in the order of the table; nothing of it is kept here."""
    body = await json_object(request)
    wanted = read_request(body)
    if owners.issuer is None or owners.custody is None:
        raise not_configured()
    checked_id("missionId", wanted.mission_id)
    checked_scope(wanted)
    exposure = asked_exposure(body)
    paced(owners.pacing, caller.user)
    with await _master_key(wanted, caller, owners.custody, owners.view) as key:
        grant = minted_grant(
            wanted,
            user_id=caller.user,
            master_key=key.material,
            issuer=owners.issuer,
            now=time.time_ns(),
            exposure=exposure,
        )
    log.info("grant_minted user=%s mission=%s", caller.user, wanted.mission_id)
    return answer(grant)


def asked_exposure(body: dict[str, Any]) -> Exposure:
    """How far the owner lets prompts with these records travel; raises VaultRefused."""
    asked = body.get("exposure", "local")
    for one in ORDER:
        if one == asked:
            return one
    raise bad_request("exposure must be local, eu or any")


async def _master_key(
    wanted: MintRequest, caller: Caller, custody: Custody, view: OwnerView
) -> DataKey:
    async def allowed() -> None:
        await must_be_theirs(view, caller.user, wanted.mission_id)

    return await custody.lent(caller, f"ai-mission-grant mission={wanted.mission_id}", allowed)


async def must_be_theirs(view: OwnerView, user: str, mission: str) -> None:
    """Raises VaultRefused (404) where the mission is not this person's."""
    if not await once_folded(lambda: view.has_mission(user, mission)):
        raise VaultRefused(404, "MISSION_NOT_FOUND", "there is no such mission of yours")
