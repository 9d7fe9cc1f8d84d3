"""What happens to a mission or a run, as server-sent events (HTML standard, section 9.2).

Every event is a row that somebody wrote, and its id comes from that row. So a client that comes
back with `Last-Event-ID` gets what it has missed; what happened in the seconds before that id comes
once more, since transactions do not commit in the order of their times.
"""

import asyncio
import time
from collections.abc import AsyncGenerator
from datetime import UTC, datetime, timedelta
from uuid import UUID

import msgspec
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from mana_actors.http.bodies import NO_STORE, BadRequest
from state.runs.reasons import Language, label, language_of
from state.store.connect import Unavailable
from state.store.own.runs import OwnEvent, OwnRuns
from supervisor.custody.vaults import Caller
from supervisor.gateway.answers import instant_text, path_part, query, why
from supervisor.gateway.people.inbox.wire import instant_from
from supervisor.gateway.people.owners import Owners
from supervisor.gateway.people.reading.plans import NO_RUN, require_mission, run_id

LOOK_S = 1.0
OVERLAP = timedelta(seconds=10)
HEARTBEAT_S = 15.0
LONGEST_S = 600.0
"""After that the client comes back, with a token that may be another."""
LONGEST_LOOK_BACK = timedelta(days=1)
PHASES = {
    "run-opened": "resolving-inputs",
    "call-began": "calling-llm",
    "call-ended": "parsing-response",
    "run-closed": "finalizing",
}
"""What the run does after such an event, by the names that iterations use."""


class Watched(msgspec.Struct, frozen=True):
    """Whose mission, or which run of it, a stream tells of; whether a run's end is its own."""

    user: str
    mission: str
    run: UUID | None
    ends: bool = False


async def get_run_stream(request: Request, caller: Caller, owners: Owners) -> Response:
    """One run from its beginning to its end; 204 to whoever comes back after that."""
    query(request, ())
    run = run_id(request)
    found = await owners.runs.run(caller.user, run)
    if found is None:
        raise NO_RUN
    last = _last_event(request)
    if last is not None and last[1].startswith("run-closed "):
        return Response(status_code=204)  # a browser's EventSource stays closed then
    since = found.run.opened_at if last is None else last[0] - OVERLAP
    return _stream(request, caller, owners, found.run.mission_id, since, run=run, ends=True)


async def get_mission_stream(request: Request, caller: Caller, owners: Owners) -> Response:
    """A mission from its live run's beginning on, else from now on.

    `since` begins it at a time of the last day, such as the `dueAt` of a run that was asked for;
    `until=run-closed` ends it with the next run that closes.
    """
    given = query(request, ("since", "until"))
    mission, asked = path_part(request, "mission"), given.get("since")
    if given.get("until", "run-closed") != "run-closed":
        raise BadRequest("until", "must be run-closed, or left out")
    begin = None if asked is None else instant_from(asked, "since")
    if begin is not None and begin < datetime.now(UTC) - LONGEST_LOOK_BACK:
        raise BadRequest("since", "is more than a day ago")
    await require_mission(owners, caller, mission)
    last = _last_event(request)
    if last is not None:
        begin = last[0] - OVERLAP
    elif begin is None:
        begin = await owners.runs.live_since(caller.user, mission)
    return _stream(request, caller, owners, mission, begin, run=None, ends="until" in given)


def _last_event(request: Request) -> tuple[datetime, str] | None:
    """The time and name of the event that a client saw last; raises BadRequest."""
    text = request.headers.get("last-event-id")
    if not text:
        return None
    at, _, name = text.partition(" ")
    try:
        return datetime.fromisoformat(at).astimezone(UTC), name
    except (ValueError, OverflowError):
        raise BadRequest("Last-Event-ID", "is none of this stream's") from None


def _stream(
    request: Request,
    caller: Caller,
    owners: Owners,
    mission: str,
    since: datetime,
    *,
    run: UUID | None,
    ends: bool,
) -> Response:
    language = language_of(request.headers.get("accept-language"), owners.language)
    owners.streams.require_place(caller.user)

    async def frames() -> AsyncGenerator[str]:
        with owners.streams.one_more(caller.user):
            yield "retry: 2000\n\n"
            watched = Watched(caller.user, mission, run, ends=ends)
            async for frame in _frames(owners.runs, watched, since, language):
                yield frame

    headers = NO_STORE | {"X-Accel-Buffering": "no"}  # for a proxy that would collect frames
    return StreamingResponse(frames(), media_type="text/event-stream", headers=headers)


async def _frames(
    runs: OwnRuns, watched: Watched, since: datetime, language: Language
) -> AsyncGenerator[str]:
    """Frames until the run is over or the stream is old; a comment where nothing happens."""
    ends_at = time.monotonic() + LONGEST_S
    sent: dict[str, datetime] = {}
    told_at = time.monotonic()
    while time.monotonic() < ends_at:
        try:
            # A client that leaves must not break a transaction off.
            events = await asyncio.shield(
                runs.events(watched.user, watched.mission, since, watched.run)
            )
        except Unavailable:
            yield _frame("error", None, {"error": "the database does not answer"})
            return
        for event in events:
            id_ = f"{instant_text(event.at)} {event.kind} {event.key}"
            if id_ not in sent:
                sent[id_] = event.at
                told_at = time.monotonic()
                yield _frame(event.kind, id_, _told(event, language))
                if watched.ends and event.kind == "run-closed":
                    return
        if events:
            since = max(since, events[-1].at - OVERLAP)
            sent = {id_: at for id_, at in sent.items() if at >= since}
        if time.monotonic() - told_at > HEARTBEAT_S:
            told_at = time.monotonic()
            yield ": still here\n\n"
        await asyncio.sleep(LOOK_S)


def _told(event: OwnEvent, language: Language) -> dict[str, object]:
    told = dict(event.told)
    if "reason" in told:
        told |= why(told["reason"], language)
    if "decision" in told:
        told["decisionText"] = label(told["decision"], language)
    if event.kind in PHASES:
        told["phase"] = PHASES[event.kind]
    run = None if event.run_id is None else str(event.run_id)
    return {"at": instant_text(event.at), "runId": run, **told}


def _frame(name: str, id_: str | None, told: dict[str, object]) -> str:
    """One event; JSON holds no line break, so one data line is enough."""
    head = "" if id_ is None else f"id: {id_}\n"
    return f"event: {name}\n{head}data: {msgspec.json.encode(told).decode()}\n\n"
