"""`mana client grant`: leave for a mission to read sealed records, given with the owner's key."""
# ruff: noqa: PLC0415 - a command imports what it needs when called, so that each answers at once

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Annotated, Any

import typer

from supervisor.cli.commands.own.client import Store, online, run_told, token_for
from supervisor.cli.commands.own.client_inbox import KeyFile, keys_in
from supervisor.cli.failures import FAILED, USAGE, Failure
from supervisor.cli.options import DataDir, TokenFile

if TYPE_CHECKING:
    from mana_actors.client import Client
    from mana_actors.client.owner.grants import MissionGrants

app = typer.Typer(help="Leave for a mission to read sealed records.", no_args_is_help=True)
MISSIONS = "aiMissions"
ATTEMPTS, PAUSE_S = 60, 0.5
Mission = Annotated[str, typer.Argument(metavar="MISSION")]


@app.command()
def give(
    mission: Mission,
    records: Annotated[list[str], typer.Argument(metavar="TABLE:ID…", help="notes:n1 …")],
    key_file: KeyFile,
    *,
    exposure: Annotated[str, typer.Option(help="local, private-cloud or any.")] = "local",
    is_sure: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    store: Store = None,
    token_file: TokenFile = None,
    data_dir: DataDir = None,
) -> None:
    """Say what it would allow, and give it once you agree; again to renew or change it."""
    import httpx2

    from mana_actors.client.owner.grants import MissionGrants
    from mana_actors.trust import trust_for
    from supervisor.cli import output

    async def given() -> None:
        async with online(store, token_file, data_dir) as client, contextlib.AsyncExitStack() as on:
            url = client.url or ""
            keys = keys_in(client.user, key_file)
            token = await token_for(client.user, url, token_file, data_dir)
            http = httpx2.AsyncClient(base_url=url, verify=trust_for(url))
            grants = MissionGrants(await on.enter_async_context(http), token, keys)
            await client.sync("ai")
            if await client.table(MISSIONS).get(mission) is None:
                raise Failure(f"there is no mission {mission}", USAGE)
            found = await _records(client, records)
            told = await grants.consent_text(mission, records, exposure=exposure)
            for line in told["lines"]:
                output.line_out(line)
            if not is_sure and not typer.confirm("Give it?", err=True):
                raise Failure("nothing was given", FAILED)
            grant = await grants.ask(mission, records, exposure=exposure)
            await client.table(MISSIONS).update(mission, {"grant": grant})
            await client.sync("ai")
            await _handed_over(grants, grant, found)
            output.line_out(f"given until {grant['expiresAt']}")

    run_told(given)


@app.command()
def revoke(
    mission: Mission,
    *,
    store: Store = None,
    token_file: TokenFile = None,
    data_dir: DataDir = None,
) -> None:
    """Take it back; the copies that the mission has go with it."""
    from supervisor.cli import output

    async def revoked() -> None:
        async with online(store, token_file, data_dir) as client:
            await client.sync("ai")
            found = await client.table(MISSIONS).get(mission)
            if found is None or found.get("grant") is None:
                raise Failure(f"there is no grant of mission {mission}", USAGE)
            await client.table(MISSIONS).update(mission, {"grant": None})
            await client.sync("ai")
            output.line_out("revoked")

    run_told(revoked)


async def _handed_over(
    grants: MissionGrants, grant: dict[str, Any], records: dict[str, dict[str, Any]]
) -> None:
    """Hand over the copies as soon as the server has taken up the grant; raises Failure."""
    from mana_actors.client.owner.grants import GrantRefused

    for _ in range(ATTEMPTS):
        try:
            await grants.hand_over(grant, records)
        except GrantRefused as exc:
            if exc.code != "NO_GRANT":
                raise
            await asyncio.sleep(PAUSE_S)
        else:
            return
    raise Failure("given, and the server has yet to take it up: the same again later", FAILED)


async def _records(client: Client, names: list[str]) -> dict[str, dict[str, Any]]:
    """Each record as it is synced, by `table:id`; raises Failure for one that is not there."""
    found: dict[str, dict[str, Any]] = {}
    for name in names:
        table, _, record = name.partition(":")
        if not table or not record:
            raise Failure(f"{name}: give TABLE:ID", USAGE)
        of = client.table(table)
        await client.sync(of.name.app)
        shown = await of.get(record)
        if shown is None:
            raise Failure(f"{name}: there is no such record", USAGE)
        found[name] = shown.fields
    return found
