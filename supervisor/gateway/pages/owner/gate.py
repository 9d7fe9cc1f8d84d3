"""Who may see an owner's page: somebody signed in on this browser; forms are of their session."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from zoneinfo import ZoneInfo

import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from mana_actors.http.door import vouch_for
from state.rules.scopes import Scope
from supervisor.custody.vaults import Caller
from supervisor.gateway.deps import Deps
from supervisor.gateway.pages.forms import FormSeals
from supervisor.gateway.pages.page import page
from supervisor.gateway.pages.problems import problem_told
from supervisor.gateway.pages.reader import Reader, reader_of
from supervisor.gateway.people.owners import Owners
from supervisor.gateway.people.tokens import TokenRefused
from supervisor.gateway.sign_in.door import must_have
from supervisor.gateway.sign_in.office import NotOurs


class Visit(msgspec.Struct, frozen=True):
    """One request of somebody signed in; `form` is what a form of theirs says.

    `awaits_staging`: some of their plans are to be put to them before proposals are shown.
    """

    request: Request
    caller: Caller
    owners: Owners
    deps: Deps
    reader: Reader
    form: dict[str, str]
    awaits_staging: bool = False


OwnerHandler = Callable[[Visit], Awaitable[Response]]


class OwnerGate:
    """Lets visits of signed-in people through to handlers."""

    def __init__(self, deps: Deps, seals: FormSeals) -> None:
        self._deps, self._seals = deps, seals

    def guarded(
        self, scope: Scope, handler: OwnerHandler
    ) -> Callable[[Request], Awaitable[Response]]:
        """The handler, for who is signed in and may do this.

        A strict cookie, the origin and the seal of the session say so, each on its own.
        """

        async def endpoint(request: Request) -> Response:
            of = self._deps.settings.agent
            reader = reader_of(request, of.language, of.time_zone)
            try:
                return await handler(await self._visit(request, reader, scope))
            except TokenRefused:
                # A strict cookie is not sent by a link of another site: our own page asks anew.
                again = request.headers.get("sec-fetch-site") == "cross-site"
                status = 200 if again else 401
                return page(reader, "locked.html", status, way="owner", again=again)
            except ClientDisconnect:
                raise
            except Exception as exc:  # noqa: BLE001 - told as a page
                return problem_told(reader, exc)

        return endpoint

    async def _visit(self, request: Request, reader: Reader, scope: Scope) -> Visit:
        owners = self._deps.owners
        if owners is None:
            raise NotOurs
        session = owners.browsers.cookie_in(request)
        if session is None:
            raise TokenRefused("no cookie")
        form = {}
        if request.method == "POST":
            form = await self._seals.opened(request, owners.browsers.names, session)
        caller = await owners.door.caller(request)
        vouch_for(request.scope)
        must_have(caller, scope)
        head = await owners.glance.head(caller.user)
        own = msgspec.structs.replace(
            reader,
            way="owner",
            name=caller.display_name or caller.user,
            zone=ZoneInfo(head.time_zone or owners.time_zone),
            waiting=head.waiting,
            opened=head.opened,
            seal=self._seals.of(session),
        )
        return Visit(
            request, caller, owners, self._deps, own, form=form, awaits_staging=head.awaits_staging
        )
