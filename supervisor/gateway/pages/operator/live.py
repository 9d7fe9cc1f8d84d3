"""Operators' pages that keep themselves up to date: sent again when they differ, and only then."""

from __future__ import annotations

import asyncio
import hashlib
import re
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import compile_path

from mana_actors.http.bodies import NO_STORE, BadRequest
from state.errors import StateError
from supervisor.gateway.deps import Deps
from supervisor.gateway.operators.control import Missing
from supervisor.gateway.operators.sessions import OperatorSessions
from supervisor.gateway.pages.last_hour import hour_shown
from supervisor.gateway.pages.operator.agent import agent_values
from supervisor.gateway.pages.operator.lists import fleet_values
from supervisor.gateway.pages.operator.run import run_values
from supervisor.gateway.pages.operator.system import system_values
from supervisor.gateway.pages.operator.triage import triage_values, trouble_names
from supervisor.gateway.pages.page import HEADERS, templates
from supervisor.gateway.pages.reader import Reader
from supervisor.health.judgement import health

LOOK_S = 1.5
"""How often an open page asks, of memory alone, whether anything happened."""
AGAIN_S = 10.0
"""What time alone changes, and what no supervisor hears of, is read again after this."""
HEARTBEAT_S = 15.0
LONGEST_S = 600.0
"""After that the browser comes back by itself."""

NOTHING_YET = "/live/-/"
"""How a page's stream is addressed until it is known what the page says."""
_TIME_SAID = re.compile(r"(<time [^<>]*>)[^<]*|(<span data-ticks>).*?</span>")
"""How long ago things were, and what a template says is never the same twice."""

Values = dict[str, Any]


class LivePage(msgspec.Struct, frozen=True):
    """Where a page is, what it is read from, and what its template says in a reader's words."""

    path: str
    template: str
    read: Callable[[Deps, Request], Awaitable[Values]]
    said: Callable[[Values, Reader], Values] = lambda _, __: {}
    shows_outage: bool = False


def _troubles(_: Values, reader: Reader) -> Values:
    return {"names": trouble_names(reader)}


def _hour(values: Values, reader: Reader) -> Values:
    return {"last_hour": hour_shown(values["hour"], reader)}


LIVE_PAGES = (
    LivePage("/", "operator/triage.html", triage_values, _troubles, shows_outage=True),
    LivePage("/fleet", "operator/fleet.html", fleet_values, _hour),
    LivePage("/runs/{run}", "operator/run.html", run_values),
    LivePage("/system", "operator/system.html", system_values, _hour, shows_outage=True),
    LivePage("/agents/{user}/{agent}", "operator/agent.html", agent_values),
)
_PATTERNS = [(live, compile_path(live.path)[0]) for live in LIVE_PAGES]


def live_page(live: LivePage, reader: Reader, values: Values, status: int = 200) -> Response:
    """The page, whose stream is told what it says already."""
    html = _rendered(live, reader, values)
    known = html.replace(NOTHING_YET, f"/live/{digest_of(html)}/", 1)
    return Response(known, status, headers=HEADERS, media_type="text/html")


def digest_of(html: str) -> str:
    """What a page says, but for how long ago things were: that alone is sent once a minute."""
    return hashlib.sha256(_TIME_SAID.sub(r"\1\2", html).encode()).hexdigest()[:16]


class Readings:
    """Reads what a page shows once for all who look at it at the same time."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._kept: dict[str, tuple[str, float, asyncio.Future[Values]]] = {}

    async def of(
        self, address: str, pulse: str, since: float, read: Callable[[], Awaitable[Values]]
    ) -> Values:
        """What was read at this pulse, lately and since then; else `read` now.

        Raises what that raises.
        """
        now = self._clock()
        self._kept = {name: one for name, one in self._kept.items() if now - one[1] < AGAIN_S / 2}
        known, at, reading = self._kept.get(address, ("", 0.0, None))
        if reading is None or known != pulse or at < since:
            reading = asyncio.ensure_future(read())
            reading.add_done_callback(_left)
            self._kept[address] = pulse, now, reading
        return await asyncio.shield(reading)  # whoever goes away ends it for nobody else


def _left(reading: asyncio.Future[Values]) -> None:
    """Take what became of a reading that nobody waits for any more."""
    if not reading.cancelled():
        reading.exception()


class LiveStreams:
    """The streams of one door."""

    def __init__(self, deps: Deps, sessions: OperatorSessions) -> None:
        self._deps, self._sessions, self._readings = deps, sessions, Readings()

    async def get(self, request: Request, reader: Reader) -> Response:
        """`/live/HAS/PAGE`: an event `page` with the page whenever it says more than `HAS`.

        It ends with the session that it came by. A browser that comes back names what it was sent
        last. Raises Missing where no such page is live.
        """
        live, asked = _page_of(request)
        has = request.headers.get("last-event-id") or request.path_params["has"]
        frames = self._frames(live, asked, reader, has)
        headers = NO_STORE | {"X-Accel-Buffering": "no"}
        return StreamingResponse(frames, media_type="text/event-stream", headers=headers)

    async def _frames(
        self, live: LivePage, asked: Request, reader: Reader, has: str
    ) -> AsyncGenerator[str]:
        yield "retry: 3000\n\n"
        pulse, read_at = "", 0.0
        # What was read before may be older than what this reader has.
        began = told_at = time.monotonic()
        while (now := time.monotonic()) < began + LONGEST_S:
            standing = await self._sessions.standing(asked)
            if standing == "none":
                return
            beat = await pulse_of(self._deps)
            is_due = beat != pulse or now - read_at >= AGAIN_S
            if is_due and (standing == "open" or live.shows_outage):
                pulse, read_at = beat, now
                html = await self._html(live, asked, reader, pulse, began)
                says = has if html is None else digest_of(html)
                if html is not None and says != has:
                    # It may have ended meanwhile, and while the database was away nobody knew.
                    if await self._sessions.standing(asked) == "none":
                        return
                    yield f"id: {says}\nevent: page\ndata: {msgspec.json.encode(html).decode()}\n\n"
                    has, told_at = says, now
            if now - told_at >= HEARTBEAT_S:
                yield ": still here\n\n"
                told_at = now
            await asyncio.sleep(LOOK_S)

    async def _html(
        self, live: LivePage, asked: Request, reader: Reader, pulse: str, since: float
    ) -> str | None:
        """The page as it is now; None where it cannot be read, which its address would tell."""
        path, query = asked.scope["path"], asked.url.query
        try:
            values = await self._readings.of(
                f"{path}?{query}", pulse, since, lambda: live.read(self._deps, asked)
            )
        except (StateError, Missing, BadRequest):
            return None
        now = datetime.now(UTC)
        return _rendered(
            live, msgspec.structs.replace(reader, path=path, query=query, now=now), values
        )


async def pulse_of(deps: Deps) -> str:
    """Another text once anything happened that supervisors or health hear of; reads no rows."""
    found = await deps.watch.facts()
    told = found.supervisor or {}
    busy = [(one["user"], one["agent"], one.get("running")) for one in told.get("awake", ())]
    known = [told.get(name) for name in ("epoch", "stirs", "feed_waiting", "held", "barred")]
    failing = health(found, deps.settings, deps.version).public["failing"]
    return repr((known, busy, failing))


def _page_of(request: Request) -> tuple[LivePage, Request]:
    path = request.path_params["of"]
    for live, pattern in _PATTERNS:
        if found := pattern.match(path):
            scope = {**request.scope, "path": path, "path_params": found.groupdict()}
            return live, Request(scope)
    raise Missing("page", "no such page is kept up to date")


def _rendered(live: LivePage, reader: Reader, values: Values) -> str:
    template = templates(reader.language).get_template(live.template)
    return template.render(reader=reader, **values, **live.said(values, reader))
