"""`mana keys`: make, rotate and check keys, certificates and capability secrets."""
# ruff: noqa: PLC0415 - a command imports what it needs when called, so that each answers at once

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from supervisor.cli.failures import FAILED, USAGE, Failure
from supervisor.cli.options import AsJson, DatabaseUrl, DataDir

if TYPE_CHECKING:
    from supervisor.node.settings import Settings

app = typer.Typer(help="Keys and what else opens: make, rotate, check.", no_args_is_help=True)

Hosts = Annotated[
    list[str] | None,
    typer.Option("--host", help="tls: how other machines reach the key holder; may be repeated."),
]


@app.command()
def new(
    kind: Annotated[str | None, typer.Argument(help="tls, or nothing", metavar="[tls]")] = None,
    *,
    host: Hosts = None,
    data_dir: DataDir = None,
) -> None:
    """Make a runner's and an issuer's key where there is none; print the public files.

    With `tls`: certificates for a key holder that agents on other machines ask.
    """
    from supervisor.cli import output
    from supervisor.custody.certificates import make_certificates
    from supervisor.custody.key_folder import add_key, key_folder
    from supervisor.node.settings import CA

    if kind not in (None, "tls"):
        raise Failure(f"expected tls or nothing, got {kind}", USAGE)
    if host and kind is None:
        raise Failure("--host goes with tls", USAGE)
    folder, now = _settings(data_dir).keys_path, datetime.now(UTC)
    if kind is None:
        found = key_folder(folder)
        # Where another service mints, its public key is here: no issuer of our own is wanted.
        made = [] if found.runner_private else [add_key(folder, "runner", now)]
        made += [] if found.issuer_public else [add_key(folder, "issuer", now)]
    elif (folder / f"{CA}.pem").exists():
        raise Failure("there are certificates already: mana keys rotate tls")
    else:
        made = make_certificates(folder, _checked(host or []), now)
    for path in made:
        output.line_out(str(path))
    if not made:
        output.line_out("there are keys already: mana keys rotate runner, or issuer")


@app.command()
def rotate(
    kind: Annotated[
        str, typer.Argument(help="runner, issuer, sign-in, tls or capability", metavar="KIND")
    ],
    *,
    is_now: Annotated[
        bool, typer.Option("--now", help="tls, capability: refuse the old at once, as it leaked.")
    ] = False,
    host: Hosts = None,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Put something newer in its place; what the old one gave stays good for its time."""
    from supervisor.cli import database, output
    from supervisor.custody.certificates import (
        NoAuthority,
        kept_hosts,
        make_certificates,
        renew_certificates,
    )
    from supervisor.custody.key_folder import add_key

    now = datetime.now(UTC)
    if is_now and kind not in ("tls", "capability"):
        raise Failure(f"--now is for tls and capability; remove the older {kind} file", USAGE)
    if host and kind != "tls":
        raise Failure("--host goes with tls", USAGE)
    match kind:
        case "runner" | "issuer":
            output.line_out(str(add_key(_settings(data_dir).keys_path, kind, now)))
            later = "remove the older key after 30 days, when no grant needs it"
            output.line_out(f"restart the node; {later}")
        case "sign-in":
            output.line_out(str(add_key(_settings(data_dir).keys_path, kind, now)))
            output.line_out("signs within a minute; remove the older files after an hour")
        case "tls":
            folder = _settings(data_dir).keys_path
            issue = make_certificates if is_now else renew_certificates
            try:
                made = issue(folder, _checked(host or []) or kept_hosts(folder), now)
            except NoAuthority as exc:
                raise Failure(exc.problem) from None
            for path in made:
                output.line_out(str(path))
            files = "tls-ca.pem, tls-client.pem and tls-client.key"
            output.line_out(f"copy {files} to the other machines")
        case "capability":
            database.rotate_capability_now(data_dir, database_url, at_once=is_now)
            old = "refused from now on" if is_now else "accepted for 2 hours more"
            output.line_out(f"new secrets sign; what was signed before is {old}")
        case _:
            raise Failure(f"expected runner, issuer, sign-in, tls or capability, got {kind}", USAGE)


@app.command()
def check(
    *, data_dir: DataDir = None, database_url: DatabaseUrl = None, as_json: AsJson = False
) -> None:
    """Look at keys, certificates and secrets, ask the key holder; exit 1 when one is wrong."""
    import asyncio

    from supervisor.cli import output
    from supervisor.cli.commands.key_report import lines_of, looked

    report = asyncio.run(looked(_settings(data_dir, database_url)))
    if as_json:
        output.json_out(report)
    else:
        for line in lines_of(report):
            output.line_out(line)
    raise typer.Exit(0 if report.ok else FAILED)


def _checked(hosts: list[str]) -> list[str]:
    from supervisor.node.settings import is_host

    for host in hosts:
        if not is_host(host):
            raise Failure(f"--host: expected a name or an address, got {host[:60]!r}", USAGE)
    return hosts


def _settings(data_dir: str | None, database_url: str | None = None) -> Settings:
    from supervisor.cli.environment import settings_of

    return settings_of({"MANA_DATA_DIR": data_dir, "SYNC_DATABASE_URL": database_url})
