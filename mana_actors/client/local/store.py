"""The local store: one SQLite file in which what is written here and what came is never apart.

Every method is one transaction or part of one that its caller began, so that a process may die at
any statement. One process at a time has the file.
"""

from __future__ import annotations

import errno
import fcntl
import os
import sqlite3
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec

from mana_actors.client.errors import StoreUnusable, WriteRefused
from mana_actors.client.local.kept import (
    NOTHING,
    KeptRecord,
    LocalRow,
    Overwritten,
    emptied,
    folded,
    overwritten,
    row_order,
    updated_index,
)
from mana_actors.client.local.schema import STEPS, VERSION
from mana_actors.crash import CrashPoint
from state.log.own_changes import RecordAt

_WAITING_US = 1 << 62
"""The time of rows that the server has yet to give one: after all that have one."""

LAST_STAMP = "last_stamp_ns"
"""What a store remembers of its clock: no stamp of it was later."""
US_PER_DAY = 86_400_000_000

MOST_PURGED_BYTES = 4 * 1024 * 1024
"""Of one record at a time; the row that goes beyond still goes."""
MOST_PAGES_GIVEN_BACK = 1000
MOST_CONFLICTS = 100
MOST_PUSH_ROWS = 5000
MOST_PUSH_BYTES = 9 * 1024 * 1024
"""Of one transaction: a push is taken whole, and a server takes 5,000 changes or 10 MiB."""


class ReadSoFar(msgspec.Struct, frozen=True):
    """How far an app was read: texts for the server to go on from."""

    since: str = ""
    cursor: str = ""
    is_whole: bool = False
    anew: str | None = None  # how far it is read a second time, None where it is not


class WaitingRow(msgspec.Struct, frozen=True):
    """A row to push, and the transaction it was written in."""

    push: int
    row: LocalRow
    problem: str | None = None
    not_after_ms: int | None = None


class NotedConflict(msgspec.Struct, frozen=True):
    """A value that was overwritten; `noted_at` is in ms since the epoch."""

    seq: int
    noted_at: int
    app: str
    what: Overwritten


class Taken(msgspec.Struct, frozen=True):
    """What a transaction changed for whoever looks: records, and own values overwritten."""

    records: list[RecordAt]
    conflicts: list[tuple[str, Overwritten]]


class Arrival(msgspec.Struct, frozen=True):
    """What came from the server, and how far that reaches; not `is_last`: there is more."""

    rows: Sequence[LocalRow]
    since: str
    cursor: str
    is_last: bool


class HistoryBounds(msgspec.Struct, frozen=True):
    """How long rows of the log are kept beside the records that they make.

    `days`, or, where all rows take more than `bytes`, `least_days`. A row that comes later than
    that has its app read anew.
    """

    days: float = 30.0
    least_days: float = 1.0
    bytes: int = 64 * 1024 * 1024


USUAL_HISTORY = HistoryBounds()


class LocalStore:
    """The file at `path`, made where there is none; raises StoreUnusable."""

    def __init__(self, path: Path, reached: CrashPoint) -> None:
        self.path, self._reached = path, reached
        self._lock = _locked(path)
        try:
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
            self._write = _connection(path)
            self._prepare()
            self._read = _connection(path)
            self._read.execute("PRAGMA query_only = 1")
        except (OSError, sqlite3.Error) as exc:
            os.close(self._lock)
            raise _unusable(path, exc) from exc
        except StoreUnusable:
            os.close(self._lock)
            raise
        self._touched: dict[RecordAt, None] = {}
        self._conflicts: list[tuple[str, Overwritten]] = []
        self._push = self._push_rows = self._push_bytes = 0

    def close(self) -> None:
        """Let another process have the file."""
        self._read.close()
        self._write.close()
        os.close(self._lock)

    # --- transactions ---------------------------------------------------------------------------

    def begin(self) -> None:
        """What follows is kept together, or not at all; what waits of it is one push."""
        self._touched, self._conflicts = {}, []
        self._push_rows = self._push_bytes = 0
        self._write.execute("BEGIN IMMEDIATE")
        (last,) = self._write.execute(
            "SELECT seq FROM sqlite_sequence WHERE name = 'pending' UNION ALL SELECT 0 LIMIT 1"
        ).fetchone()
        self._push = last + 1

    def commit(self) -> Taken:
        """Keep it."""
        self._reached("before_local_commit")
        self._write.execute("COMMIT")
        self._reached("after_local_commit")
        return Taken(list(self._touched), self._conflicts)

    @property
    def in_transaction(self) -> bool:
        """Whether one is open; SQLite may give one up where there is no room."""
        return self._write.in_transaction

    def rollback(self) -> None:
        """Forget it."""
        if self._write.in_transaction:
            self._write.execute("ROLLBACK")

    @contextmanager
    def part(self) -> Generator[None]:
        """A part of a transaction that is kept whole or not at all."""
        self._write.execute("SAVEPOINT part")
        try:
            yield
        except BaseException:
            if self._write.in_transaction:
                self._write.execute("ROLLBACK TO part")
                self._write.execute("RELEASE part")
            raise
        self._write.execute("RELEASE part")

    # --- what is about the store ------------------------------------------------------------------

    def about(self, name: str) -> str | None:
        """A fact of the store."""
        row = self._read.execute("SELECT value FROM about WHERE name = ?", (name,)).fetchone()
        return None if row is None else row[0]

    def note(self, name: str, value: str) -> None:
        """Keep a fact of the store."""
        self._write.execute(
            "INSERT INTO about VALUES (?, ?)"
            " ON CONFLICT (name) DO UPDATE SET value = excluded.value",
            (name, value),
        )

    def keep_facts(self, facts: Mapping[str, str]) -> None:
        """Keep those that differ, in a transaction of their own; raises StoreUnusable."""
        new = {name: value for name, value in facts.items() if self.about(name) != value}
        if not new:
            return
        try:
            self.begin()
            for name, value in new.items():
                self.note(name, value)
            self.commit()
        except sqlite3.Error as exc:
            self.rollback()
            raise _unusable(self.path, exc) from exc

    def apps(self) -> list[str]:
        """Apps that were read or have something to push."""
        rows = self._read.execute(
            "SELECT app FROM app UNION SELECT app FROM pending WHERE problem IS NULL ORDER BY app"
        )
        return [app for (app,) in rows]

    def known(self, app: str) -> ReadSoFar:
        """How far an app was read."""
        row = self._write.execute(
            "SELECT since, cursor, is_whole, anew FROM app WHERE app = ?", (app,)
        ).fetchone()
        if row is None:
            return ReadSoFar()
        return ReadSoFar(row[0], row[1], bool(row[2]), row[3])

    # --- reading --------------------------------------------------------------------------------

    def shown(self, at: RecordAt, *, inside: bool = False) -> KeptRecord | None:
        """The record with what waits; `inside` a transaction also what that wrote so far."""
        row = (
            (self._write if inside else self._read)
            .execute(
                "SELECT shown FROM record WHERE app = ? AND tbl = ? AND record = ?",
                (at.app, at.table, at.id),
            )
            .fetchone()
        )
        return None if row is None else _record(row[0])

    def shown_all(
        self, app: str, table: str, *, since_ms: int = -1, inside: bool = False
    ) -> list[tuple[str, KeptRecord]]:
        """Records of a table that are not gone, the ones changed longest ago first."""
        rows = (self._write if inside else self._read).execute(
            "SELECT record, shown FROM record WHERE app = ? AND tbl = ? AND NOT is_hidden"
            " AND updated_at > ? ORDER BY updated_at, record",
            (app, table, since_ms),
        )
        return [(record, _record(shown)) for record, shown in rows]

    def counts(self) -> list[tuple[str, str, int, int]]:
        """(app, table, records, how many of them are gone)."""
        return self._read.execute(
            "SELECT app, tbl, count(*), sum(is_hidden) FROM record GROUP BY 1, 2 ORDER BY 1, 2"
        ).fetchall()

    # --- writing --------------------------------------------------------------------------------

    def add(self, at: RecordAt, rows: Sequence[LocalRow]) -> None:
        """Rows that wait to be pushed, shown from now on.

        Raises WriteRefused where the transaction is larger than a server takes at once.
        """
        for row in rows:
            body = msgspec.json.encode(row)
            count, size = self._push_rows + 1, self._push_bytes + len(body)
            if count > MOST_PUSH_ROWS or size > MOST_PUSH_BYTES:
                most = f"{MOST_PUSH_ROWS} changes or {MOST_PUSH_BYTES} bytes"
                raise WriteRefused("transaction", f"holds over {most}")
            self._push_rows, self._push_bytes = count, size
            self._write.execute(
                "INSERT INTO pending (push, id, app, tbl, record, size, body)"
                " VALUES (?, ?, ?, ?, ?, ?, ?)",
                (self._push, row.id, row.app, row.table, row.record, len(body), body),
            )
        before = self.shown(at, inside=True) or NOTHING
        waiting = [msgspec.structs.replace(row, created_us=_WAITING_US) for row in rows]
        self._show(at, folded(before, waiting))

    def next_push(
        self, app: str, *, most_rows: int, most_bytes: int, now_ms: int = 0
    ) -> list[WaitingRow]:
        """The next rows to push: whole transactions, in their order, at least one of them.

        What is held back by `now_ms` is left out.
        """
        found: list[WaitingRow] = []
        size = 0
        rows = self._write.execute(
            "SELECT push, size, body FROM pending WHERE app = ? AND problem IS NULL"
            " AND (not_after_ms IS NULL OR not_after_ms > ?) ORDER BY seq",
            (app, now_ms),
        )
        for push, more, body in rows:
            is_another = bool(found) and push != found[-1].push
            if is_another and (len(found) >= most_rows or size + more > most_bytes):
                break
            found.append(WaitingRow(push, msgspec.json.decode(body, type=LocalRow)))
            size += more
        # The last transaction may have been begun within the bounds and go beyond them.
        pushes = list(dict.fromkeys(one.push for one in found))
        if len(pushes) > 1 and (len(found) > most_rows or size > most_bytes):
            found = [one for one in found if one.push != pushes[-1]]
        return found

    def waiting(self, app: str | None = None) -> list[WaitingRow]:
        """All that was not taken by the server, refused ones with their `problem`."""
        rows = self._read.execute(
            "SELECT push, body, problem FROM pending WHERE ?1 IS NULL OR app = ?1 ORDER BY seq",
            (app,),
        )
        return [WaitingRow(p, msgspec.json.decode(b, type=LocalRow), why) for p, b, why in rows]

    def waiting_of(self, change_ids: Sequence[str]) -> list[WaitingRow]:
        """Those of these changes that were not taken by the server."""
        found: list[WaitingRow] = []
        for id_ in change_ids:
            rows = self._read.execute(
                "SELECT push, body, problem, not_after_ms FROM pending WHERE id = ?", (id_,)
            )
            found += [
                WaitingRow(push, msgspec.json.decode(body, type=LocalRow), problem, held)
                for push, body, problem, held in rows
            ]
        return found

    def hold(self, change_ids: Sequence[str], not_after_ms: int) -> None:
        """Hold these changes back from a time on, until they are held anew or dropped."""
        self._write.executemany(
            "UPDATE pending SET not_after_ms = ? WHERE id = ?",
            [(not_after_ms, id_) for id_ in change_ids],
        )

    def drop_waiting(self, change_ids: Sequence[str]) -> None:
        """These changes are never pushed, and no longer shown."""
        for id_ in change_ids:
            row = self._write.execute(
                "DELETE FROM pending WHERE id = ? RETURNING app, tbl, record", (id_,)
            ).fetchone()
            if row is not None:
                at = RecordAt(*row)
                self._show(at, self._with_waiting(at, self._base(at)))

    def has_row(self, change_id: str, *, inside: bool = False) -> bool:
        """Whether the log has this change, as far as it has come here."""
        rows = (self._write if inside else self._read).execute(
            "SELECT 1 FROM change WHERE id = ?", (change_id,)
        )
        return rows.fetchone() is not None

    def refuse(self, push: int, app: str, problem: str) -> None:
        """The server will never take a transaction: its values are no longer shown."""
        rows = self._write.execute(
            "SELECT DISTINCT app, tbl, record FROM pending WHERE push = ? AND app = ?", (push, app)
        ).fetchall()
        self._write.execute(
            "UPDATE pending SET problem = ? WHERE push = ? AND app = ?", (problem, push, app)
        )
        for at in (RecordAt(*row) for row in rows):
            self._show(at, self._with_waiting(at, self._base(at)))

    def retry(self) -> None:
        """Have what was refused pushed once more."""
        rows = self._write.execute(
            "SELECT DISTINCT app, tbl, record FROM pending WHERE problem IS NOT NULL"
        ).fetchall()
        self._write.execute("UPDATE pending SET problem = NULL WHERE problem IS NOT NULL")
        for at in (RecordAt(*row) for row in rows):
            self._show(at, self._with_waiting(at, self._base(at)))

    # --- what comes from the server -------------------------------------------------------------

    def settle(self, rows: Sequence[LocalRow]) -> None:
        """Pushed rows are the log's now, with the stamps and times that the server gave them."""
        for row in rows:
            self._write.execute("DELETE FROM pending WHERE id = ?", (row.id,))
            self._keep(row)

    def arrive(self, app: str, came: Arrival) -> None:
        """Rows of an app, kept; they are shown once the last of them is here.

        Where one comes that would have to be merged with rows that are no longer here, none is
        shown before the app was read anew (`known(app).anew`, `arrive_anew`).
        """
        self._take(came.rows)
        before = self.known(app)
        self._write.execute(
            "INSERT INTO app (app, since, cursor, is_whole) VALUES (?, ?, ?, ?)"
            " ON CONFLICT (app) DO UPDATE SET since = excluded.since, cursor = excluded.cursor,"
            " is_whole = excluded.is_whole",
            (
                app,
                max(came.since, before.since),  # a stream may be behind
                came.cursor,
                before.is_whole or came.is_last,
            ),
        )
        if not came.is_last or before.anew is not None:
            return
        if self._is_behind_floor(app):
            self._write.execute("UPDATE app SET anew = '' WHERE app = ?", (app,))
            return
        self._fold(app, notify=before.is_whole)

    def _take(self, rows: Sequence[LocalRow]) -> None:
        for row in rows:
            mine = self._write.execute("DELETE FROM pending WHERE id = ?", (row.id,)).rowcount > 0
            self._keep(msgspec.structs.replace(row, mine=mine) if mine else row)
        self._reached("while_applying")

    def _keep(self, row: LocalRow) -> None:
        self._write.execute(
            "INSERT INTO change VALUES (?, ?, ?, ?, ?, 0, ?) ON CONFLICT (id) DO NOTHING",
            (
                row.id,
                row.app,
                row.table,
                row.record,
                row.created_us,
                msgspec.json.encode(row),
            ),
        )

    def _fold(self, app: str, *, notify: bool) -> None:
        """Show all rows that are here."""
        records = self._write.execute(
            "SELECT DISTINCT app, tbl, record FROM change WHERE app = ? AND NOT is_folded", (app,)
        ).fetchall()
        for at in (RecordAt(*row) for row in records):
            before, base = self.shown(at, inside=True) or NOTHING, self._base(at)
            newest = base.snapshot.newest_at, base.snapshot.newest_id
            new = self._rows(at, only_new=True)
            if any(row_order(row) <= newest for row in new):  # late: what it changes is not known
                base, new = self._floor(at), self._rows(at, only_new=False)
            base = folded(base, new)
            after = self._with_waiting(at, base)
            if notify:
                found = overwritten(at.table, at.id, before, after)
                self._conflicts += [(app, one) for one in found]
            self._show(at, after, base)
        self._write.execute(
            "UPDATE change SET is_folded = 1 WHERE app = ? AND NOT is_folded", (app,)
        )

    def _rows(self, at: RecordAt, *, only_new: bool) -> list[LocalRow]:
        rows = self._write.execute(
            "SELECT body FROM change WHERE app = ? AND tbl = ? AND record = ?"
            " AND is_folded <= ? ORDER BY created_us, id",
            (at.app, at.table, at.id, not only_new),
        )
        return [msgspec.json.decode(body, type=LocalRow) for (body,) in rows]

    def _base(self, at: RecordAt) -> KeptRecord:
        row = self._write.execute(
            "SELECT coalesce(base, floor) FROM record WHERE app = ? AND tbl = ? AND record = ?",
            (at.app, at.table, at.id),
        ).fetchone()
        return NOTHING if row is None or row[0] is None else _record(row[0])

    def _floor(self, at: RecordAt) -> KeptRecord:
        row = self._write.execute(
            "SELECT floor FROM record WHERE app = ? AND tbl = ? AND record = ?",
            (at.app, at.table, at.id),
        ).fetchone()
        return NOTHING if row is None or row[0] is None else _record(row[0])

    def _with_waiting(self, at: RecordAt, base: KeptRecord) -> KeptRecord:
        rows = self._write.execute(
            "SELECT body FROM pending WHERE app = ? AND tbl = ? AND record = ?"
            " AND problem IS NULL ORDER BY seq",
            (at.app, at.table, at.id),
        )
        waiting = [msgspec.json.decode(body, type=LocalRow) for (body,) in rows]
        late = [msgspec.structs.replace(row, created_us=_WAITING_US) for row in waiting]
        return folded(base, late) if late else base

    def _show(self, at: RecordAt, shown: KeptRecord, base: KeptRecord | None = None) -> None:
        self._touched[at] = None
        self._write.execute(
            "INSERT INTO record (app, tbl, record, base, shown, is_hidden, updated_at)"
            " VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)"
            " ON CONFLICT (app, tbl, record) DO UPDATE SET base = coalesce(?4, base),"
            " shown = ?5, is_hidden = ?6, updated_at = ?7",
            (
                at.app,
                at.table,
                at.id,
                None if base is None else msgspec.json.encode(base),
                msgspec.json.encode(shown),
                shown.is_hidden,
                updated_index(shown),
            ),
        )

    # --- rows that are no longer kept -------------------------------------------------------------

    def kept_bytes(self) -> int:
        """What the rows of the log that are here take."""
        (size,) = self._write.execute("SELECT bytes FROM kept").fetchone()
        return size

    def purge(self, app: str, *, now_us: int, most_rows: int, bounds: HistoryBounds) -> int:
        """Let an app's oldest rows go, as far as they are beyond the bounds; how many went.

        What they made of a record stays. Of one that is gone since then, only that it is: when its
        fields were written, and no values.
        """
        (rests,) = self._write.execute(
            "SELECT coalesce(max(anew IS NOT NULL OR purge_from_us > ?), 0) FROM app WHERE app = ?",
            (now_us, app),
        ).fetchone()
        if rests:
            return 0
        days = bounds.least_days if self.kept_bytes() > bounds.bytes else bounds.days
        before_us = now_us - int(days * US_PER_DAY)
        oldest = self._write.execute(
            "SELECT DISTINCT tbl, record FROM (SELECT tbl, record FROM change"
            " WHERE app = ? AND is_folded AND created_us < ? ORDER BY created_us LIMIT ?)",
            (app, before_us, most_rows),
        ).fetchall()
        went = 0
        for table, record in oldest:
            if went >= most_rows:
                break
            went += self._purge_record(RecordAt(app, table, record), before_us, most_rows - went)
        self._reached("while_purging")
        return went

    def _purge_record(self, at: RecordAt, before_us: int, most_rows: int) -> int:
        rows = self._write.execute(
            "SELECT created_us, is_folded, body FROM change"
            " WHERE app = ? AND tbl = ? AND record = ? ORDER BY created_us, id",
            (at.app, at.table, at.id),
        )
        old: list[LocalRow] = []
        size, is_all = 0, True
        for created_us, is_folded, body in rows:
            is_enough = len(old) >= most_rows or size > MOST_PURGED_BYTES
            if created_us >= before_us or not is_folded or is_enough:
                is_all = False
                break
            old.append(msgspec.json.decode(body, type=LocalRow))
            size += len(body)
        rows.close()
        if not old:
            return 0
        floor = self._base(at) if is_all else folded(self._floor(at), old)
        up_to_us, up_to_id = row_order(old[-1])
        waits = self._write.execute(
            "SELECT 1 FROM pending WHERE app = ? AND tbl = ? AND record = ?",
            (at.app, at.table, at.id),
        ).fetchone()
        if is_all and floor.is_hidden and waits is None:
            floor, up_to_us = emptied(floor), _WAITING_US
            self._show(at, floor)
        self._write.execute(
            "UPDATE record SET base = CASE WHEN ?4 THEN NULL ELSE base END,"
            " floor = ?5, floor_us = ?6, floor_id = ?7"
            " WHERE app = ?1 AND tbl = ?2 AND record = ?3",
            (at.app, at.table, at.id, is_all, msgspec.json.encode(floor), up_to_us, up_to_id),
        )
        self._write.executemany("DELETE FROM change WHERE id = ?", [(row.id,) for row in old])
        return len(old)

    def _is_behind_floor(self, app: str) -> bool:
        """Whether a row that is to be shown is no later than some that went."""
        (is_behind,) = self._write.execute(
            "SELECT EXISTS (SELECT 1 FROM behind_floor WHERE app = ?)", (app,)
        ).fetchone()
        return bool(is_behind)

    def arrive_anew(self, app: str, came: Arrival, *, purge_from_us: int) -> None:
        """Rows of an app that is read a second time, from its beginning, own ones too.

        With the last, all is shown as the rows alone make it; a record none of whose older rows
        came is no longer this person's to read, and stays as it was.
        """
        self._take(came.rows)
        if not came.is_last:
            self._write.execute("UPDATE app SET anew = ? WHERE app = ?", (came.since, app))
            return
        self._write.execute(
            "UPDATE record SET floor = NULL, floor_us = NULL, floor_id = NULL WHERE app = ?1"
            " AND (tbl, record) IN (SELECT tbl, record FROM behind_floor WHERE app = ?1)",
            (app,),
        )
        self._write.execute(
            "UPDATE app SET anew = NULL, purge_from_us = ? WHERE app = ?", (purge_from_us, app)
        )
        self._fold(app, notify=self.known(app).is_whole)

    def give_back(self) -> None:
        """Give pages that rows took back to the disk, some at a time; outside a transaction."""
        # As a script: a statement without columns ends after its first page otherwise.
        self._write.executescript(f"PRAGMA incremental_vacuum({MOST_PAGES_GIVEN_BACK})")

    # --- errands --------------------------------------------------------------------------------

    def errands(self, kind: str, *, inside: bool = False) -> list[tuple[str, bytes]]:
        """What is to be done of a kind, by id."""
        return (
            (self._write if inside else self._read)
            .execute("SELECT id, body FROM errand WHERE kind = ? ORDER BY id", (kind,))
            .fetchall()
        )

    def keep_errand(self, kind: str, id_: str, body: bytes, was: bytes | None = None) -> None:
        """It is to be done; only in place of `was`, if that is given."""
        if was is None:
            self._write.execute(
                "INSERT INTO errand VALUES (?, ?, ?)"
                " ON CONFLICT (kind, id) DO UPDATE SET body = excluded.body",
                (kind, id_, body),
            )
        else:
            self._write.execute(
                "UPDATE errand SET body = ? WHERE kind = ? AND id = ? AND body = ?",
                (body, kind, id_, was),
            )

    def drop_errand(self, kind: str, id_: str, was: bytes | None = None) -> None:
        """It is done, or given up; only if it still is `was`, if that is given."""
        self._write.execute(
            "DELETE FROM errand WHERE kind = ?1 AND id = ?2 AND (?3 IS NULL OR body = ?3)",
            (kind, id_, was),
        )

    # --- conflicts ------------------------------------------------------------------------------

    def note_conflicts(self, now_ms: int) -> None:
        """Keep what this transaction overwrote; the oldest are forgotten."""
        if not self._conflicts:
            return
        for app, one in self._conflicts:
            self._write.execute(
                "INSERT INTO conflict (noted_at, app, body) VALUES (?, ?, ?)",
                (now_ms, app, msgspec.json.encode(one)),
            )
        self._write.execute(
            "DELETE FROM conflict WHERE seq <= (SELECT max(seq) FROM conflict) - ?",
            (MOST_CONFLICTS,),
        )

    def conflicts(self, since_ms: int = 0) -> list[NotedConflict]:
        """What was overwritten, the newest last."""
        rows = self._read.execute(
            "SELECT seq, noted_at, app, body FROM conflict WHERE noted_at >= ? ORDER BY seq",
            (since_ms,),
        )
        return [
            NotedConflict(seq, noted, app, msgspec.json.decode(body, type=Overwritten))
            for seq, noted, app, body in rows
        ]

    def forget_conflict(self, seq: int) -> None:
        """It was looked at."""
        self._write.execute("DELETE FROM conflict WHERE seq = ?", (seq,))

    # --- the file -------------------------------------------------------------------------------

    def _prepare(self) -> None:
        (gives_back,) = self._write.execute("PRAGMA auto_vacuum").fetchone()
        self._write.execute("PRAGMA auto_vacuum = INCREMENTAL")
        self._write.execute("PRAGMA journal_mode = WAL")
        self._write.execute("PRAGMA synchronous = FULL")
        (version,) = self._write.execute("PRAGMA user_version").fetchone()
        if version > VERSION:
            problem = f"was made by a newer mana (version {version} of its tables)"
            raise StoreUnusable(str(self.path), problem, "use that one")
        for step in range(version, VERSION):
            self._write.executescript(
                f"BEGIN IMMEDIATE;{STEPS[step]}PRAGMA user_version = {step + 1};COMMIT"
            )
        if version and not gives_back:  # made before pages were given back
            with suppress(sqlite3.OperationalError):  # no room for it now: the next time
                self._write.execute("VACUUM")


def is_disk(exc: Exception) -> bool:
    """Whether the disk is why: it has no room, or cannot be read or written."""
    if isinstance(exc, sqlite3.Error):
        code = getattr(exc, "sqlite_errorcode", 0) & 0xFF  # the rest says of which call
        return code in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR)
    return isinstance(exc, OSError) and exc.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO)


def _unusable(path: Path, exc: Exception) -> StoreUnusable:
    if is_disk(exc):
        return StoreUnusable(str(path), "cannot be read or written", "see whether the disk is full")
    problem = f"cannot be opened ({type(exc).__name__})"
    return StoreUnusable(str(path), problem, "see whether it is a store of ours")


def _locked(path: Path) -> int:
    """A lock that ends with this process, however it ends."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(path.with_name(path.name + ".lock"), os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as exc:
        problem = f"cannot be made ({exc.strerror})"
        raise StoreUnusable(str(path), problem, "choose another place") from exc
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        problem = "is in use by another process or client"
        raise StoreUnusable(str(path), problem, "close that one, or choose another file") from None
    return lock


def _connection(path: Path) -> sqlite3.Connection:
    # A thread has one of them at a time, which the client sees to.
    return sqlite3.connect(path, isolation_level=None, check_same_thread=False)


def _record(body: bytes) -> KeptRecord:
    return msgspec.json.decode(body, type=KeptRecord)
