"""`/api/v1/me/ai-derived-key`: the key that a person's derived text is sealed for."""

import logging
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from mana_actors.http.bodies import answer
from state.grants.vault import bad_request
from state.sealing.key_pairs import OwnerKeyRefused, read_owner_key
from supervisor.custody.vaults import Caller
from supervisor.gateway.answers import instant_text
from supervisor.gateway.people.owners import Owners
from supervisor.gateway.people.rate import paced
from supervisor.gateway.people.requests import json_object

SHOWN_CHANGES = 100
log = logging.getLogger("mana.gateway")


async def get_key(_: Request, caller: Caller, owners: Owners) -> Response:
    """Which key is registered since when, null without one, and the last changes."""
    key = await owners.view.key(caller.user)
    changes = await owners.view.key_changes(caller.user, SHOWN_CHANGES)
    told = (None, None) if key is None else (key.key_id, instant_text(key.created_at))
    listed = [
        {
            "keyId": change.key_id,
            "action": change.action,
            "at": instant_text(change.at),
            "address": change.ip_address,
            "userAgent": change.user_agent,
        }
        for change in changes
    ]
    return answer(_told(*told) | {"changes": listed})


async def put_key(request: Request, caller: Caller, owners: Owners) -> Response:
    """Seal for this key from now on; what was sealed for another stays so."""
    body = await json_object(request)
    try:
        key = read_owner_key(body.get("publicKey"))
    except OwnerKeyRefused as exc:
        raise bad_request(str(exc)) from None
    paced(owners.pacing, caller.user)
    since = await owners.view.put_key(caller.user, key, caller.ip_address, caller.user_agent)
    log.info("owner_key_registered user=%s key=%s", caller.user, key.id)
    return answer(_told(key.id, instant_text(since)))


async def delete_key(_: Request, caller: Caller, owners: Owners) -> Response:
    """Seal no more; harmless when repeated."""
    paced(owners.pacing, caller.user)
    if await owners.view.remove_key(caller.user, caller.ip_address, caller.user_agent):
        log.info("owner_key_removed user=%s", caller.user)
    return answer({"ok": True})


def _told(key_id: str | None, created_at: str | None) -> dict[str, Any]:
    return {"keyId": key_id, "createdAt": created_at}
