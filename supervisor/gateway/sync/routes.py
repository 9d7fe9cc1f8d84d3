"""`/sync/{app}`: devices push what they changed and pull what others did.

Errors are plain text, as they always were; whoever accepts `application/problem+json` gets that.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import TypeVar
from uuid import uuid4

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from mana_actors.http.bodies import NO_STORE, BadRequest, answer, read_body
from state.log.own_changes import SERVER_CLIENTS
from state.log.stamps import NS_PER_MS, NS_PER_S, format_instant
from state.store.connect import Refused, Unavailable
from state.store.gateway.sync_feeds import ChangeIdInUse, FeedPage, Histories, Pushed
from supervisor.custody.vaults import Caller
from supervisor.gateway.answers import checked_id, path_part, query
from supervisor.gateway.api.problems import MEDIA_TYPE, FieldProblem, problem_response
from supervisor.gateway.people.owners import Owners
from supervisor.gateway.people.rate import TooOften
from supervisor.gateway.sign_in.door import must_have
from supervisor.gateway.sync import wire
from supervisor.gateway.sync.position import position_text, read_position
from supervisor.gateway.sync.shares import LogFull, PushSize
from supervisor.gateway.sync.verdict import Verdict, verdicts
from supervisor.gateway.sync.wire import Delivery, SyncRefused

PULL_ROWS = 1000
PUSH_ROWS = 5000
SMALL_BYTES, ROW_BYTES = 4096, 200
"""What is read in less time than a thread takes to begin; a row of a history, about."""
INACTIVE = {
    "error": "sync_inactive",
    "message": "Cloud Sync ist nicht aktiv. Aktiviere Sync in den Einstellungen.",
}

T = TypeVar("T")
Handler = Callable[[Request, Caller, Owners], Awaitable[Response]]


def told_as_text(status: int, message: str) -> Response:
    """The way of the sync service."""
    said = f"unauthorized: {message}" if status == 401 else message
    return PlainTextResponse(said, status, headers=NO_STORE)


def refusals_told(handler: Handler) -> Handler:
    """The handler for whom sync is paid for; what it refuses is told as its caller reads it."""

    async def told(request: Request, caller: Caller, owners: Owners) -> Response:
        headers: dict[str, str] = {}
        try:
            app = path_part(request, "app")
            if not await owners.sync_outside.is_active(caller.user, app):
                return answer(INACTIVE, 402)
            return await handler(request, await owners.sync_outside.seen(caller), owners)
        except SyncRefused as exc:
            refused = exc
        except ChangeIdInUse as exc:
            problem = f"change id in use in change {exc.change}"
            refused = SyncRefused(409, problem, exc.change, "changeId")
        except BadRequest as exc:
            refused = SyncRefused(exc.status, f"{exc.field} {exc.problem}", field=exc.field)
        except Refused as exc:
            if not exc.blames_a_value:
                raise
            refused = SyncRefused(400, "a change holds what cannot be kept")
        except LogFull as exc:
            refused = SyncRefused(507, str(exc))
        except TooOften as exc:
            refused = SyncRefused(429, "too many changes just now")
            headers = {"Retry-After": str(exc.wait_s)}
        except Unavailable:
            refused = SyncRefused(503, "the database does not answer")
        if MEDIA_TYPE not in request.headers.get("accept", ""):
            answered = told_as_text(refused.status, refused.problem)
            answered.headers.update(headers)
            return answered
        at = refused.field
        if at is not None and refused.change is not None:
            at = f"changes[{refused.change}].{at}"
        wrong = () if at is None else (FieldProblem(at[:128], refused.problem),)
        return problem_response(refused.status, refused.problem, wrong, headers)

    return told


@refusals_told
async def post_push(request: Request, caller: Caller, owners: Owners) -> Response:
    """Changes into the log, all or none, and what others changed since."""
    app = path_part(request, "app")
    raw = await read_body(request, wire.MAX_BODY_BYTES)
    if raw is None:
        raise SyncRefused(413, f"the body is over {wire.MAX_BODY_BYTES} bytes")
    size = len(raw)
    sent = await _aside(size, lambda: wire.read_changeset(raw))
    if sent.changes:  # without any it only reads
        must_have(caller, "write")
    client = client_of(request, sent.client_id or "")
    read = await _aside(
        size,
        lambda: wire.read_changes(
            sent,
            caller.user,
            caller.spaces,
            [str(uuid4()) for _ in sent.changes or ()],
            now_ns=time.time_ns(),
            ahead_ns=int(owners.sync_ahead_s * NS_PER_S),
        ),
    )
    rows = [one.row for one in read]
    since = read_position(sent.cursor or sent.since or "")
    pushed: list[Pushed] = []
    met: Histories = {}
    until: datetime | None = None
    if rows:
        inserted = sum(row.op == "insert" for row in rows)
        grows = any(row.op != "delete" for row in rows)
        share = PushSize(rows=len(rows), bytes=size, records=inserted, grows=grows)
        await owners.shares.take(caller.user, share)
        pushed, met, until = await owners.sync.push(
            caller.user, caller.spaces, app, since, client=client, rows=rows
        )
    history = sum(len(known) for known in met.values() if known is not None)
    judged = await _aside(
        size + history * ROW_BYTES,
        lambda: verdicts(read, pushed, met, author=caller.user, client=client),
    )
    hub = owners.sync_hub
    hub.metrics.inc("sync_changes_pushed_total", n=sum(done.is_new for done in pushed))
    hub.metrics.inc("sync_conflicts_total", n=sum(len(one.conflicts) for one in judged))
    hub.look_now()
    page = await owners.sync.page(
        caller.user, caller.spaces, app, since, client=client, rows=PUSH_ROWS, until=until
    )
    owners.sync.crash("sync_before_answer")
    return await _answer(owners, page, judged)


@refusals_told
async def get_pull(request: Request, caller: Caller, owners: Owners) -> Response:
    """What others changed in a table, or in all of the app's, page by page."""
    app = path_part(request, "app")
    given = query(request, ("collection", "since", "cursor"))
    since = given.get("cursor") or given.get("since")
    if not given.get("collection") or not since:
        raise SyncRefused(400, "missing collection or since parameter")
    page = await owners.sync.page(
        caller.user,
        caller.spaces,
        app,
        read_position(since),
        client=client_of(request, ""),
        rows=PULL_ROWS,
        table=given["collection"],
    )
    owners.sync.crash("sync_before_pull_answer")
    return await _answer(owners, page, None)


def client_of(request: Request, named: str) -> str:
    """Which of the person's devices asks; "" for one that does not say."""
    return checked_client(request.headers.get("x-client-id") or named)


def checked_client(client: str) -> str:
    """A device's name, or ""; raises BadRequest for what is none, or is one of the server's own."""
    if client in SERVER_CLIENTS:
        raise BadRequest("clientId", "is a name of the server's own")
    return checked_id("clientId", client) if client else ""


async def _answer(owners: Owners, page: FeedPage, judged: list[Verdict] | None) -> Response:
    owners.sync_hub.metrics.inc("sync_changes_sent_total", n=len(page.rows))
    size = sum(len(row.data or "") + len(row.field_meta or "") for row in page.rows)
    told = await _aside(size, lambda: [wire.told(row) for row in page.rows])
    content = Delivery(
        server_changes=told,
        conflicts=[lost for one in judged or () for lost in one.conflicts],
        synced_until=position_text(page.reached),
        has_more=page.has_more,
        server_time=format_instant(time.time_ns() // NS_PER_MS * NS_PER_MS),
        results=None if judged is None else [one.result for one in judged],
    )
    return answer(content)


async def _aside(size: int, work: Callable[[], T]) -> T:
    """What work on so many bytes gives; where it could hold up others, a thread does it."""
    return work() if size <= SMALL_BYTES else await asyncio.to_thread(work)


async def get_health(request: Request, owners: Owners | None) -> Response:
    """That devices are served, and how many listen."""
    query(request, ())
    return answer(
        {
            "status": "ok" if owners else "off",
            "service": "mana-sync",
            "timestamp": format_instant(time.time_ns() // NS_PER_MS * NS_PER_MS),
            "connections": owners.sync_hub.connections if owners else 0,
            "users": owners.sync_hub.users if owners else 0,
        }
    )
