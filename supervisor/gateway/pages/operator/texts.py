"""Break-glass on pages: a reason first, then an agent's texts for a short time, and who did so."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from mana_actors.http.bodies import BadRequest
from mana_actors.http.paths import segment
from state.rules.sign_ins import hash_of
from state.store.gateway.openings import LiveOpening
from state.store.people.operators import session_name
from supervisor.gateway.answers import path_part, query
from supervisor.gateway.cursors import read_cursor
from supervisor.gateway.deps import Deps
from supervisor.gateway.operators.openings import (
    LONGEST,
    SHORTEST,
    AgentTexts,
    OpeningPlace,
    next_opening,
    opened,
    operator_of,
    owners_of,
    texts_of,
)
from supervisor.gateway.pages.page import page, seen
from supervisor.gateway.pages.reader import Reader

ROWS = 50


async def get_texts(request: Request, reader: Reader, deps: Deps, session: str) -> Response:
    """`/agents/{user}/{agent}/texts`: the texts while this session may read them, else a form."""
    run = query(request, ("run",)).get("run", "")
    user, agent = path_part(request, "user"), path_part(request, "agent")
    live = await owners_of(deps).openings.live(user, agent, _opener(session))
    texts = None if live is None else await texts_of(owners_of(deps), user, agent)
    return _page(reader, (user, agent, run), live=live, texts=texts)


async def post_texts(
    request: Request, reader: Reader, deps: Deps, session: str, form: dict[str, str]
) -> Response:
    """Write down why; from then on the page shows the texts, for a short time."""
    query(request, ())
    user, agent = path_part(request, "user"), path_part(request, "agent")
    run, reason = form.get("run", ""), form.get("reason", "")
    try:
        by = operator_of(request, _opener(session))
        await opened(deps, user, agent, reason=reason, run=run, by=by)
    except BadRequest as exc:
        if exc.field != "reason":
            raise
        return _page(reader, (user, agent, run), status=400, problem=exc.field, reason=reason)
    here = f"/agents/{segment(user)}/{segment(agent)}/texts"
    return seen(f"{here}?run={segment(run)}" if run else here)


async def get_openings(request: Request, reader: Reader, deps: Deps) -> Response:
    """`/openings`: who opened whose texts, and why."""
    given = query(request, ("before",))
    before = read_cursor(given["before"], OpeningPlace) if "before" in given else None
    found = await owners_of(deps).openings.list(None, ROWS, before)
    older = next_opening(found, ROWS)
    return page(reader, "operator/openings.html", openings=found, older=older)


def _page(
    reader: Reader,
    of: tuple[str, str, str],
    *,
    status: int = 200,
    live: LiveOpening | None = None,
    texts: AgentTexts | None = None,
    problem: str = "",
    reason: str = "",
) -> Response:
    """The texts of a user's agent, or the form that asks why; `of` names the run that led there."""
    user, agent, run = of
    return page(
        reader,
        "operator/texts.html",
        status,
        user_id=user,
        agent_id=agent,
        run=run,
        live=live,
        texts=texts,
        problem=problem,
        reason=reason,
        shortest=SHORTEST,
        longest=LONGEST,
    )


def _opener(session: str) -> str:
    """What a row calls who opened by a session."""
    return f"session {session_name(hash_of(session))}"
