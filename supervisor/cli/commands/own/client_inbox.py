"""`mana client inbox`: proposals on a local store, answered also while the gateway is away."""
# ruff: noqa: PLC0415 - a command imports what it needs when called, so that each answers at once

from __future__ import annotations

import base64
import binascii
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from supervisor.cli.commands.own.client import Store, offline, online, run_told
from supervisor.cli.failures import USAGE, Failure
from supervisor.cli.options import AsJson, DataDir, TokenFile

if TYPE_CHECKING:
    from mana_actors.client import Client
    from mana_actors.client.owner.sealing import OwnerKeys

app = typer.Typer(help="What agents propose, on a local store.", no_args_is_help=True)

KeyFile = Annotated[Path, typer.Option(help="The master key, 32 bytes in base64.", metavar="FILE")]
One = Annotated[str, typer.Argument(metavar="ID", help="Its id, or how it begins.")]


@app.command("list")
def list_inbox(*, store: Store = None, as_json: AsJson = False) -> None:
    """Proposals as far as they are known here; `mana client pull` brings news."""
    import msgspec

    from supervisor.cli import output

    async def listed() -> None:
        async with offline(store) as client:
            found = await client.proposals.list()
        if as_json:
            output.json_out({"items": [msgspec.to_builtins(one) for one in found]})
            return
        rows: list[dict[str, Any]] = [
            {
                "id": one.id[:8],
                "state": one.state,
                "tool": one.tool,
                "why": one.why or one.rationale,
                "answer": one.refused_answer or ("waits" if one.answered_here else ""),
            }
            for one in found
        ]
        columns = [(name, output.field(name)) for name in ("id", "state", "tool", "why", "answer")]
        output.table_out(columns, rows, "nothing is proposed, as far as is known here")

    run_told(listed)


@app.command()
def approve(
    proposal: One,
    *,
    params: Annotated[str | None, typer.Option(help="JSON in place of the parameters.")] = None,
    store: Store = None,
) -> None:
    """Approve one, here; the next pull or push sends it."""
    import msgspec

    edited: dict[str, Any] | None = None
    if params is not None:
        try:
            edited = msgspec.json.decode(params, type=dict[str, Any])
        except msgspec.MsgspecError as exc:
            raise Failure("--params: must be a JSON object", USAGE) from exc

    async def answered() -> None:
        async with offline(store) as client:
            await client.proposals.approve(await _named(client, proposal), edited)

    run_told(answered)


@app.command()
def reject(
    proposal: One,
    *,
    because: Annotated[str, typer.Option(help="Why, for the agent.")] = "",
    store: Store = None,
) -> None:
    """Reject one, here; the next pull or push sends it."""

    async def answered() -> None:
        async with offline(store) as client:
            await client.proposals.reject(await _named(client, proposal), because)

    run_told(answered)


@app.command("carry-out")
def carry_out(
    key_file: KeyFile,
    *,
    private_key_file: Annotated[
        Path | None, typer.Option(help="The key that plans are sealed for, so too.", metavar="FILE")
    ] = None,
    store: Store = None,
    token_file: TokenFile = None,
    data_dir: DataDir = None,
) -> None:
    """Do what waits for a device with your keys, once."""
    from supervisor.cli import output

    async def done() -> None:
        async with offline(store) as client:
            keys = keys_in(client.user, key_file, private_key_file)
        async with online(store, token_file, data_dir, keys=keys) as client:
            told = await client.proposals.carry_out()
        for one in told:
            output.line_out(f"{one.proposal[:8]} {one.tool}: {one.outcome} {one.why}".rstrip())
        if not told:
            output.line_out("nothing waits for this device")

    run_told(done)


async def _named(client: Client, begins: str) -> str:
    """The id of the one proposal that begins so; raises Failure."""
    found = [one.id for one in await client.proposals.list() if one.id.startswith(begins)]
    if len(found) != 1:
        what = "no proposal" if not found else f"{len(found)} proposals"
        raise Failure(f"{what} here begin with {begins}", USAGE)
    return found[0]


def keys_in(user: str, key_file: Path, private_key_file: Path | None = None) -> OwnerKeys:
    """The keys that files hold; raises Failure."""
    from mana_actors.client.owner.sealing import OwnerKeys

    private = [] if private_key_file is None else [_key_in(private_key_file)]
    return OwnerKeys(user, _key_in(key_file), private)


def _key_in(path: Path) -> bytes:
    """The key that a file holds; raises Failure, which shows nothing of it."""
    try:
        key = base64.b64decode(path.read_text("ascii").strip(), validate=True)
    except (OSError, UnicodeDecodeError, binascii.Error) as exc:
        raise Failure(f"{path}: cannot be read as base64 ({type(exc).__name__})", USAGE) from exc
    if len(key) != 32:
        raise Failure(f"{path}: holds no key of 32 bytes", USAGE)
    return key
