"""A client: a local store that people's programs work on, kept the same as everybody else's.

What is written is kept in a file first and pushed when the server can be reached; what others
write is read, merged field by field, and shown. A transaction is pushed all or nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from collections import defaultdict
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Sequence
from contextlib import AbstractAsyncContextManager
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar, overload

import msgspec

from mana_actors.background import Background
from mana_actors.client.errors import NotSignedIn, ServerAway, StoreUnusable
from mana_actors.client.exchange import Exchange
from mana_actors.client.inbox.proposals import Proposals
from mana_actors.client.live import LiveSync
from mana_actors.client.local import writes
from mana_actors.client.local.clock import StampClock
from mana_actors.client.local.kept import NOTHING, Overwritten
from mana_actors.client.local.store import (
    LAST_STAMP,
    USUAL_HISTORY,
    HistoryBounds,
    LocalStore,
    NotedConflict,
    WaitingRow,
)
from mana_actors.client.local.turns import StoreTurns
from mana_actors.client.local.writes import Hand
from mana_actors.client.owner.sealing import OwnerKeys
from mana_actors.client.server.credentials import Credentials, FixedToken, subject_in
from mana_actors.client.server.remote import Remote
from mana_actors.client.table import Made, Table, TypedTable
from mana_actors.client.table_names import TableName, TypedTableName, table_named
from mana_actors.crash import CrashPoint
from mana_actors.json_values import as_object, as_text
from mana_actors.trust import trust_for
from state.log.own_changes import RecordAt, personal_space
from state.log.principals import Actor, user_actor

if TYPE_CHECKING:
    import httpx2

ME = "/api/v1/me"
CONFLICT_LIFE_S = 30.0
MOST_CONFLICTS_SHOWN = 8

R = TypeVar("R")
T = TypeVar("T", bound=msgspec.Struct)


class AppStatus(msgspec.Struct, frozen=True):
    """How one app stands: what waits, what the server refused, and why it is not in sync."""

    app: str
    waiting: int
    refused: int
    is_whole: bool  # all of it was read at least once
    problem: str | None = None


ChangeIds = Callable[[RecordAt, int], str]


class _Acting(msgspec.Struct):
    """Who writes in the block of a `run_as`, and how."""

    actor: Actor
    space: str | None = None
    change_ids: ChangeIds | None = None
    made: defaultdict[RecordAt, int] = msgspec.field(default_factory=lambda: defaultdict(int))

    def change_id(self, at: RecordAt) -> str | None:
        """The id of the next change of a record, None for any."""
        if self.change_ids is None:
            return None
        self.made[at] += 1
        return self.change_ids(at, self.made[at] - 1)


_acting: ContextVar[_Acting | None] = ContextVar("mana_client_actor", default=None)


class Client:
    """One person's records in one file, and the server that they are synced with.

    `Client.open` makes one.
    """

    def __init__(
        self,
        store: LocalStore,
        remote: Remote | None,
        *,
        user: str,
        display_name: str | None,
        wall_ns: Callable[[], int],
        bounds: HistoryBounds,
        reached: CrashPoint,
        keys: OwnerKeys | None = None,
    ) -> None:
        self.user, self.client_id = user, store.about("client_id") or ""
        offset_ns, last_ns = (
            int(store.about(name) or 0) for name in ("clock_offset_ns", LAST_STAMP)
        )
        self.clock = StampClock(offset_ns, wall_ns, last_ns)
        self.remote, self.url = remote, store.about("url")
        self._actor = user_actor(user) if display_name is None else user_actor(user, display_name)
        self._turns = StoreTurns(store)
        self._exchange = remote and Exchange(
            self._turns,
            remote,
            self.clock,
            client_id=self.client_id,
            bounds=bounds,
            reached=reached,
        )
        self._live: LiveSync | None = None
        self._background = Background()
        self.proposals = Proposals(self, remote, keys, reached)

    @classmethod
    @contextlib.asynccontextmanager
    async def open(
        cls,
        path: str | Path,
        *,
        url: str | None = None,
        token: str | Credentials | None = None,
        user: str | None = None,
        display_name: str | None = None,
        apps: Sequence[str] = (),
        live: bool = True,
        keys: OwnerKeys | None = None,
        http: httpx2.AsyncClient | None = None,
        history: HistoryBounds = USUAL_HISTORY,
        wall_ns: Callable[[], int] = time.time_ns,
        crash: CrashPoint = lambda _point: None,
    ) -> AsyncGenerator[Client]:
        """A client on the file at `path`, synced with the server at `url` as `token` lets it.

        Without `url` it is the one that the file was last opened with. `live`: kept in sync as long
        as it is open; else `sync()` does that. `apps` are read from the start, others once a table
        of theirs is asked for. Without `user` it is whose the file or the token is. `history`
        bounds what is kept beside the records. `wall_ns` is this machine's clock, which may be
        wrong. With the owner's `keys` and `live`, what waits for
        a device of theirs is carried out. Raises StoreUnusable, and where nobody can say who:
        NotSignedIn and ServerAway.
        """
        credentials = FixedToken(token) if isinstance(token, str) else token
        async with contextlib.AsyncExitStack() as closing:
            store = await asyncio.to_thread(LocalStore, Path(path), crash)
            closing.callback(store.close)
            owner, url = store.about("user"), url or store.about("url")
            remote = None
            if credentials is not None and (url is not None or http is not None):
                import httpx2  # noqa: PLC0415 - who works offline or only looks does not pay for it

                if http is None:
                    own = httpx2.AsyncClient(base_url=url or "", verify=trust_for(url or ""))
                    http = await closing.enter_async_context(own)
                remote = Remote(http, credentials)
            who = user or owner or await _who(credentials, remote)
            if owner not in (None, who):
                raise StoreUnusable(str(path), f"belongs to {owner}", "choose another file")
            facts = {} if owner else {"client_id": str(uuid.uuid4()), "user": who}
            store.keep_facts(facts | ({} if url is None else {"url": url}))
            client = cls(
                store,
                remote,
                user=who,
                display_name=display_name,
                wall_ns=wall_ns,
                bounds=history,
                reached=crash,
                keys=keys,
            )
            closing.push_async_callback(client._close)
            if live and remote is not None:
                client.start(*apps, *store.apps())
            yield client

    async def _close(self) -> None:
        await self._background.cancel()
        if self._live is not None:
            await self._live.close()
        await self._turns.close()

    # --- records --------------------------------------------------------------------------------

    @overload
    def table(self, name: TypedTableName[T]) -> TypedTable[T]: ...
    @overload
    def table(self, name: str | TableName, app: str | None = None) -> Table: ...
    def table(
        self, name: str | TableName | TypedTableName[T], app: str | None = None
    ) -> Table | TypedTable[T]:
        """A table; `app` where it is none of ours. Raises WriteRefused for one without an app."""
        if isinstance(name, TypedTableName):
            return TypedTable(self.table(name.name), name)
        named = table_named(name, app) if isinstance(name, str) else name
        if self._live is not None:
            self._live.keep(named.app)
        return Table(self, named)

    async def tables(self) -> list[TableName]:
        """Those that have a record here, by app and name."""
        return [
            TableName(app, table)
            for app, table, *_ in await self.read(lambda store, _: store.counts())
        ]

    def transaction(self) -> AbstractAsyncContextManager[None]:
        """What is written in the block is kept and pushed all or nothing, per app.

        It sees its own writes, and nothing of others while it lasts. One inside another is part of
        that. The block must not wait for `sync()`.
        """
        return self._turns.transaction()

    @contextlib.contextmanager
    def run_as(
        self, actor: Actor, *, space: str | None = None, change_ids: ChangeIds | None = None
    ) -> Generator[None]:
        """What is written in the block is signed by `actor` (see `state.log.principals`).

        New records go into `space`, this person's own without one. `change_ids` gives the id of a
        record's first, second, … change in the block where random ones will not do.
        """
        before = _acting.set(_Acting(actor, space, change_ids))
        try:
            yield
        finally:
            _acting.reset(before)

    async def read(self, work: Callable[[LocalStore, bool], R]) -> R:
        """Look into the store; in a transaction, at what that has written too."""
        return await self._turns.read(work)

    async def written(self, at: RecordAt, made: Made) -> None:
        """Write the rows that `made` returns for the record, as the one who writes now."""
        acting = _acting.get() or _Acting(self._actor)
        space = acting.space or personal_space(self.user)
        by = Hand(self.user, acting.actor, space, self.clock.now())

        def work(store: LocalStore) -> None:
            known = store.shown(at, inside=True) or NOTHING
            rows = [
                writes.signed(row, at, known, by, acting.change_id(at) or self.new_id())
                for row in made(known, by)
            ]
            if rows:
                store.add(at, rows)
                store.note(LAST_STAMP, str(self.clock.last_ns))

        await self._turns.written(work)

    async def keep(self, work: Callable[[LocalStore], None]) -> None:
        """Change what is kept beside records; in a transaction, as a part of it."""
        await self._turns.written(work, is_own=False)

    def new_id(self) -> str:
        """An id that nobody has."""
        return str(uuid.uuid4())

    def changed_in(self, app: str, table: str) -> AsyncIterator[str]:
        """Ids of the table's records as they change."""
        return self._turns.changed_in(app, table)

    # --- sync -----------------------------------------------------------------------------------

    async def sync(self, *apps: str) -> None:
        """Push what waits and read what is new, until there is no more; all apps without any.

        Raises ServerAway, SyncInactive, NotSignedIn and ServerRefused; what waits then goes on
        waiting.
        """
        if self._exchange is None:
            raise NotSignedIn(401)
        for app in apps or await self.read(lambda store, _: store.apps()):
            await self._exchange.sync(app)

    def start(self, *apps: str) -> None:
        """Keep these apps in sync from now on, and every app of which a table is asked for."""
        if self._exchange is None:
            raise NotSignedIn(401)
        if self._live is None:
            self._live = LiveSync(self._exchange)
            self._background.start(self.proposals.run())
            self._turns.on_own_write = self._live.ring
        for app in apps:
            self._live.keep(app)

    async def status(self) -> list[AppStatus]:
        """How each app stands."""
        problems = {} if self._live is None else self._live.problems

        def work(store: LocalStore) -> list[AppStatus]:
            waiting = store.waiting()
            return [
                AppStatus(
                    app,
                    sum(one.row.app == app and one.problem is None for one in waiting),
                    sum(one.row.app == app and one.problem is not None for one in waiting),
                    store.known(app).is_whole,
                    problems.get(app),
                )
                for app in store.apps()
            ]

        return await self._turns.looked(work)

    async def refused(self) -> list[WaitingRow]:
        """What the server refused, with its `problem`: kept, not shown, and not pushed again."""
        return await self.read(
            lambda store, _: [one for one in store.waiting() if one.problem is not None]
        )

    async def retry_refused(self) -> None:
        """Show and push once more what the server refused."""
        await self._turns.written(lambda store: store.retry())

    # --- conflicts ------------------------------------------------------------------------------

    def on_conflict(self, listener: Callable[[Overwritten], None]) -> None:
        """Have `listener` told of every own value that something newer replaced."""
        self._turns.on_conflict.append(listener)

    async def conflicts(
        self, *, life_s: float = CONFLICT_LIFE_S, most: int = MOST_CONFLICTS_SHOWN
    ) -> list[NotedConflict]:
        """Own values that were overwritten within the last seconds, the newest last.

        One for each field, with the value that it had first.
        """
        since_ms = int(max(time.time() - life_s, 0) * 1000)
        found = await self.read(lambda store, _: store.conflicts(since_ms))
        return found[-most:]

    async def restore(self, conflict: NotedConflict) -> None:
        """Write the old value back, as a write of now."""
        what = conflict.what
        async with self.transaction():
            await self.table(TableName(conflict.app, what.table_name)).put(
                what.record_id, {what.field: what.was_local}
            )
            await self._turns.written(lambda store: store.forget_conflict(conflict.seq))


async def _who(credentials: Credentials | None, remote: Remote | None) -> str:
    """Whose the token is: it says so itself, or the server does."""
    token = None if credentials is None else await credentials.token()
    if token is None or remote is None:
        raise NotSignedIn(401)
    if found := subject_in(token):
        return found
    answered = await remote.asked("GET", ME)
    told = as_object(msgspec.json.decode(answered.content)) or {}
    if not (user := as_text(told.get("user"))):
        raise ServerAway("it does not say who this is")
    return user
