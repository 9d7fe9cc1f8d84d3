"""A mission's grant: the words to agree to, the key to a few records, and their sealed copies.

`POST /api/v1/me/ai-mission-grant`, `…/consent` and `PUT /api/v1/me/ai-sealed-copies`.
"""

import logging
import time
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from mana_actors.http.bodies import answer
from state.grants.consent import ConsentText, GrantAsked, consent_text
from state.grants.mint import (
    MintRequest,
    checked_scope,
    minted_grant,
    not_configured,
    read_request,
)
from state.grants.vault import VaultRefused, bad_request
from state.log.stamps import NS_PER_MS, datetime_of
from state.rules.exposure import ORDER, Exposure
from state.runs.reasons import Language
from state.sealing.copies import CopiesRefused, read_copies
from state.store.owner import OwnerView
from supervisor.custody.vaults import Caller
from supervisor.gateway.answers import checked_id
from supervisor.gateway.people.made.missions import zone_of
from supervisor.gateway.people.owners import Owners
from supervisor.gateway.people.rate import paced
from supervisor.gateway.people.requests import json_object, once_folded

log = logging.getLogger("mana.gateway")


async def post_grant(request: Request, caller: Caller, owners: Owners) -> Response:
    """A signed grant; nothing of it is kept here.

    What is checked first is told first: the request's shape, whether keys are configured, the
    scope, the rate, the vault, and only then whether the mission is theirs.
    """
    body = await json_object(request)
    wanted = read_request(body)
    if owners.issuer is None or owners.custody is None:
        raise not_configured()
    checked_id("missionId", wanted.mission_id)
    checked_scope(wanted)
    return answer(
        await grant_made(caller, owners, wanted, asked_exposure(body.get("exposure", "local")))
    )


async def grant_made(
    caller: Caller, owners: Owners, wanted: MintRequest, exposure: Exposure
) -> dict[str, Any]:
    """A signed grant of this person's, which the vault's trail names.

    Raises MintRefused, VaultRefused and TooOften.
    """
    if owners.issuer is None or owners.custody is None:
        raise not_configured()
    paced(owners.pacing, caller.user)

    async def allowed() -> None:
        await _must_be_theirs(owners.view, caller.user, wanted.mission_id)

    purpose = f"ai-mission-grant mission={wanted.mission_id}"
    with await owners.custody.lent(caller, purpose, allowed) as key:
        grant = minted_grant(
            wanted,
            user_id=caller.user,
            master_key=key.material,
            issuer=owners.issuer,
            now=time.time_ns(),
            exposure=exposure,
        )
    log.info("grant_minted user=%s mission=%s", caller.user, wanted.mission_id)
    return grant


async def post_consent(request: Request, caller: Caller, owners: Owners) -> Response:
    """What such a grant would allow: sentences, and in a word each exposure, sealing and the end.

    Takes the body that mints the grant, so that the words are about that very grant.
    """
    body = await json_object(request)
    wanted = read_request(body)
    checked_id("missionId", wanted.mission_id)
    checked_scope(wanted)
    exposure = asked_exposure(body.get("exposure", "local"))
    await _must_be_theirs(owners.view, caller.user, wanted.mission_id)
    return answer(await consent_for(caller, owners, wanted, exposure, "de"))


async def consent_for(
    caller: Caller, owners: Owners, wanted: MintRequest, exposure: Exposure, language: Language
) -> ConsentText:
    """The words of this very grant; raises MintRefused."""
    scope, key = checked_scope(wanted), await owners.view.key(caller.user)
    async with owners.own_log.acting(caller.user) as own:
        zone = await zone_of(own, owners)
    names_exposure = owners.issuer is not None and owners.issuer.signing_key is not None
    return consent_text(
        GrantAsked(
            tables=scope.tables,
            records=len(scope.record_ids),
            ends_at=datetime_of(time.time_ns() + wanted.ttl_ms * NS_PER_MS),
            ttl_ms=wanted.ttl_ms,
            exposure=exposure if names_exposure else None,
            deployment=owners.exposure,
            key_id=None if key is None else key.key_id,
            zone=zone,
        ),
        language,
    )


async def put_copies(request: Request, caller: Caller, owners: Owners) -> Response:
    """Keep these records, sealed under the mission's data key, until its grant ends.

    They take the place of earlier ones.
    """
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
        raise VaultRefused("NO_GRANT", "there is no such mission of yours with a grant")
    return answer({"ok": True, "copies": len(copies)})


def asked_exposure(asked: object) -> Exposure:
    """How far the owner lets prompts with these records travel; raises VaultRefused."""
    for one in ORDER:
        if one == asked:
            return one
    raise bad_request("exposure must be local, eu or any")


async def _must_be_theirs(view: OwnerView, user: str, mission: str) -> None:
    """Raises VaultRefused where the mission is not this person's."""
    if not await once_folded(lambda: view.has_mission(user, mission)):
        raise VaultRefused("MISSION_NOT_FOUND", "there is no such mission of yours")
