"""The operators' pages: how the fleet is, one agent, and the parts that pages are made of.

Operators see ids, states, times, costs and reasons; titles and plans are their owners'.
"""

from collections.abc import Awaitable, Callable
from uuid import uuid4

import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from mana_actors.http.door import vouch_for
from state.store.connect import Unavailable
from state.store.gateway.control import NotPossible
from state.store.people.operators import session_name
from supervisor.gateway.answers import path_part, query
from supervisor.gateway.auth import SESSION_S
from supervisor.gateway.deps import Deps
from supervisor.gateway.operators.control import Missing, cancel_run, run_id_of, switch, verb_of
from supervisor.gateway.operators.sessions import OperatorSessions
from supervisor.gateway.pages.forms import FormSeals
from supervisor.gateway.pages.operator import limits, models, texts
from supervisor.gateway.pages.operator.agent import agent_values
from supervisor.gateway.pages.operator.design import design_values
from supervisor.gateway.pages.operator.first_person import post_first_person
from supervisor.gateway.pages.operator.live import LIVE_PAGES, LivePage, LiveStreams, live_page
from supervisor.gateway.pages.page import page, seen
from supervisor.gateway.pages.problems import problem_told, said_of
from supervisor.gateway.pages.reader import Reader, reader_of
from supervisor.gateway.pages.search import get_fleet

ALL = "all"
AGENT = "/agents/{user}/{agent}"
OperatorHandler = Callable[[Request, Reader], Awaitable[Response]]


class OperatorPages:
    """The pages of one gateway."""

    def __init__(self, deps: Deps, sessions: OperatorSessions, seals: FormSeals) -> None:
        self._deps, self._sessions, self._seals = deps, sessions, seals
        self._streams = LiveStreams(deps, sessions)

    def routes(self) -> list[Route]:
        """All of them; whoever has no session is told how to get one."""
        forms = ("/{verb}", "/missions/{mission}/{verb}", "/runs/{run}/cancel")
        return [
            Route("/login", self.login),
            *(
                Route(one.path, self._guarded(self._live(one), shows_outage=one.shows_outage))
                for one in LIVE_PAGES
            ),
            Route("/live/{has}{of:path}", self._guarded(self._streams.get, shows_outage=True)),
            Route("/people", self._guarded(self.first_person), methods=["POST"]),
            Route("/runs", self._guarded(self.runs)),
            Route("/design", self._guarded(self.design)),
            Route("/search", self._guarded(self.search)),
            Route("/models", self._guarded(self.models), methods=["GET", "POST"]),
            Route("/limits", self._guarded(self.limits), methods=["GET", "POST"]),
            Route("/sessions", self._guarded(self.sessions)),
            Route("/sessions/{session}/end", self._guarded(self.end_sessions), methods=["POST"]),
            Route("/sign-out", self._guarded(self.sign_out), methods=["POST"]),
            Route("/openings", self._guarded(self.openings)),
            Route(AGENT + "/texts", self._guarded(self.texts), methods=["GET", "POST"]),
            *(Route(AGENT + path, self._guarded(self.form), methods=["POST"]) for path in forms),
        ]

    def _live(self, live: LivePage) -> OperatorHandler:
        async def handler(request: Request, reader: Reader) -> Response:
            return live_page(live, reader, await live.read(self._deps, request))

        return handler

    async def first_person(self, request: Request, reader: Reader) -> Response:
        """Let the first person in."""
        return await post_first_person(self._deps, request, reader)

    async def runs(self, request: Request, _: Reader) -> Response:
        """The fleet's list of them, which has filters and pages."""
        query(request, ())
        return seen("/fleet?list=runs")

    async def form(self, request: Request, reader: Reader) -> Response:
        """Do what a button says, then show the agent again."""
        query(request, ())
        try:
            await self._done(request)
        except (Missing, NotPossible) as exc:
            status, _, said = said_of(exc, reader.language)
            values = await agent_values(self._deps, request) | {"said": said}
            return page(reader, "operator/agent.html", status, **values)
        return seen("/".join(request.scope["path"].split("/")[:4]))

    async def texts(self, request: Request, reader: Reader) -> Response:
        """An agent's texts, once the operator said why."""
        session = request.cookies.get(self._sessions.shared.cookie, "")
        if request.method == "POST":
            form = request.state.form
            return await texts.post_texts(request, reader, self._deps, session, form)
        return await texts.get_texts(request, reader, self._deps, session)

    async def openings(self, request: Request, reader: Reader) -> Response:
        """Who opened whose texts."""
        return await texts.get_openings(request, reader, self._deps)

    async def design(self, request: Request, reader: Reader) -> Response:
        """Every part, once."""
        query(request, ())
        return page(reader, "operator/design.html", **design_values(reader))

    async def search(self, request: Request, reader: Reader) -> Response:
        """What an id names."""
        return await get_fleet(request, self._deps, reader)

    async def login(self, request: Request) -> Response:
        """Open a session by a one-time token."""
        token = query(request, ("token",)).get("token", "")
        reader = self._reader(request)
        session = await self._sessions.begin(request, token)
        if session is None:
            return page(reader, "locked.html", 401, way="operator")
        # A page and not a redirect: a strict cookie is not sent on a redirect that began elsewhere.
        response = page(reader, "login.html")
        response.set_cookie(
            self._sessions.shared.cookie,
            session,
            max_age=int(SESSION_S),
            httponly=True,
            samesite="strict",
            secure=request.url.scheme == "https",
        )
        return response

    async def sign_out(self, request: Request, _: Reader) -> Response:
        """End the session here, and have the browser forget it."""
        query(request, ())
        await self._sessions.end(_own_name(request, self._sessions))
        return self._signed_out(request)

    async def models(self, request: Request, reader: Reader) -> Response:
        """Who answers model calls."""
        if request.method == "POST":
            return await models.post_models(request, reader, self._deps)
        return await models.get_models(request, reader, self._deps)

    async def limits(self, request: Request, reader: Reader) -> Response:
        """What may be spent."""
        if request.method == "POST":
            return await limits.post_limit(request, reader, self._deps)
        return await limits.get_limits(request, reader, self._deps)

    async def sessions(self, request: Request, reader: Reader) -> Response:
        """Who is signed in as an operator."""
        query(request, ())
        this, all_open = _own_name(request, self._sessions), await self._sessions.list()
        return page(reader, "operator/sessions.html", sessions=all_open, this=this)

    async def end_sessions(self, request: Request, _: Reader) -> Response:
        """End one session, or `all` of them."""
        query(request, ())
        name = path_part(request, "session")
        if name == ALL:
            await self._sessions.end_all()
        elif not await self._sessions.end(name):
            raise Missing("session", "no such session")
        if name in (ALL, _own_name(request, self._sessions)):
            return self._signed_out(request)
        return seen("/sessions")

    def _signed_out(self, request: Request) -> Response:
        response = page(self._reader(request), "locked.html", way="operator")
        response.delete_cookie(self._sessions.shared.cookie, httponly=True, samesite="strict")
        return response

    def _guarded(
        self, handler: OperatorHandler, *, shows_outage: bool = False
    ) -> Callable[[Request], Awaitable[Response]]:
        """The handler, for who has a session; what changes something takes a form of that session.

        A strict cookie, the origin and the seal say so, each on its own. While the database does
        not say whether a session has ended, only pages that show an outage are seen.
        """

        async def endpoint(request: Request) -> Response:
            reader = self._reader(request)
            try:
                return await self._seen(request, reader, handler, shows_outage=shows_outage)
            except ClientDisconnect:
                raise
            except Exception as exc:  # noqa: BLE001 - told as a page
                return problem_told(reader, exc)

        return endpoint

    async def _seen(
        self, request: Request, reader: Reader, handler: OperatorHandler, *, shows_outage: bool
    ) -> Response:
        session = request.cookies.get(self._sessions.shared.cookie, "")
        standing = await self._sessions.standing(request)
        if standing == "unknown" and not shows_outage:
            raise Unavailable("SessionUnknown")
        if standing == "none":
            return page(reader, "locked.html", 401, way="operator")
        vouch_for(request.scope)
        own = msgspec.structs.replace(reader, way="operator", seal=self._seals.of(session))
        if request.method == "POST":
            names = self._deps.settings.names
            request.state.form = await self._seals.opened(request, names, session)
        told = await handler(request, own)
        # The database may be back meanwhile, and have told the page more than of its outage.
        if standing == "unknown" and await self._sessions.standing(request) == "none":
            return page(reader, "locked.html", 401, way="operator")
        return told

    def _reader(self, request: Request) -> Reader:
        of = self._deps.settings.agent
        return reader_of(request, of.language, of.time_zone)

    async def _done(self, request: Request) -> None:
        """What the form's path says; raises Missing, NotPossible or BadRequest."""
        deps, user, given = self._deps, path_part(request, "user"), request.path_params
        if "run" in given:
            await cancel_run(deps, run_id_of(path_part(request, "run")))
        elif "mission" in given:
            mission = path_part(request, "mission")
            if path_part(request, "verb") == "run":
                if await deps.fleet.request_run(user, mission, str(uuid4())) is None:
                    raise Missing("mission", "no such mission")
                return
            await switch(deps, user, "aiMissions", mission, verb_of(path_part(request, "verb")))
        else:
            agent = path_part(request, "agent")
            await switch(deps, user, "agents", agent, verb_of(path_part(request, "verb")))


def _own_name(request: Request, sessions: OperatorSessions) -> str:
    """What the session is called that a request carries."""
    cookie = sessions.shared.cookie_in(request.headers)
    return "" if cookie is None else session_name(cookie.hashed)
