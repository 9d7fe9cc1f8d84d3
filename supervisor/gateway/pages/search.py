"""The search box: owners find agents, missions and runs of theirs, operators find them by id."""

from __future__ import annotations

from uuid import UUID

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from mana_actors.http.paths import segment
from state.store.gateway.fleet import Filter, RunRow
from supervisor.gateway.answers import query
from supervisor.gateway.deps import Deps
from supervisor.gateway.pages.owner.gate import Visit
from supervisor.gateway.pages.owner.overview import Overview, overview_of, reading
from supervisor.gateway.pages.page import page
from supervisor.gateway.pages.reader import Reader
from supervisor.gateway.pages.translations import translations_of

MOST = 50
MOST_CHARS = 200


class Hit(msgspec.Struct, frozen=True):
    """Something that was found: what it is, where its page is, and its name and id."""

    kind: str
    path: str
    name: str
    more: str = ""


async def get_own(visit: Visit) -> Response:
    """`/me/search?q=`: by words in names and titles, and by id."""
    wanted = wanted_of(visit.request)
    hits: list[Hit] = []
    if wanted:
        async with reading(visit) as look:
            overview = await overview_of(look)
            run_id = uuid_in(wanted)
            run = None
            if run_id is not None:
                run = await look.owners.runs.run(visit.caller.user, run_id)
        hits = hits_in(overview, wanted, visit.reader)
        if run is not None:
            title = overview.title(run.run.mission_id, visit.reader)
            path = f"/me/missions/{segment(run.run.mission_id)}?run={run_id}#r-{run_id}"
            hits.append(Hit("run", path, title, str(run_id)))
    return _shown(visit.reader, wanted, hits)


async def get_fleet(request: Request, deps: Deps, reader: Reader) -> Response:
    """`/search?q=`: a person, an agent as USER/AGENT or by id, a mission or a run, by whole ids."""
    wanted = wanted_of(request)
    hits: list[Hit] = []
    if wanted:
        user, _, agent = wanted.partition("/")
        pair = Filter(user=user, agent=agent, limit=MOST)
        found = await deps.fleet.agents(pair) if agent else []
        for filter_ in (Filter(user=wanted, limit=MOST), Filter(agent=wanted, limit=MOST)):
            found += await deps.fleet.agents(filter_)
        missions = await deps.fleet.missions(Filter(mission=wanted, limit=MOST))
        run_id = uuid_in(wanted)
        run = None if run_id is None else await deps.fleet.run(run_id)
        hits = [
            *(_agent(one.user_id, one.agent_id, "agent") for one in found),
            *(_agent(one.user_id, one.agent_id, "mission", one.mission_id) for one in missions),
            *([] if run is None else [_run(run)]),
        ]
    return _shown(reader, wanted, list(dict.fromkeys(hits))[:MOST])


def wanted_of(request: Request) -> str:
    """What somebody looks for; as much of it as anything is called."""
    raw = query(request, ("q",)) if request.url.query not in ("", "q=") else {}
    return " ".join(raw.get("q", "").split())[:MOST_CHARS]


def uuid_in(text: str) -> UUID | None:
    """The id of a run, if it is one."""
    try:
        return UUID(text)
    except ValueError:
        return None


def hits_in(overview: Overview, wanted: str, reader: Reader) -> list[Hit]:
    """Agents and missions whose name, role, title or id has all of the words; those by name first.

    A sealed title has no words here.
    """
    parts = wanted.casefold().split()
    hits: list[tuple[bool, Hit]] = []
    for agent in overview.agents.values():
        names = f"{agent.name} {agent.role} {agent.id}".casefold()
        if all(part in names for part in parts):
            hit = Hit("agent", f"/me/agents/{segment(agent.id)}", agent.name, agent.role)
            hits.append((parts[0] not in agent.name.casefold(), hit))
    for mission in overview.missions.values():
        names = f"{mission.title or ''} {mission.id}".casefold()
        if all(part in names for part in parts):
            title = overview.title(mission.id, reader)
            name = overview.agent_name(mission.agent_id)
            hit = Hit("mission", f"/me/missions/{segment(mission.id)}", title, name)
            hits.append((parts[0] not in title.casefold(), hit))
    return [hit for _, hit in sorted(hits, key=_by_name)][:MOST]


def _shown(reader: Reader, wanted: str, hits: list[Hit]) -> Response:
    _ = translations_of(reader.language).gettext
    kinds = {"agent": _("Agent"), "mission": _("Mission"), "run": _("Run")}
    return page(reader, "search.html", wanted=wanted, hits=hits, kinds=kinds, most=MOST)


def _agent(user: str, agent: str, kind: str, more: str = "") -> Hit:
    return Hit(kind, f"/agents/{segment(user)}/{segment(agent)}", f"{user}/{agent}", more)


def _run(run: RunRow) -> Hit:
    return Hit("run", f"/runs/{run.run_id}", f"{run.user_id}/{run.agent_id}", str(run.run_id))


def _by_name(ranked: tuple[bool, Hit]) -> tuple[bool, str]:
    return ranked[0], ranked[1].name.casefold()
