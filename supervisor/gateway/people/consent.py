"""`POST /api/v1/me/ai-mission-grant/consent`: what that grant would allow, in words (D-42).

Takes the body that mints the grant, so that the words are about that very grant.
"""

import time

from starlette.requests import Request
from starlette.responses import Response

from mana_actors.http.bodies import answer
from state.grants.consent import GrantAsked, consent_text
from state.grants.mint import MintRequest, checked_scope, read_request
from state.grants.scopes import Scope
from state.log.stamps import NS_PER_MS, datetime_of
from state.rules.exposure import Exposure
from supervisor.custody.vaults import Caller
from supervisor.gateway.answers import checked_id
from supervisor.gateway.people.grants import asked_exposure, must_be_theirs
from supervisor.gateway.people.owners import Owners, json_object


async def post_consent(request: Request, caller: Caller, owners: Owners) -> Response:
    """The sentences, and in a word each: exposure, derived text sealed or plain, the end."""
    body = await json_object(request)
    wanted = read_request(body)
    checked_id("missionId", wanted.mission_id)
    scope, exposure = checked_scope(wanted), asked_exposure(body)
    await must_be_theirs(owners.view, caller.user, wanted.mission_id)
    key = await owners.view.key(caller.user)
    key_id = None if key is None else key.key_id
    return answer(consent_text(_asked(wanted, scope, exposure, owners, key_id)))


def _asked(
    wanted: MintRequest, scope: Scope, exposure: Exposure, owners: Owners, key_id: str | None
) -> GrantAsked:
    names_exposure = owners.issuer is not None and owners.issuer.signing_key is not None
    return GrantAsked(
        tables=scope.tables,
        records=len(scope.record_ids),
        ends_at=datetime_of(time.time_ns() + wanted.ttl_ms * NS_PER_MS),
        ttl_ms=wanted.ttl_ms,
        exposure=exposure if names_exposure else None,
        deployment=owners.exposure,
        key_id=key_id,
    )
