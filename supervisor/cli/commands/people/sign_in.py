"""`mana sign-in` and `mana sign-out`: act as oneself on this machine."""
# ruff: noqa: PLC0415 - a command imports what it needs when called, so that each answers at once

import sys
from typing import Annotated
from urllib.parse import parse_qs, urlsplit

import typer

from supervisor.cli.failures import USAGE, Failure
from supervisor.cli.options import DataDir, Url

app = typer.Typer()


@app.command("sign-in")
def sign_in(
    link: Annotated[
        str | None, typer.Argument(help="A one-time link; without, it or a token is asked for.")
    ] = None,
    *,
    data_dir: DataDir = None,
    url: Url = None,
) -> None:
    """Sign in on this machine by a one-time link, or by a personal token from a prompt or stdin."""
    from mana_actors.client.server.credentials import StoredSignIn
    from supervisor.cli import output, own_client
    from supervisor.cli.gateway_client import Gateway, address

    given = link
    if given is None:
        is_watched = sys.stdin.isatty()
        given = typer.prompt("Link or token", hide_input=True) if is_watched else sys.stdin.read()
    given = own_client.token_in(given.strip(), "what you gave")
    parts = urlsplit(given)
    if parts.scheme in ("http", "https"):
        secret = parse_qs(parts.query).get("link", [""])[0]
        if not secret:
            raise Failure("this is no link of mana people link", USAGE)
        at = f"{parts.scheme}://{parts.netloc}"
        told = Gateway(at, None).call("POST", "/api/v1/auth/sign-in", content={"link": secret})
        stored = own_client.keep_sign_in(at, told)
    elif link is not None:
        raise Failure("a token does not belong on a command line: give it to the prompt", USAGE)
    else:
        at = address(url, data_dir)
        who = Gateway(at, None, given).get(own_client.ME)["user"]
        stored = StoredSignIn(url=at, user=who, access_token=given)
        own_client.write_sign_in(stored)
    output.line_out(f"signed in at {at} as {stored.user}")


@app.command("sign-out")
def sign_out(*, data_dir: DataDir = None, url: Url = None) -> None:
    """End the sign-in of this machine; a personal token is forgotten here and stays good."""
    from supervisor.cli import output, own_client
    from supervisor.cli.gateway_client import Gateway, address

    at = address(url, data_dir)
    path = own_client.sign_in_file(at)
    if not path.exists():
        raise Failure("nobody is signed in on this machine")
    try:
        stored = own_client.stored_sign_in(at)
        if stored is not None and stored.refresh_token is not None:
            Gateway(at, None, stored.access_token).call("POST", "/api/v1/auth/sign-out")
    except Failure as exc:
        typer.echo(f"mana: the gateway was not told: {exc.message}", err=True)
    path.unlink(missing_ok=True)
    output.line_out(f"signed out at {at}")
