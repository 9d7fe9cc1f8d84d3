"""What people's own requests are answered with, and how their bodies and addresses are read."""

from typing import Any

import msgspec
from starlette.requests import Request

from mana_actors.http import bodies
from mana_actors.http.bodies import BadRequest
from state.grants.mint import Issuer
from state.grants.vault import bad_request
from state.rules.exposure import Exposure
from state.store.owner import OwnerView
from supervisor.custody.vaults import Caller, Custody
from supervisor.gateway.people.jwt import Verifier
from supervisor.gateway.people.rate import Pacing

MAX_BODY_BYTES = 512 * 1024
"""A thousand record ids of 512 bytes."""


class Owners(msgspec.Struct, frozen=True, kw_only=True):
    """Everything behind `/api/v1/me`; no custody means no vaults, no issuer no grants."""

    verifier: Verifier
    view: OwnerView
    pacing: Pacing
    custody: Custody | None = None
    issuer: Issuer | None = None
    exposure: Exposure = "any"  # the most that any prompt here may use

    async def close(self) -> None:
        """Close the connections."""
        await self.view.close()
        if self.custody is not None:
            await self.custody.close()


def caller_of(request: Request, user: str) -> Caller:
    """The person and, for the trail, where they say they are."""
    forwarded = request.headers.get("x-forwarded-for", "").partition(",")[0]
    address = forwarded or request.headers.get("x-real-ip", "")
    return Caller(user, _short(address, 64), _short(request.headers.get("user-agent", ""), 256))


def _short(text: str, limit: int) -> str | None:
    """What a stranger says of themselves, fit for a row."""
    printable = "".join(c for c in text.strip() if c.isprintable())
    return printable[:limit] or None


async def json_object(request: Request) -> dict[str, Any]:
    """The JSON object in the body; raises VaultRefused (400 `BAD_REQUEST`)."""
    try:
        return await bodies.json_object(request, MAX_BODY_BYTES)
    except BadRequest as exc:
        raise bad_request(f"{exc.field} {exc.problem}") from exc
