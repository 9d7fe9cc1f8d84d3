"""`/api/v1/me/missions`: what a person's missions are, and making, changing and running them."""

from datetime import datetime
from functools import partial
from typing import Any
from uuid import uuid4
from zoneinfo import ZoneInfo

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from mana_actors.http.bodies import answer
from state.log.cadence import next_run, next_runs, parse_cadence
from state.log.own_changes import RecordAt, owner_writes
from state.log.principals import DEFAULT_AGENT_ID
from state.log.records import agent_from_record, mission_from_record
from state.log.stamps import text_of
from state.store.gateway.own_log import OwnRecord, OwnWrites
from supervisor.custody.vaults import Caller
from supervisor.gateway.answers import instant_text, path_part
from supervisor.gateway.api import requests
from supervisor.gateway.api.problems import ApiProblem, invalid
from supervisor.gateway.api.requests import (
    Done,
    body_of,
    carried_out,
    changed,
    expected_version,
)
from supervisor.gateway.people.made.cadence_words import cadence_record
from supervisor.gateway.people.made.inputs import inputs_of
from supervisor.gateway.people.made.wire import (
    MissionFields,
    MissionPage,
    MissionShown,
    MissionWanted,
    NothingWanted,
    given,
    mission_shown,
)
from supervisor.gateway.people.owners import Owners
from supervisor.gateway.people.requests import once_folded

NEXT_RUNS = 5
FIELDS = ("title", "objective", "conceptMarkdown", "agentId", "missedRuns")


async def get_missions(request: Request, caller: Caller, owners: Owners) -> Response:
    """Own missions by id."""
    limit, after, _ = requests.page_of(request)
    async with owners.own_log.acting(caller.user) as own:
        found = await own.records("aiMissions", limit, after)
        zone = await zone_of(own, owners)
    items = [_shown(one, zone) for one in found if one.is_listed]
    more = requests.next_page(found[-1].at.id if len(found) == limit else None)
    return answer(msgspec.to_builtins(MissionPage(items, more)))


async def get_mission(request: Request, caller: Caller, owners: Owners) -> Response:
    """One mission, with its next runs."""
    async with owners.own_log.acting(caller.user, caller.spaces) as own:
        record = await mission_of(own, path_part(request, "mission"), hold=False)
        zone = await zone_of(own, owners)
    return requests.shown(msgspec.to_builtins(_shown(record, zone)))


async def post_mission(request: Request, caller: Caller, owners: Owners) -> Response:
    """A new mission; without a cadence it runs when asked."""
    asked = await body_of(request, MissionWanted)

    async def made(own: OwnWrites) -> Done:
        return Done(201, msgspec.to_builtins(await mission_made(own, owners, str(uuid4()), asked)))

    return await carried_out(request, caller, owners.own_log, asked, made)


async def mission_made(
    own: OwnWrites, owners: Owners, id_: str, asked: MissionWanted
) -> MissionShown:
    """A new mission under a fresh id; raises ApiProblem and ChangeRefused."""
    if not isinstance(asked.title, str):
        raise invalid(("title", "is missing"))
    raw = _cadence_of(asked) or {"kind": "manual"}
    space = asked.space_id if isinstance(asked.space_id, str) else None
    said, notes = await _said(own, asked, own.user)
    record = await own.record(RecordAt("ai", "aiMissions", id_))
    zone = await zone_of(own, owners)
    everything: dict[str, Any] = {
        "objective": asked.title,
        "conceptMarkdown": "",
        "inputs": [],
        "agentId": DEFAULT_AGENT_ID,
        "cadence": raw,
        "state": "active",
        "nextRunAt": next_text(raw, record.now, zone),
        "iterations": [],
        **said,
    }
    if everything["nextRunAt"] is None:
        del everything["nextRunAt"]
    record = await own.insert(record.at, everything, owner_writes(own.user), space=space)
    return _shown(record, zone, notes)


async def patch_mission(request: Request, caller: Caller, owners: Owners) -> Response:
    """The fields that are given, anew; a new cadence says anew when it runs next."""
    asked, id_ = await body_of(request, MissionFields), path_part(request, "mission")
    expects = expected_version(request)
    change = partial(mission_changed, owners=owners, id_=id_, asked=asked, expects=expects)
    return await changed(request, caller, owners.own_log, asked, change)


async def mission_changed(
    own: OwnWrites, owners: Owners, id_: str, asked: MissionFields, expects: str | None = None
) -> MissionShown:
    """The mission with these fields anew; raises ApiProblem, NoSuchRecord and VersionConflict."""
    raw, record = _cadence_of(asked), await mission_of(own, id_)
    said, notes = await _said(own, asked, record.owner)
    zone = await zone_of(own, owners)
    if raw is not None:
        said["cadence"] = raw
        is_active = mission_from_record(record.owner, id_, record.fields).state == "active"
        said["nextRunAt"] = next_text(raw, record.now, zone) if is_active else None
    if said:
        record = await own.update(record, said, owner_writes(own.user), expects)
    return _shown(record, zone, notes)


async def post_pause(request: Request, caller: Caller, owners: Owners) -> Response:
    """Nothing runs any more until it is resumed; a run under way is withdrawn."""
    asked, id_ = await body_of(request, NothingWanted), path_part(request, "mission")
    expects = expected_version(request)
    change = partial(mission_paused, owners=owners, id_=id_, expects=expects)
    return await changed(request, caller, owners.own_log, asked, change)


async def mission_paused(
    own: OwnWrites, owners: Owners, id_: str, expects: str | None = None
) -> MissionShown:
    """The mission, paused; raises ApiProblem, NoSuchRecord and VersionConflict."""
    record, zone = await mission_of(own, id_), await zone_of(own, owners)
    state = mission_from_record(record.owner, id_, record.fields).state
    if state not in ("active", "paused"):
        raise ApiProblem(409, f"the mission is {state}")
    if state == "active":
        record = await own.update(record, {"state": "paused"}, owner_writes(own.user), expects)
    return _shown(record, zone)


async def post_resume(request: Request, caller: Caller, owners: Owners) -> Response:
    """It runs again, next when its cadence says from now on; also one that was done or archived."""
    asked, id_ = await body_of(request, NothingWanted), path_part(request, "mission")
    expects = expected_version(request)
    change = partial(mission_resumed, owners=owners, id_=id_, expects=expects)
    return await changed(request, caller, owners.own_log, asked, change)


async def mission_resumed(
    own: OwnWrites, owners: Owners, id_: str, expects: str | None = None
) -> MissionShown:
    """The mission, active again; raises NoSuchRecord and VersionConflict."""
    record, zone = await mission_of(own, id_), await zone_of(own, owners)
    if mission_from_record(record.owner, id_, record.fields).state != "active":
        following = next_text(record.fields.get("cadence"), record.now, zone)
        said = {"state": "active", "nextRunAt": following}
        record = await own.update(record, said, owner_writes(own.user), expects)
    return _shown(record, zone)


async def delete_mission(request: Request, caller: Caller, owners: Owners) -> Response:
    """It is hidden on every device, and a run under way is withdrawn."""
    id_ = path_part(request, "mission")

    async def deleted(own: OwnWrites) -> Done:
        await mission_deleted(own, id_, expected_version(request))
        return Done(200, {"id": id_, "deleted": True})

    return await carried_out(request, caller, owners.own_log, None, deleted)


async def mission_deleted(own: OwnWrites, id_: str, expects: str | None = None) -> None:
    """It is gone for its person; raises NoSuchRecord and VersionConflict."""
    await own.delete(await mission_of(own, id_), owner_writes(own.user), expects)


async def post_run(request: Request, caller: Caller, owners: Owners) -> Response:
    """A run now, once per Idempotency-Key; a mission made a moment ago is waited for."""
    await body_of(request, NothingWanted)
    id_ = path_part(request, "mission")
    key = request.headers.get("idempotency-key") or str(uuid4())
    if len(key) > requests.MAX_KEY_CHARS or not key.isprintable():
        raise ApiProblem(400, "the Idempotency-Key is too long, or has letters that do not print")
    due_at = await run_asked_for(caller, owners, id_, key)
    return answer({"missionId": id_, "dueAt": instant_text(due_at)}, 202)


async def run_asked_for(caller: Caller, owners: Owners, id_: str, key: str) -> datetime:
    """When a run that is asked for under this key is due; raises ApiProblem and NoSuchRecord."""
    due: list[datetime] = []

    async def is_asked_for() -> bool:
        async with owners.own_log.acting(caller.user, caller.spaces) as own:
            record = await mission_of(own, id_, hold=False)
            if record.owner != caller.user:
                raise ApiProblem(403, "only the owner of a mission runs it")
            state = mission_from_record(record.owner, id_, record.fields).state
            if state != "active":
                raise ApiProblem(409, f"the mission is {state}")
            at = await own.request_run(id_, key)
            due.extend([] if at is None else [at])
            return bool(due)

    if not await once_folded(is_asked_for):
        raise ApiProblem(503, "the mission was made just now: ask again in a moment")
    return due[0]


async def mission_of(own: OwnWrites, id_: str, *, hold: bool = True) -> OwnRecord:
    """The mission; raises NoSuchRecord."""
    return await own.existing(RecordAt("ai", "aiMissions", id_), "writers" if hold else "nothing")


async def zone_of(own: OwnWrites, owners: Owners) -> ZoneInfo:
    """The zone that this person's cadences are meant in."""
    return ZoneInfo(await own.time_zone() or owners.time_zone)


def _cadence_of(asked: MissionFields) -> dict[str, Any] | None:
    """The cadence as records hold it, None where the request says nothing; raises ApiProblem."""
    if isinstance(asked.every, str):
        if isinstance(asked.cadence, dict):
            raise invalid(("every", "or cadence can be given, not both"))
        raw = cadence_record(asked.every)
        if isinstance(raw, str):
            raise invalid(("every", raw))
        return raw
    if not isinstance(asked.cadence, dict):
        return None
    problem = parse_cadence(asked.cadence)
    if isinstance(problem, str):
        field, _, what = problem.partition(": ")
        raise invalid((field, what))
    return asked.cadence


async def _said(
    own: OwnWrites, asked: MissionFields, owner: str
) -> tuple[dict[str, Any], list[str]]:
    """The fields that a request sets, checked, and notes on its words; raises ApiProblem.

    `owner` is whose mission it is: an agent runs for its own maker only.
    """
    said, notes = given(asked, *FIELDS), list[str]()
    blank = [(name, "is blank") for name in ("title",) if name in said and not said[name].strip()]
    if blank:
        raise invalid(*blank)
    if isinstance(asked.agent_id, str) and asked.agent_id != DEFAULT_AGENT_ID:
        agent = await own.record(RecordAt("ai", "agents", asked.agent_id), "nothing")
        if not agent.exists:
            raise invalid(("agentId", "you have no such agent"))
        if agent.owner != owner:
            raise invalid(("agentId", "is another member's, and agents run only for their maker"))
        if agent_from_record(agent.owner, asked.agent_id, agent.fields).state == "archived":
            raise invalid(("agentId", "the agent is archived"))
    if isinstance(asked.read, list):
        if isinstance(asked.inputs, list):
            raise invalid(("read", "or inputs can be given, not both"))
        refs, notes = await inputs_of(own, asked.read)
        said["inputs"] = [msgspec.to_builtins(ref) for ref in refs]
    elif isinstance(asked.inputs, list):
        said["inputs"] = msgspec.to_builtins(asked.inputs)
    return said, notes


def next_text(raw: object, now: datetime, zone: ZoneInfo) -> str | None:
    """When a cadence as records hold it says that it runs next; None: it does not."""
    cadence = parse_cadence(raw)
    following = None if isinstance(cadence, str) else next_run(cadence, now, zone)
    return None if following is None else text_of(following)


def upcoming(record: OwnRecord, zone: ZoneInfo, most: int) -> list[dict[str, str]]:
    """The next due times of an active mission, as instants and on its owner's clock."""
    mission = mission_from_record(record.owner, record.at.id, record.fields)
    if mission.state != "active" or mission.next_run_at is None:
        return []
    first = mission.next_run_at
    following: list[datetime] = []
    if mission.cadence is not None and most > 1:
        following = next_runs(mission.cadence, max(first, record.now), zone, most - 1)
    return [
        {"at": text_of(at), "local": at.astimezone(zone).strftime("%a %Y-%m-%d %H:%M")}
        for at in [first, *following]
    ]


def _shown(record: OwnRecord, zone: ZoneInfo, notes: list[str] | None = None) -> MissionShown:
    return mission_shown(record, zone.key, upcoming(record, zone, NEXT_RUNS), notes or [])
