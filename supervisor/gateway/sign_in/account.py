"""`/api/v1/me`: who somebody is here, and what they signed in by."""

from starlette.requests import Request
from starlette.responses import Response

from mana_actors.http.bodies import answer
from state.rules.scopes import SCOPES
from supervisor.custody.vaults import Caller
from supervisor.gateway.answers import query
from supervisor.gateway.people.owners import Owners


async def get_me(request: Request, caller: Caller, _: Owners) -> Response:
    """Who asks, by which way in, and what that lets them do and share."""
    query(request, ())
    return answer(
        {
            "user": caller.user,
            "displayName": caller.display_name,
            "scopes": [scope for scope in SCOPES if scope in caller.scopes],
            "spaces": caller.spaces,
            "signedInBy": caller.way,
        }
    )
