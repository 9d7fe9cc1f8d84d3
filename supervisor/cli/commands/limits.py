"""`mana limits`: what operators allow in 24 hours, in tokens and in money."""
# ruff: noqa: PLC0415 - a command imports what it needs when called, so that each answers at once

from decimal import Decimal
from typing import Annotated, Any

import typer

from state.rules.budgets import MICROS, limit_of
from supervisor.cli.commands.control import pair_of
from supervisor.cli.failures import USAGE, Failure
from supervisor.cli.options import AsJson, DataDir, Url, gateway_of

PATH = "/internal/limits"
NONE = "none"

app = typer.Typer(help="What agents, users and the installation may spend in 24 hours.")
Amount = Annotated[str | None, typer.Option(metavar="NUMBER|none", help="none lifts the limit.")]


@app.callback(invoke_without_command=True)
def limits(
    context: typer.Context, *, data_dir: DataDir = None, url: Url = None, as_json: AsJson = False
) -> None:
    """Every limit that is set."""
    if context.invoked_subcommand is None:
        show(data_dir=data_dir, url=url, as_json=as_json)


@app.command()
def show(*, data_dir: DataDir = None, url: Url = None, as_json: AsJson = False) -> None:
    """Every limit that is set."""
    told = gateway_of(url, data_dir).get(PATH)
    _warn(told)
    _out(told["items"], as_json=as_json)


@app.command("set")
def set_limit(
    *,
    of_installation: Annotated[bool, typer.Option("--installation", help="All together.")] = False,
    of_each_user: Annotated[bool, typer.Option("--each-user", help="Users not named.")] = False,
    of_each_agent: Annotated[
        bool, typer.Option("--each-agent", help="Agents whose owner set no cap.")
    ] = False,
    user: Annotated[str | None, typer.Option(help="One user, all agents together.")] = None,
    agent: Annotated[str | None, typer.Option(help="One agent: USER/AGENT.")] = None,
    tokens: Amount = None,
    money: Amount = None,
    data_dir: DataDir = None,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Set or lift one limit; missions it refused are looked at again."""
    flags = {
        "installation": of_installation,
        "each-user": of_each_user,
        "each-agent": of_each_agent,
    }
    meant: list[dict[str, Any]] = [{"kind": kind} for kind, is_meant in flags.items() if is_meant]
    if user is not None:
        meant.append({"kind": "user", "user": user})
    if agent is not None:
        meant.append({"kind": "agent"})
    if len(meant) != 1:
        whose = "--installation, --each-user, --each-agent, --user or --agent"
        raise Failure(f"say whose limit: exactly one of {whose}", USAGE)
    change = meant[0]
    if tokens is None and money is None:
        raise Failure("say --tokens or --money, a number or none", USAGE)
    if tokens is not None:
        change["tokens"] = _number("--tokens", tokens, 1)
    if money is not None:
        change["micros"] = _number("--money", money, MICROS)
    gateway = gateway_of(url, data_dir)
    if agent is not None:
        change["user"], change["agent"] = pair_of(gateway, agent)
    told = gateway.call("PUT", PATH, content=change)
    _warn(told)
    _out(told["items"], as_json=as_json)


def _number(option: str, text: str, per_unit: int) -> int | None:
    """What an amount means in units of the API; None for "none"."""
    if text == NONE:
        return None
    try:
        return limit_of(text, per_unit)
    except ValueError as exc:
        raise Failure(f"{option}: {text[:40]!r} {exc}", USAGE) from None


def _warn(told: dict[str, Any]) -> None:
    for each in told.get("warnings", []):
        typer.echo(f"warning: {each}", err=True)


def _out(rows: list[dict[str, Any]], *, as_json: bool) -> None:
    from supervisor.cli import output

    if as_json:
        output.json_out(rows)
        return
    told = [
        {
            "kind": row["kind"],
            "whose": {"user": row["user_id"], "agent": output.pair(row)}.get(row["kind"]),
            "tokens": "no limit" if row["tokens"] is None else row["tokens"],
            "money": "no limit"
            if row["micros"] is None
            else f"{Decimal(row['micros']) / MICROS:,f}",
        }
        for row in rows
    ]
    columns = (
        ("limit of", output.field("kind")),
        ("whose", output.field("whose")),
        ("tokens in 24 h", output.field("tokens")),
        ("money in 24 h", output.field("money")),
    )
    output.table_out(columns, told, "no limits are set: only the owners' own caps hold")
