"""`/api/v1/me`: who asks, and the zone that this person's times are meant in."""

import difflib
from zoneinfo import ZoneInfo

import msgspec
from msgspec import UNSET, UnsetType
from starlette.requests import Request
from starlette.responses import Response

from mana_actors.http.bodies import answer
from state.log.cadence import Cron, Daily, Weekly
from state.log.own_changes import owner_writes
from state.log.records import mission_from_record
from state.rules.scopes import SCOPES
from state.store.gateway.own_log import OwnWrites
from state.zones import is_time_zone, time_zones
from supervisor.custody.vaults import Caller
from supervisor.gateway.answers import query
from supervisor.gateway.api.problems import invalid
from supervisor.gateway.api.requests import Done, body_of, carried_out
from supervisor.gateway.people.made.missions import mission_of, next_text, zone_of
from supervisor.gateway.people.made.wire import Line, Wanted
from supervisor.gateway.people.owners import Owners

PAGE = 200


class PersonFields(Wanted, frozen=True):
    """What a person says of themselves; a zone of null is the deployment's."""

    time_zone: Line | UnsetType | None = UNSET


class PersonShown(msgspec.Struct, frozen=True, rename="camel"):
    """Who asks, by which way in, what that lets them do and share, and by which clock they live.

    `zoneIsOwn` false: they set none, and the deployment's counts.
    """

    user: str
    display_name: str | None
    scopes: list[str]
    spaces: list[str]
    signed_in_by: str
    time_zone: str
    zone_is_own: bool


async def get_me(request: Request, caller: Caller, owners: Owners) -> Response:
    """Who asks."""
    query(request, ())
    async with owners.own_log.acting(caller.user) as own:
        told = await _shown(own, caller, owners)
    return answer(msgspec.to_builtins(told))


async def patch_me(request: Request, caller: Caller, owners: Owners) -> Response:
    """Another zone: missions that run by the clock run next when it says so there."""
    asked = await body_of(request, PersonFields)
    wanted = asked.time_zone
    if isinstance(wanted, str) and not is_time_zone(wanted):
        near = difflib.get_close_matches(wanted, time_zones(), 1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise invalid(("timeZone", f"must be the name of an IANA time zone, or null{hint}"))

    async def changed(own: OwnWrites) -> Done:
        before = await zone_of(own, owners)
        if wanted is not UNSET:
            await own.save_time_zone(wanted)
        zone = await zone_of(own, owners)
        if zone.key != before.key:
            await _clocks_moved(own, before, zone)
        return Done(200, msgspec.to_builtins(await _shown(own, caller, owners)))

    return await carried_out(request, caller, owners.own_log, asked, changed)


async def _clocks_moved(own: OwnWrites, before: ZoneInfo, zone: ZoneInfo) -> None:
    """Give each active mission the next time that its cadence says in the new zone.

    A time that its owner set otherwise stays, and so does one that is due already.
    """
    after: str | None = None
    while listed := await own.records("aiMissions", PAGE, after):
        for one in listed:
            if not one.is_listed:
                continue
            mission = mission_from_record(own.user, one.at.id, one.fields)
            if mission.state != "active" or not isinstance(mission.cadence, Daily | Weekly | Cron):
                continue
            raw = one.fields.get("cadence")
            if next_text(raw, one.now, before) != one.fields.get("nextRunAt"):
                continue
            held = await mission_of(own, one.at.id)
            following = {"nextRunAt": next_text(raw, held.now, zone)}
            await own.update(held, following, owner_writes(own.user))
        after = listed[-1].at.id


async def _shown(own: OwnWrites, caller: Caller, owners: Owners) -> PersonShown:
    return PersonShown(
        user=caller.user,
        display_name=caller.display_name,
        scopes=[scope for scope in SCOPES if scope in caller.scopes],
        spaces=list(caller.spaces),
        signed_in_by=caller.way,
        time_zone=(await zone_of(own, owners)).key,
        zone_is_own=await own.time_zone() is not None,
    )
