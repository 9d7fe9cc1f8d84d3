"""`mana people` and `mana spaces`: who may sign in here, by what, and what they share.

For operators, by the service key.
"""
# ruff: noqa: PLC0415 - a command imports what it needs when called, so that each answers at once

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated

import typer

from mana_actors.http.paths import path_of
from supervisor.cli.failures import USAGE, Failure
from supervisor.cli.options import AsJson, DataDir, Limit, TokenFile, Url, gateway_of

if TYPE_CHECKING:
    from supervisor.cli.gateway_client import Gateway

PATH = "/internal/people"
DAYS = {"d": 1, "w": 7, "m": 30, "y": 365}

SPACES = "/internal/spaces"

app = typer.Typer(help="Who may sign in here, and by what.", no_args_is_help=True)
spaces_app = typer.Typer(help="What several people share.", no_args_is_help=True)
Name = Annotated[str, typer.Argument(metavar="NAME")]
SpaceId = Annotated[str, typer.Argument(metavar="SPACE", help="Its id.")]


@app.command()
def add(
    name: Name,
    *,
    display_name: Annotated[str | None, typer.Option(help="How others see them.")] = None,
    again: Annotated[
        bool, typer.Option("--again", help="The same person who was removed: with their records.")
    ] = False,
    data_dir: DataDir = None,
    url: Url = None,
) -> None:
    """Let somebody sign in, and print a link that does it once."""
    from supervisor.cli import output

    gateway = gateway_of(url, data_dir)
    body = {"user": name, "displayName": display_name or name, "again": again}
    gateway.call("POST", PATH, content=body)
    output.line_out(f"{name} may sign in; the link works once, within half an hour:")
    output.line_out(_link(gateway, name))


@app.command("list")
def list_people(
    *,
    removed: Annotated[bool, typer.Option("--removed", help="Also who was removed.")] = False,
    data_dir: DataDir = None,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Everybody who may sign in."""
    from supervisor.cli import output

    asked = {"removed": "true" if removed else "false"}
    rows = gateway_of(url, data_dir).items(PATH, asked)
    if as_json:
        output.json_out(rows)
        return
    columns = (
        ("name", output.field("user")),
        ("shown as", output.field("displayName")),
        ("added", output.when("addedAt")),
        ("removed", output.when("removedAt")),
        ("sign-ins", output.field("signIns")),
        ("tokens", output.field("tokens")),
    )
    output.table_out(columns, rows, "nobody may sign in yet: mana people add NAME")


@app.command()
def remove(
    name: Name,
    *,
    is_sure: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    data_dir: DataDir = None,
    url: Url = None,
) -> None:
    """End at once whatever lets somebody in, and what they share with others.

    Their records stay in the log, and their missions go on until they are paused or deleted.
    """
    from supervisor.cli import output

    if not is_sure:
        ends = "Links, sign-ins, tokens and memberships end at once; records and missions stay."
        typer.confirm(f"{ends} Remove {name}?", abort=True, err=True)
    gateway_of(url, data_dir).call("DELETE", _path(name))
    output.line_out(f"{name} may sign in no more; nothing of theirs in the log was deleted")


@app.command()
def link(name: Name, *, data_dir: DataDir = None, url: Url = None) -> None:
    """Print a link that lets somebody in once, within half an hour."""
    from supervisor.cli import output

    output.line_out(_link(gateway_of(url, data_dir), name))


@app.command()
def token(
    name: Name,
    *,
    scopes: Annotated[str, typer.Option(help="Of read, write and approve; with commas.")],
    label: Annotated[str, typer.Option("--name", help="What it is for.", metavar="LABEL")],
    expires: Annotated[str, typer.Option(help="In how long: 30d, 2w, 6m or 1y.")] = "30d",
    data_dir: DataDir = None,
    url: Url = None,
) -> None:
    """Make a personal token and print it, this once."""
    from supervisor.cli import output

    body = {
        "name": label,
        "scopes": [one.strip() for one in scopes.split(",")],
        "days": _days(expires),
    }
    told = gateway_of(url, data_dir).call("POST", f"{_path(name)}/tokens", content=body)
    typer.echo(f"good until {output.local_time(told['expiresAt'])}; not shown again", err=True)
    output.line_out(told["token"])


@app.command()
def tokens(
    name: Name, *, data_dir: DataDir = None, url: Url = None, as_json: AsJson = False
) -> None:
    """A person's tokens, by name; not what lets anybody in."""
    from supervisor.cli import output

    rows = gateway_of(url, data_dir).get(f"{_path(name)}/tokens")["items"]
    if as_json:
        output.json_out(rows)
        return
    columns = (
        ("token", output.field("name")),
        ("may", output.field("scopes")),
        ("made", output.when("made_at")),
        ("ends", output.when("expires_at")),
        ("last used", output.when("used_at")),
    )
    output.table_out(columns, rows, "no tokens")


@app.command()
def trail(
    name: Name,
    *,
    limit: Limit = 50,
    data_dir: DataDir = None,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """What was done about a person's ways in, spaces and place, and by whom; the newest first."""
    from supervisor.cli import output

    rows = gateway_of(url, data_dir).items(f"{_path(name)}/trail", {}, limit, page_size=200)
    if as_json:
        output.json_out(rows)
        return
    columns = (
        ("at", output.when("at")),
        ("what", output.field("action")),
        ("of", output.field("detail")),
        ("by", output.field("by")),
        ("from", output.field("address")),
    )
    output.table_out(columns, rows, "nothing was done")


@app.command()
def zone(
    name: Name,
    zone: Annotated[
        str | None, typer.Argument(metavar="ZONE", help="Such as Europe/Berlin; without: say it.")
    ] = None,
    *,
    is_default: Annotated[
        bool, typer.Option("--default", help="The deployment's from now on.")
    ] = False,
    token_file: TokenFile = None,
    data_dir: DataDir = None,
    url: Url = None,
) -> None:
    """Say or set the zone that a person's times are meant in; their missions follow it."""
    from supervisor.cli import output
    from supervisor.cli.own_client import ME, person_client

    me = person_client(name, url=url, data_dir=data_dir, token_file=token_file)
    if zone is None and not is_default:
        told = me.get(ME)
    else:
        told = me.call("PATCH", ME, content={"timeZone": None if is_default else zone})
    of = "" if told["zoneIsOwn"] else ", as everybody's here who sets none"
    output.line_out(f"{told['timeZone']}{of}")


@app.command()
def revoke(
    name: Name,
    label: Annotated[str, typer.Argument(metavar="TOKEN", help="Its name, or its id.")],
    *,
    data_dir: DataDir = None,
    url: Url = None,
) -> None:
    """End a personal token at once."""
    from supervisor.cli import output

    path = path_of(f"{_path(name)}/tokens", label)
    gateway_of(url, data_dir).call("DELETE", path)
    output.line_out(f"{name}: the token {label} is good for nothing now")


# --- shared spaces --------------------------------------------------------------------------------


@spaces_app.command("new")
def new_space(
    name: Annotated[str, typer.Argument(metavar="NAME", help="How members see it.")],
    *,
    member: Annotated[str, typer.Option("--for", help="Its first member.", metavar="NAME")],
    data_dir: DataDir = None,
    url: Url = None,
) -> None:
    """Make a shared space, and print its id."""
    from supervisor.cli import output

    body = {"name": name, "member": member}
    told = gateway_of(url, data_dir).call("POST", SPACES, content=body)
    output.line_out(told["space_id"])


@spaces_app.command("list")
def list_spaces(
    *,
    member: Annotated[str | None, typer.Option(help="Those of one person.")] = None,
    data_dir: DataDir = None,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Every shared space, with its members."""
    from supervisor.cli import output

    asked = {} if member is None else {"member": member}
    rows = gateway_of(url, data_dir).get(SPACES, asked)["items"]
    if as_json:
        output.json_out(rows)
        return
    columns = (
        ("space", output.field("space_id")),
        ("name", output.field("name")),
        ("members", output.field("members")),
        ("made", output.when("made_at")),
    )
    output.table_out(columns, rows, "no shared spaces")


@spaces_app.command("members")
def list_members(space: SpaceId, *, data_dir: DataDir = None, url: Url = None) -> None:
    """Who shares a space, one a line."""
    from supervisor.cli import output

    found = [
        row
        for row in gateway_of(url, data_dir).get(SPACES)["items"]
        if space in (row["space_id"], row["name"])
    ]
    if len(found) != 1:
        raise Failure(
            "there is no such space" if not found else "several have this name: say its id"
        )
    for member in found[0]["members"]:
        output.line_out(member)


@spaces_app.command("add")
def add_member(space: SpaceId, name: Name, *, data_dir: DataDir = None, url: Url = None) -> None:
    """Let somebody share a space."""
    from supervisor.cli import output

    gateway = gateway_of(url, data_dir)
    told = gateway.call("PUT", _member(space, name))
    output.line_out(f"{name} {'shares' if told['added'] else 'already shared'} {space}")


@spaces_app.command("remove")
def remove_member(space: SpaceId, name: Name, *, data_dir: DataDir = None, url: Url = None) -> None:
    """Let somebody share a space no longer; what they wrote in it stays."""
    from supervisor.cli import output

    gateway_of(url, data_dir).call("DELETE", _member(space, name))
    output.line_out(f"{name} and their agents read nothing more of {space}")


def _member(space: str, name: str) -> str:
    return path_of(f"{path_of(SPACES, space)}/members", name)


def _path(name: str) -> str:
    return path_of(PATH, name)


def _link(gateway: Gateway, name: str) -> str:
    return gateway.pages_url + gateway.call("POST", f"{_path(name)}/link")["path"]


def _days(text: str) -> int:
    match = re.fullmatch(r"([0-9]{1,4})([dwmy])", text)
    if match is None:
        raise Failure(f"--expires: expected 30d, 2w, 6m or 1y, got {text[:20]!r}", USAGE)
    return int(match[1]) * DAYS[match[2]]
