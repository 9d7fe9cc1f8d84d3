"""A person's agents and missions by id, as every page of theirs names them."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec

from state.log.cadence import Cadence, parse_cadence
from state.log.principals import DEFAULT_AGENT_ID
from state.store.connect import OneTransaction
from state.store.gateway.own_log import OwnLog, OwnRecord
from state.store.own.glance import OwnGlance
from state.store.own.runs import OwnRuns
from state.store.owner import OwnerView
from supervisor.gateway.pages.owner.gate import Visit
from supervisor.gateway.pages.reader import Reader
from supervisor.gateway.pages.translations import translations_of
from supervisor.gateway.people.inbox.proposals import inbox_of
from supervisor.gateway.people.made.wire import AgentShown, MissionShown, agent_shown, mission_shown

MOST = 200


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

    def is_at_work(self, agent: str) -> bool:
        """Whether an agent is neither paused nor archived; nobody wrote a record of the default."""
        return agent not in self.agents or self.agents[agent].state == "active"

    def agent_name(self, agent: str) -> str:
        """What an agent is called."""
        found = self.agents.get(agent)
        return found.name if found else "Mana" if agent == DEFAULT_AGENT_ID else agent


@asynccontextmanager
async def reading(visit: Visit) -> AsyncGenerator[Visit]:
    """The visit, with all that it reads of this person in one transaction, one after the other.

    A page asks many small questions: a transaction for each costs more than its answer.
    """
    async with visit.owners.own_log.acting(visit.caller.user) as own:
        one = OneTransaction(own.connection, visit.caller.user)
        owners = msgspec.structs.replace(
            visit.owners,
            view=OwnerView(one),
            runs=OwnRuns(one),
            glance=OwnGlance(one),
            own_log=OwnLog(one),
        )
        yield msgspec.structs.replace(visit, owners=owners)


async def staged(visit: Visit) -> None:
    """Put what is new to this person before proposals are shown."""
    if visit.awaits_staging:
        store, asked = await inbox_of(visit.caller, visit.owners)
        await store.stage_all(asked)


async def overview_of(visit: Visit) -> Overview:
    """All of them that are not deleted; what comes after a mission's next run is left out."""
    async with visit.owners.own_log.acting(visit.caller.user) as own:
        agents = await own.records("agents", MOST)
        missions = await own.records("aiMissions", MOST)
    return overview_from(agents, missions, visit.reader)


def overview_from(
    agents: Sequence[OwnRecord], missions: Sequence[OwnRecord], reader: Reader
) -> Overview:
    """Those of these records that are not deleted."""
    return Overview(
        {one.at.id: agent_shown(one) for one in agents if one.is_listed},
        {
            one.at.id: mission_shown(one, reader.zone.key, [], [])
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
