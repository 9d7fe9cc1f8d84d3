"""A person's agents and missions by id, as every page of theirs names them."""

from __future__ import annotations

from typing import Any

import msgspec

from state.log.cadence import Cadence, parse_cadence
from state.log.principals import DEFAULT_AGENT_ID
from supervisor.gateway.pages.owner.gate import Visit
from supervisor.gateway.pages.reader import Reader
from supervisor.gateway.pages.translations import translations_of
from supervisor.gateway.people.made.missions import upcoming
from supervisor.gateway.people.made.wire import AgentShown, MissionShown, agent_shown, mission_shown

MOST = 200
NEXT_RUNS = 5


class Overview(msgspec.Struct, frozen=True):
    """Records as the log says now."""

    agents: dict[str, AgentShown]
    missions: dict[str, MissionShown]

    def title(self, mission: str, reader: Reader) -> str:
        """What a mission is called; one that is sealed or gone has no name here."""
        found = self.missions.get(mission)
        _ = translations_of(reader.language).gettext
        if found is None:
            return _("a deleted mission")
        return found.title or _("a sealed mission")

    def agent_name(self, agent: str) -> str:
        """What an agent is called."""
        found = self.agents.get(agent)
        return found.name if found else "Mana" if agent == DEFAULT_AGENT_ID else agent


async def overview_of(visit: Visit) -> Overview:
    """All of them that are not deleted."""
    zone = visit.reader.zone
    async with visit.owners.own_log.acting(visit.caller.user) as own:
        agents = await own.records("agents", MOST)
        missions = await own.records("aiMissions", MOST)
    return Overview(
        {one.at.id: agent_shown(one) for one in agents if one.is_listed},
        {
            one.at.id: mission_shown(one, zone.key, upcoming(one, zone, NEXT_RUNS), [])
            for one in missions
            if one.is_listed
        },
    )


def cadence_of(mission: MissionShown) -> Cadence | None:
    """The cadence of a mission, None where it has none that can be read."""
    found = parse_cadence(mission.cadence)
    return None if isinstance(found, str) else found


async def awake_of(visit: Visit) -> dict[str, Any] | None:
    """This person's agents that have a process now, by id; None where nobody could say."""
    facts = await visit.deps.watch.facts()
    if facts.supervisor is None:
        return None
    listed: list[dict[str, Any]] = facts.supervisor.get("awake", [])
    own = [one for one in listed if one.get("user") == visit.caller.user]
    return {one["agent"]: one for one in own if "agent" in one}
