"""The operators' page: how the fleet is, rendered here, nothing loaded from elsewhere.

Operators see ids, states, times, costs and reasons; titles and plans are their owners'.
"""

from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from functools import cache
from importlib import resources
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mana_actors.http.paths import segment
from state.errors import StateError
from state.runs.reasons import label, reasons_of
from state.store.gateway.control import NotPossible
from state.store.gateway.fleet import Filter
from supervisor.gateway.answers import path_part, query
from supervisor.gateway.auth import SESSION_S, Sessions
from supervisor.gateway.deps import Deps, facts
from supervisor.gateway.operators.control import Missing, cancel_run, run_id_of, switch, verb_of
from supervisor.gateway.operators.limits import warnings_of
from supervisor.gateway.pages.agent_page import agent_facts
from supervisor.health.judgement import health
from supervisor.node.models import model_in_words

ROWS = 50
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none';"
        " form-action 'self'; frame-ancestors 'none'"
    ),
    # Not "no-referrer": with that a browser says "Origin: null" of our own forms.
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}
NOTHING: dict[str, Any] = {"counts": None} | dict.fromkeys(
    ("agents", "missions", "runs", "quarantined", "warnings"), ()
)
GOOD = frozenset({"ran", "committed", "active", "ok"})
BAD = frozenset(
    {
        "failed",
        "skipped-budget",
        "skipped-grant",
        "skipped-inputs",
        "skipped-missing-agent",
        "skipped-unreadable",
    }
)
BUSY = frozenset({"open", "waiting", "skipped-concurrency", "differs"})


def routes(deps: Deps, sessions: Sessions) -> list[Route]:
    """The pages of the dashboard."""

    async def fleet(request: Request) -> Response:
        if not sessions.is_open(request.headers):
            return page("locked.html", 401)
        query(request, ("still",))
        return page("fleet.html", **await _fleet(deps), is_still="still=" in str(request.url))

    async def login(request: Request) -> Response:
        token = query(request, ("token",)).get("token", "")
        session = sessions.redeem(token)
        if session is None:
            return page("locked.html", 401)
        # A page and not a redirect: a strict cookie is not sent on a redirect that began elsewhere.
        response = page("login.html")
        response.set_cookie(
            sessions.cookie,
            session,
            max_age=int(SESSION_S),
            httponly=True,
            samesite="strict",
            secure=request.url.scheme == "https",
        )
        return response

    async def style(_: Request) -> Response:
        return Response(_style_sheet(), headers=HEADERS, media_type="text/css")

    return [
        Route("/", fleet),
        Route("/login", login),
        Route("/assets/style.css", style),
        *agent_routes(deps, sessions),
    ]


def agent_routes(deps: Deps, sessions: Sessions) -> list[Route]:
    """One agent's page, and the forms on it."""

    async def agent(request: Request) -> Response:
        if not sessions.is_open(request.headers):
            return page("locked.html", 401)
        query(request, ())
        return await _agent_page(deps, request)

    async def form(request: Request) -> Response:
        """Do what a button says, then show the agent again.

        Only for a session, and only from a page of ours: a strict cookie and the origin say so.
        """
        is_ours = deps.settings.names.is_own_page(request.scope)
        if not is_ours or not sessions.is_open(request.headers):
            return page("locked.html", 401)
        query(request, ())
        try:
            await _done(deps, request)
        except (Missing, NotPossible) as exc:
            said = exc.problem if isinstance(exc, Missing) else exc.why
            return await _agent_page(deps, request, said, 404 if isinstance(exc, Missing) else 409)
        where = "/".join(request.url.path.split("/")[:4])
        return Response(status_code=303, headers=HEADERS | {"Location": where})

    place = "/agents/{user}/{agent}"
    forms = ("/{verb}", "/missions/{mission}/{verb}", "/runs/{run}/cancel")
    return [
        Route(place, agent),
        *(Route(place + path, form, methods=["POST"]) for path in forms),
    ]


async def _agent_page(deps: Deps, request: Request, said: str = "", status: int = 200) -> Response:
    facts = await agent_facts(deps, path_part(request, "user"), path_part(request, "agent"))
    if facts is None:
        return page("locked.html", 404, problem="There is no such agent.")
    warnings = await warnings_of(deps, await deps.fleet.limits())
    return page("agent.html", status, **facts, said=said, warnings=warnings, now=datetime.now(UTC))


async def _done(deps: Deps, request: Request) -> None:
    """What the form's path says; raises Missing, NotPossible or BadRequest."""
    user, given = path_part(request, "user"), request.path_params
    if "run" in given:
        await cancel_run(deps, run_id_of(path_part(request, "run")))
    elif "mission" in given:
        mission = path_part(request, "mission")
        await switch(deps, user, "aiMissions", mission, verb_of(path_part(request, "verb")))
    else:
        agent = path_part(request, "agent")
        await switch(deps, user, "agents", agent, verb_of(path_part(request, "verb")))


async def _fleet(deps: Deps) -> dict[str, Any]:
    found = await facts(deps)
    judged = health(found, deps.settings, deps.version)
    wanted, lists = Filter(limit=ROWS), NOTHING
    with suppress(StateError):  # it may go away after it answered
        if found.shards is not None:
            lists = {
                "counts": await deps.fleet.counts(),
                "agents": await deps.fleet.agents(wanted),
                "missions": await deps.fleet.missions(wanted),
                "runs": await deps.fleet.runs(wanted),
                "quarantined": await deps.fleet.quarantined(wanted),
                "warnings": await warnings_of(deps, await deps.fleet.limits()),
            }
    awake = None if found.supervisor is None else found.supervisor.get("awake", ())
    return {
        "health": judged,
        "awake": None if awake is None else len(awake),
        "forks": sum(agent.get("fork", False) for agent in awake or ()),
        "idle": None if found.supervisor is None else found.supervisor.get("idle"),
        "model": model_in_words(deps.settings),
        "now": datetime.now(UTC),
        **lists,
    }


def page(name: str, status: int = 200, **values: Any) -> Response:
    """A page from its template."""
    html = _templates().get_template(name).render(**values)
    return Response(html, status, headers=HEADERS, media_type="text/html")


@cache
def _style_sheet() -> str:
    return (
        resources.files("supervisor.gateway.pages")
        .joinpath("assets", "style.css")
        .read_text("utf-8")
    )


@cache
def _templates() -> Environment:
    environment = Environment(
        loader=PackageLoader("supervisor.gateway.pages"),
        autoescape=select_autoescape(default=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters: dict[str, Callable[..., str]] = {
        "ago": ago,
        "tone": tone,
        "number": number,
        "money": money,
        "part": part,
        "label": label,
        "why": why,
    }
    environment.filters.update(filters)
    return environment


def ago(at: datetime | None, now: datetime) -> str:
    """How far an instant is from now, in one unit: "in 3 h", "12 s ago"."""
    if at is None:
        return "—"
    seconds = (at - now).total_seconds()
    size = abs(seconds)
    for unit, length in (("d", 86_400), ("h", 3600), ("min", 60), ("s", 1)):
        if size >= length:
            text = f"{size / length:.0f} {unit}"
            return f"in {text}" if seconds > 0 else f"{text} ago"
    return "now"


def tone(word: str | None) -> str:
    """The style of a state or decision."""
    for words, name in ((GOOD, "good"), (BAD, "bad"), (BUSY, "busy")):
        if word in words:
            return name
    return "quiet"


def why(reason: str | None) -> Markup:
    """What happened, and under it what happens next and what can be done."""
    told = reasons_of(reason)
    what = Markup("; ").join(each.what for each in told)
    rest = dict.fromkeys(part for each in told for part in (each.then, each.can) if part)
    if not rest:
        return what
    return what + Markup('<br><span class="quiet">{}</span>').format(" ".join(rest))


def money(micros: int | None) -> str:
    """Millionths of the currency of the alias file, as an amount."""
    return "—" if micros is None else f"{micros / 1_000_000:,.4f}".replace(",", "\u202f")


def part(text: str) -> str:
    """An id as one part of a path: it may hold a slash."""
    return segment(text)


def number(count: int | None) -> str:
    """A whole number with thin spaces between thousands."""
    return "—" if count is None else f"{count:,}".replace(",", "\u202f")
