"""Rounds with a server: what waits goes, what is new comes, and each is kept in one transaction."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Sequence

import msgspec

from mana_actors.client.errors import ServerAway, ServerRefused
from mana_actors.client.local.clock import StampClock
from mana_actors.client.local.kept import LocalRow
from mana_actors.client.local.store import (
    LAST_STAMP,
    US_PER_DAY,
    Arrival,
    HistoryBounds,
    LocalStore,
    WaitingRow,
)
from mana_actors.client.local.turns import StoreTurns
from mana_actors.client.server import wire
from mana_actors.client.server.remote import PushRefused, Remote
from mana_actors.client.server.wire import PushAnswer, PushAnswerUnreadable
from mana_actors.crash import CrashPoint
from mana_actors.http.paths import path_of, segment
from state.log.stamps import NS_PER_MS, NS_PER_US, format_instant

MOST_ROWS = 200
MOST_BYTES = 4 * 1024 * 1024
PURGED_AT_ONCE = 500


class Exchange:
    """Brings a store and a server together, one app at a time."""

    def __init__(
        self,
        turns: StoreTurns,
        remote: Remote,
        clock: StampClock,
        *,
        client_id: str,
        bounds: HistoryBounds,
        reached: CrashPoint,
    ) -> None:
        self._turns, self._remote, self._clock, self._bounds = turns, remote, clock, bounds
        self._client_id, self._reached = client_id, reached
        self._under_way: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._arrived_us = 0

    async def sync(self, app: str) -> None:
        """Push what waits and read what is new, until there is no more.

        Raises ServerAway, SyncInactive, NotSignedIn and ServerRefused; what waits goes on waiting.
        """
        async with self._under_way[app]:
            most_rows, came = MOST_ROWS, 0
            while True:
                known, waiting = await self._turns.looked(
                    lambda store, most=most_rows: (
                        store.known(app),
                        self._next_push(store, app, most, MOST_BYTES),
                    )
                )
                rows = [one.row for one in waiting]
                body = wire.push_body(app, self._client_id, known.since, known.cursor, rows)
                self._reached("before_push")
                try:
                    answer = await self._asked(app, body)
                except PushRefused as exc:
                    if not waiting:
                        raise ServerRefused(exc.status, exc.text) from exc
                    most_rows = await self._put_aside(app, waiting, exc)
                    continue
                self._reached("after_push_before_settled")
                settled = await self._settled(app, rows, answer)
                await self._keep(app, settled, answer)
                came += len(settled) + len(answer.rows)
                if not answer.has_more and not await self._turns.looked(
                    lambda store: self._next_push(store, app, 1, 1)
                ):
                    break
            await self._read_anew(app)
            if answer.server_ns is not None:  # else its rows may come again with other times
                await self._purge(app, PURGED_AT_ONCE + 2 * came)

    async def follow(self, app: str, opened: Callable[[], None]) -> None:
        """Show what others write as it comes, until the server ends the stream.

        `opened` is called at the first sign of it. Raises as `sync` does.
        """
        known = await self._turns.looked(lambda store: store.known(app))
        path = f"{path_of('/sync', app)}/stream?since={segment(known.since or wire.EPOCH)}"
        rows: list[LocalRow] = []
        async for event in self._remote.events(path, self._client_id):
            opened()
            if event.kind != "changes":
                continue
            try:
                found, has_more = wire.read_event(app, event.data, self._arrived_us)
            except PushAnswerUnreadable as exc:
                raise ServerAway("not a stream of a sync service") from exc
            rows += found
            if event.id:  # the last of a page, up to which everything was told
                arrival = Arrival(rows, event.id, "", not has_more)
                async with self._under_way[app]:
                    await self._turns.written(
                        lambda store, arrival=arrival: store.arrive(app, arrival), is_own=False
                    )
                    after = await self._turns.looked(lambda store: store.known(app))
                if after.anew is not None:
                    return  # `sync` does that, and is rung for where a stream ends
                rows = []

    def _next_push(
        self, store: LocalStore, app: str, most_rows: int, most_bytes: int
    ) -> list[WaitingRow]:
        now_ms = self._clock.now() // NS_PER_MS
        return store.next_push(app, most_rows=most_rows, most_bytes=most_bytes, now_ms=now_ms)

    async def _asked(self, app: str, body: bytes) -> PushAnswer:
        asked_ns = self._clock.wall_ns()
        answered = await self._remote.asked("POST", path_of("/sync", app), body)
        answered_ns = self._clock.wall_ns()
        # Where the server says no time of its rows, they are as old as their arrival.
        self._arrived_us = max(answered_ns // NS_PER_US, self._arrived_us)
        try:
            answer = await asyncio.to_thread(
                wire.read_answer, app, answered.content, self._arrived_us + MOST_ROWS
            )
        except PushAnswerUnreadable as exc:
            raise ServerAway("not an answer of a sync service") from exc
        if answer.server_ns is not None:
            self._clock.heard(answer.server_ns, asked_ns, answered_ns)
        return answer

    async def _settled(
        self, app: str, rows: Sequence[LocalRow], answer: PushAnswer
    ) -> list[LocalRow]:
        """What was pushed, as the log has it."""
        twice = [row for row in rows if answer.outcome(row).status == "duplicate"]
        kept = await self._as_kept(app, twice, answer) if twice else {}
        settled = [
            kept.get(row.id) or wire.settled(row, answer.outcome(row), self._arrived_us + n)
            for n, row in enumerate(rows)
        ]
        self._arrived_us += len(rows) + MOST_ROWS + len(answer.rows)
        return settled

    async def _as_kept(
        self, app: str, rows: Sequence[LocalRow], answer: PushAnswer
    ) -> dict[str, LocalRow]:
        """Rows that the server took before, when its answer was lost: by id, as the log has them.

        Only that answer said which stamps it took back to its own clock.
        """
        times = [us for row in rows if (us := answer.outcome(row).created_us) is not None]
        since = format_instant((min(times) - 1) * NS_PER_US) if times else ""
        found: dict[str, LocalRow] = {}
        while since:
            # As no client: one is not sent its own rows.
            page = await self._asked(app, wire.push_body(app, "", since, "", []))
            by_id = {row.id: row for row in page.rows}
            found |= {
                row.id: msgspec.structs.replace(by_id[row.id], mine=True)
                for row in rows
                if row.id in by_id
            }
            since = page.since if page.has_more and len(found) < len(rows) else ""
        return found

    async def _keep(self, app: str, settled: Sequence[LocalRow], answer: PushAnswer) -> None:
        arrival = Arrival(answer.rows, answer.since, answer.cursor, not answer.has_more)

        def work(store: LocalStore) -> None:
            store.settle(settled)
            store.arrive(app, arrival)
            store.note("clock_offset_ns", str(self._clock.offset_ns))
            store.note(LAST_STAMP, str(self._clock.last_ns))

        await self._turns.written(work, is_own=False)

    async def _read_anew(self, app: str) -> None:
        """Read all of an app where older rows than those that are still here are needed."""
        while True:
            known = await self._turns.looked(lambda store: store.known(app))
            if known.anew is None:
                return
            # As no client: one is not sent its own rows.
            page = await self._asked(app, wire.push_body(app, "", known.anew, "", []))
            arrival = Arrival(page.rows, page.since, "", not page.has_more)
            rests_until_us = self._now_us() + int(self._bounds.least_days * US_PER_DAY)
            await self._turns.written(
                lambda store, arrival=arrival, until_us=rests_until_us: store.arrive_anew(
                    app, arrival, purge_from_us=until_us
                ),
                is_own=False,
            )

    async def _purge(self, app: str, most_rows: int) -> None:
        """Let old rows go, a few in each transaction."""
        while most_rows > 0:
            some = min(most_rows, PURGED_AT_ONCE)
            went = await self._turns.written(
                lambda store, some=some: store.purge(
                    app, now_us=self._now_us(), most_rows=some, bounds=self._bounds
                ),
                is_own=False,
            )
            if not went:
                return
            most_rows -= went
            await self._turns.looked(lambda store: store.give_back())

    def _now_us(self) -> int:
        return self._clock.now() // NS_PER_US

    async def _put_aside(self, app: str, waiting: Sequence[WaitingRow], exc: PushRefused) -> int:
        """Put aside the transaction that the server did not like; how many rows to push next.

        Where it does not say which one, they go one at a time until it is found.
        """
        at = exc.change
        if at is not None and 0 <= at < len(waiting):
            which = waiting[at].push
        elif waiting[0].push == waiting[-1].push:
            which = waiting[0].push
        else:
            return 1
        await self._turns.written(lambda store: store.refuse(which, app, exc.text), is_own=False)
        return 1 if at is None else MOST_ROWS
