"""`mana client`: the client library by hand, on a local store in a folder of the person's own."""
# ruff: noqa: PLC0415 - a command imports what it needs when called, so that each answers at once

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from supervisor.cli.options import AsJson, DataDir, PersonOptions, TokenFile, by_person

if TYPE_CHECKING:
    from mana_actors.client import Client, ShownRecord
    from mana_actors.client.owner.sealing import OwnerKeys

app = typer.Typer(help="A local store that works offline and is synced.", no_args_is_help=True)

Store = Annotated[
    Path | None, typer.Option(help="The store's folder; else one of yours.", metavar="DIR")
]
App = Annotated[str | None, typer.Option("--app", help="Where the table is none of ours.")]


@app.command()
@by_person
def init(*, store: Store = None, person: PersonOptions) -> None:
    """Make a local store, for the person and the gateway that the options name."""
    from supervisor.cli import output
    from supervisor.cli.own_client import ME

    at = person.client()
    me: dict[str, Any] = at.get(ME)
    folder = _folder(store)
    output.line_out(str(folder))

    async def made() -> None:
        from mana_actors.client import Client

        # Opened once, the file remembers whose it is and where it is synced.
        opened = Client.open(folder / "store.db", url=at.url, user=me["user"], live=False)
        async with opened as client:
            output.line_out(f"{client.user} at {at.url}, as client {client.client_id}")

    run_told(made)


@app.command()
def pull(
    apps: Annotated[list[str] | None, typer.Argument(help="todo, notes, …; else all.")] = None,
    *,
    store: Store = None,
    token_file: TokenFile = None,
    data_dir: DataDir = None,
) -> None:
    """Push what waits and read what is new, once."""
    _sync(store, token_file, data_dir, apps)


@app.command()
def push(*, store: Store = None, token_file: TokenFile = None, data_dir: DataDir = None) -> None:
    """The same for apps in which something waits."""
    _sync(store, token_file, data_dir, None, only_waiting=True)


@app.command()
def watch(
    table: str,
    *,
    app_name: App = None,
    store: Store = None,
    token_file: TokenFile = None,
    data_dir: DataDir = None,
) -> None:
    """Keep a table in sync, and print each change until Ctrl-C."""
    from supervisor.cli import output

    async def watched() -> None:
        async with online(store, token_file, data_dir, live=True) as client:
            followed = client.table(table, app_name)
            async for record in followed.changes():
                found = await followed.get(record)
                output.line_out(f"{record} {'deleted' if found is None else _fields(found)}")

    run_told(watched)


@app.command("list")
def list_records(
    table: Annotated[
        str | None, typer.Argument(help="tasks, notes, …; else how many of each.")
    ] = None,
    *,
    app_name: App = None,
    store: Store = None,
    as_json: AsJson = False,
) -> None:
    """Records of a table as they are here, the ones changed longest ago first."""
    from supervisor.cli import output

    async def listed() -> None:
        async with offline(store) as client:
            if table is None:
                counts = await client.read(lambda store, _: store.counts())
                rows: list[dict[str, Any]] = [
                    dict(zip(("app", "table", "records", "gone"), one, strict=True))
                    for one in counts
                ]
                names = ("app", "table", "records", "gone")
                if as_json:
                    output.json_out({"items": rows})
                else:
                    columns = [(name, output.field(name)) for name in names]
                    output.table_out(columns, rows, "nothing is here yet: mana client pull")
                return
            records = await client.table(table, app_name).list()
            if as_json:
                output.json_out({"items": [_told(record) for record in records]})
                return
            columns = [
                ("id", output.field("id")),
                ("updated", output.when("updatedAt")),
                ("fields", output.field("shown")),
            ]
            rows: list[dict[str, Any]] = [
                {**_told(record), "shown": _fields(record)} for record in records
            ]
            output.table_out(columns, rows, "no such record is here")

    run_told(listed)


@app.command()
def put(
    table: str,
    record: Annotated[str, typer.Argument(metavar="ID")],
    values: Annotated[
        list[str], typer.Argument(metavar="FIELD=VALUE…", help="JSON, else taken as text.")
    ],
    *,
    app_name: App = None,
    store: Store = None,
) -> None:
    """Make a record or change fields of it, here; the next pull, push or watch sends it."""
    import msgspec

    from supervisor.cli.failures import USAGE, Failure

    fields: dict[str, Any] = {}
    for given in values:
        name, equals, text = given.partition("=")
        if not name or not equals:
            raise Failure(f"{given}: give FIELD=VALUE", USAGE)
        try:
            fields[name] = msgspec.json.decode(text)
        except msgspec.MsgspecError:
            fields[name] = text

    async def written() -> None:
        async with offline(store) as client:
            await client.table(table, app_name).put(record, fields)

    run_told(written)


@app.command()
def delete(
    table: str,
    record: Annotated[str, typer.Argument(metavar="ID")],
    *,
    app_name: App = None,
    store: Store = None,
) -> None:
    """Delete a record, here; the next pull, push or watch sends it."""
    from supervisor.cli.failures import USAGE, Failure

    async def written() -> None:
        async with offline(store) as client:
            if await client.table(table, app_name).get(record) is None:
                raise Failure(f"there is no {record} in {table} here", USAGE)
            await client.table(table, app_name).delete(record)

    run_told(written)


@app.command()
def conflicts(
    *,
    restore: Annotated[int | None, typer.Option(help="Write this one's old value back.")] = None,
    store: Store = None,
    as_json: AsJson = False,
) -> None:
    """Values of yours that something newer replaced; the last hundred."""
    from supervisor.cli import output
    from supervisor.cli.failures import USAGE, Failure

    async def looked() -> None:
        async with offline(store) as client:
            found = await client.conflicts(life_s=time.time(), most=100)
            if restore is not None:
                chosen = [one for one in found if one.seq == restore]
                if not chosen:
                    raise Failure(f"there is no conflict {restore}", USAGE)
                await client.restore(chosen[0])
                return
            rows: list[dict[str, Any]] = [
                {
                    "number": one.seq,
                    "record": f"{one.what.table_name}/{one.what.record_id}",
                    "field": one.what.field,
                    "was": _text(one.what.was_local),
                    "is": _text(one.what.now_server),
                    "at": one.what.server_time,
                }
                for one in found
            ]
            if as_json:
                output.json_out({"items": rows})
                return
            names = ("number", "record", "field", "was", "is")
            columns = [(name, output.field(name)) for name in names]
            output.table_out(columns, rows, "nothing of yours was replaced")

    run_told(looked)


@app.command()
def status(*, store: Store = None, as_json: AsJson = False) -> None:
    """What waits to be pushed, and what the server refused."""
    from supervisor.cli import output

    async def looked() -> None:
        async with offline(store) as client:
            rows: list[dict[str, Any]] = [
                {"app": one.app, "waiting": one.waiting, "refused": one.refused}
                for one in await client.status()
            ]
            refused = await client.refused()
            if as_json:
                told = [{"record": one.row.record, "problem": one.problem} for one in refused]
                output.json_out({"user": client.user, "items": rows, "refused": told})
                return
            columns = [(name, output.field(name)) for name in ("app", "waiting", "refused")]
            output.table_out(columns, rows, "nothing is here yet: mana client pull")
            for one in refused:
                output.line_out(f"refused: {one.row.table}/{one.row.record}: {one.problem}")

    run_told(looked)


class _CommandCredentials:
    """The token that any command of a person would take; asked for anew once it is refused."""

    def __init__(self, user: str, url: str, token_file: str | None, data_dir: str | None) -> None:
        self._user, self._url = user, url
        self._token_file, self._data_dir = token_file, data_dir
        self._token: str | None = None

    async def token(self, *, refused: str | None = None) -> str | None:
        """The token."""
        if self._token is None or self._token == refused:
            self._token = await asyncio.to_thread(self._asked)
        return self._token

    def _asked(self) -> str | None:
        from mana_actors.client import ServerAway
        from supervisor.cli.failures import UNREACHABLE, Failure
        from supervisor.cli.own_client import person_client

        try:
            return person_client(
                self._user, url=self._url, data_dir=self._data_dir, token_file=self._token_file
            ).token
        except Failure as exc:
            if exc.code != UNREACHABLE:
                raise
            raise ServerAway(exc.message) from exc  # what is kept in sync goes on later


async def token_for(user: str, url: str, token_file: str | None, data_dir: str | None) -> str:
    """The token that any command of this person would take; raises NotSignedIn."""
    from mana_actors.client import NotSignedIn

    token = await _CommandCredentials(user, url, token_file, data_dir).token()
    if token is None:
        raise NotSignedIn(401)
    return token


@contextlib.asynccontextmanager
async def offline(store: Path | None) -> AsyncGenerator[Client]:
    """The store of the options, which `mana client init` made."""
    from mana_actors.client import Client

    async with Client.open(_file(store)) as client:
        yield client


@contextlib.asynccontextmanager
async def online(
    store: Path | None,
    token_file: str | None,
    data_dir: str | None,
    *,
    live: bool = False,
    keys: OwnerKeys | None = None,
) -> AsyncGenerator[Client]:
    """The same, with the gateway that it was made for."""
    from mana_actors.client import Client

    async with offline(store) as client:
        user, url = client.user, client.url or ""
    credentials = _CommandCredentials(user, url, token_file, data_dir)
    async with Client.open(_file(store), token=credentials, live=live, keys=keys) as client:
        yield client


def _sync(
    store: Path | None,
    token_file: str | None,
    data_dir: str | None,
    apps: list[str] | None,
    *,
    only_waiting: bool = False,
) -> None:
    from mana_actors.client.table_names import APPS
    from supervisor.cli import output

    async def synced() -> None:
        async with online(store, token_file, data_dir) as client:
            before = await client.status()
            wanted = apps or sorted({*APPS.values(), *(one.app for one in before)})
            if only_waiting:
                wanted = [one.app for one in before if one.waiting]
            if wanted:
                await client.sync(*wanted)
            await client.proposals.send_answers()
            counts = await client.read(lambda store, _: store.counts())
            gone = sum(one[3] for one in counts)
            output.line_out(f"{sum(one[2] for one in counts) - gone} records, {gone} deleted ones")
            for one in await client.refused():
                output.line_out(f"refused: {one.row.table}/{one.row.record}: {one.problem}")

    run_told(synced)


def run_told(work: Callable[[], Awaitable[None]]) -> None:
    """Do it, with what may go wrong told in one line."""
    from mana_actors.client import (
        NotSignedIn,
        ServerAway,
        ServerRefused,
        StoreFull,
        StoreUnusable,
        SyncInactive,
        WriteRefused,
    )
    from mana_actors.client.owner.grants import GrantRefused
    from mana_actors.clients.answers import AnswerUnreadable
    from state.sealing.values import SealingError
    from supervisor.cli.failures import FAILED, UNREACHABLE, USAGE, Failure

    async def done() -> None:
        await work()

    try:
        asyncio.run(done())
    except (ServerAway, NotSignedIn) as exc:
        raise Failure(str(exc), UNREACHABLE) from exc
    except AnswerUnreadable as exc:
        raise Failure(f"the server is away: {exc.reason}", UNREACHABLE) from exc
    except WriteRefused as exc:
        hint = " (--app NAME)" if exc.field == "app" else ""
        raise Failure(f"{exc}{hint}", USAGE) from exc
    except StoreUnusable as exc:
        raise Failure(f"{exc} (--store DIR)", FAILED) from exc
    except SealingError as exc:
        raise Failure("a record is not under this key", FAILED) from exc
    except (GrantRefused, ServerRefused, StoreFull, SyncInactive) as exc:
        raise Failure(str(exc), FAILED) from exc


def _file(store: Path | None) -> Path:
    from supervisor.cli.failures import USAGE, Failure

    path = _folder(store) / "store.db"
    if not path.exists():
        raise Failure(f"there is no local store in {path.parent}: mana client init", USAGE)
    return path


def _folder(given: Path | None) -> Path:
    if given is not None:
        return given
    base = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share")
    return base / "mana" / "client"


def _told(record: ShownRecord) -> dict[str, Any]:
    return {"id": record.id, "updatedAt": record.updated_at or None, "fields": record.fields}


def _fields(record: ShownRecord) -> str:
    hidden = ("createdAt", "spaceId", "authorId", "visibility", "userId")
    return " ".join(f"{k}={_text(v)}" for k, v in record.fields.items() if k not in hidden)


def _text(value: object) -> str:
    import msgspec

    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
