"""Every command of `mana`: its options, and which part does the work."""
# ruff: noqa: PLC0415 - a command imports what it needs when called, so that each answers at once

from typing import Annotated

import typer

from mana_actors.http.paths import path_of
from supervisor.cli.commands import (
    control,
    fleet,
    keys,
    limits,
    llm,
    log,
)
from supervisor.cli.commands.own import (
    agents,
    client,
    client_grant,
    client_inbox,
    data,
    missions,
    proposals,
)
from supervisor.cli.commands.people import operators, people, sign_in
from supervisor.cli.failures import Failure
from supervisor.cli.options import AsJson, DatabaseUrl, DataDir, Url, gateway_of

app = typer.Typer(
    help="Background AI agents that belong to people.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
snapshots_app = typer.Typer(help="Compare snapshots with the log.", no_args_is_help=True)
users_app = typer.Typer(help="Settings of one user.", no_args_is_help=True)
app.add_typer(fleet.app)
app.add_typer(control.app)
fleet.agents_app.add_typer(agents.app)
fleet.missions_app.add_typer(missions.app)
app.add_typer(fleet.agents_app, name="agents")
app.add_typer(fleet.missions_app, name="missions")
app.add_typer(fleet.runs_app, name="runs")
client.app.add_typer(client_inbox.app, name="inbox")
client.app.add_typer(client_grant.app, name="grant")
app.add_typer(client.app, name="client")
app.add_typer(data.app, name="data")
app.add_typer(proposals.proposals_app, name="proposals")
app.add_typer(proposals.approvals_app, name="approvals")
app.add_typer(keys.app, name="keys")
app.add_typer(limits.app, name="limits")
app.add_typer(log.app, name="log")
app.add_typer(snapshots_app, name="snapshots")
app.add_typer(users_app, name="users")
app.add_typer(llm.app, name="llm")
app.add_typer(people.app, name="people")
app.add_typer(people.spaces_app, name="spaces")
app.add_typer(operators.app, name="sessions")
app.add_typer(sign_in.app)


@app.command()
def up(
    *,
    is_foreground: Annotated[bool, typer.Option("--foreground", help="Stay attached.")] = False,
    port: Annotated[int | None, typer.Option(help="Of the gateway.")] = None,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
    ray_address: Annotated[str | None, typer.Option(help="A Ray to join, or auto.")] = None,
    as_json: AsJson = False,
) -> None:
    """Start Postgres, the cluster and the gateway; print the dashboard's address."""
    from mana_actors.command import OTHERS_USE, owners_of
    from supervisor.cli import environment, output, up_down
    from supervisor.node.keeper import COMMAND

    # Files of both may lie in one folder: whose are read is then a matter of who came last.
    for package in OTHERS_USE:
        for other in owners_of(package):
            raise Failure(
                f"{other} has files in the package {package} too: give mana-actors an"
                " environment of its own"
            )
    env, settings = environment.node_environment(
        {
            "PORT": None if port is None else str(port),
            "MANA_DATA_DIR": data_dir,
            "SYNC_DATABASE_URL": database_url,
            "MANA_RAY_ADDRESS": ray_address,
        }
    )
    if is_foreground:
        up_down.foreground(env, settings, COMMAND)
    node, is_new = up_down.start(env, settings)
    address = up_down.dashboard_address(settings, node)
    if as_json:
        output.json_out({"url": node.url, "dashboard": address, "pid": node.pid, "started": is_new})
        return
    up_down.say("mana is up" if is_new else "mana is already up")
    output.line_out(address)
    if up_down.nobody_may_sign_in(settings, node):
        up_down.say("nobody may sign in yet: mana people add NAME")


@app.command()
def join(
    *,
    ray_address: Annotated[str, typer.Option(help="The first node's Ray, HOST:PORT.")],
    is_foreground: Annotated[bool, typer.Option("--foreground", help="Stay attached.")] = False,
    data_dir: DataDir = None,
) -> None:
    """Have this machine serve agents of another node: a model router, then room in its Ray."""
    from supervisor.cli import environment, up_down
    from supervisor.node.keeper import JOIN_COMMAND

    options = {"MANA_DATA_DIR": data_dir, "MANA_RAY_ADDRESS": ray_address}
    env, settings = environment.node_environment(options, serves=False)
    if is_foreground:
        up_down.foreground(env, settings, JOIN_COMMAND)
    is_new = up_down.join(env, settings)
    up_down.say("this machine serves agents" if is_new else "a node runs here already")


@app.command()
def down(*, data_dir: DataDir = None) -> None:
    """Stop in order: runs under way finish or resume next time."""
    from supervisor.cli import environment, up_down

    place = environment.folder(data_dir)
    up_down.say("mana is down" if up_down.stop(place) else f"nothing ran on {place}")


@app.command()
def demo(
    *,
    as_json: AsJson = False,
    keep: Annotated[bool, typer.Option(help="Leave its data where it is.")] = False,
) -> None:
    """Three users, eight missions, on an installation of its own that is removed again."""
    from supervisor.demo.performance import run_demo

    raise typer.Exit(run_demo(as_json=as_json, keep=keep))


@app.command("open")
def open_dashboard(*, data_dir: DataDir = None, url: Url = None) -> None:
    """Print an address that opens the dashboard once, and open it where there is a desktop."""
    import os
    import sys
    import webbrowser

    from supervisor.cli import output

    gateway = gateway_of(url, data_dir)
    address = gateway.pages_url + gateway.call("POST", "/internal/login")["path"]
    output.line_out(address)
    has_desktop = sys.platform == "darwin" or "DISPLAY" in os.environ
    if sys.stdout.isatty() and has_desktop:
        webbrowser.open(address)


@app.command()
def migrate(
    *,
    is_printed: Annotated[bool, typer.Option("--print-sql", help="Only print the SQL.")] = False,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Bring the database to today's schema, as the log's owner."""
    from supervisor.cli import database

    if is_printed:
        database.print_sql()
    else:
        database.migrate_now(data_dir, database_url)


@snapshots_app.command()
def verify(
    *, data_dir: DataDir = None, database_url: DatabaseUrl = None, as_json: AsJson = False
) -> None:
    """Compare every snapshot with the log; exit 1 when one differs."""
    from supervisor.cli import database

    raise typer.Exit(database.verify_snapshots(data_dir, database_url, as_json=as_json))


@snapshots_app.command()
def rebuild(
    *, data_dir: DataDir = None, database_url: DatabaseUrl = None, as_json: AsJson = False
) -> None:
    """Replay from the log whatever differs from it."""
    from supervisor.cli import database

    raise typer.Exit(database.rebuild_snapshots(data_dir, database_url, as_json=as_json))


@app.command()
def doctor(
    *, data_dir: DataDir = None, database_url: DatabaseUrl = None, as_json: AsJson = False
) -> None:
    """Check the running database and name the remedy; exit 1 when something is wrong."""
    from supervisor.cli import database

    raise typer.Exit(database.examine(data_dir, database_url, as_json=as_json))


@app.command()
def logs(
    which: Annotated[
        str | None,
        typer.Argument(help="supervisor, gateway, router, agents, keys, node, or USER/AGENT."),
    ] = None,
    *,
    is_followed: Annotated[bool, typer.Option("--follow", "-f", help="Go on as it grows.")] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, help="How many at first.")] = 100,
    data_dir: DataDir = None,
) -> None:
    """What the processes of a node log: all together, those of one kind, or of one agent."""
    from supervisor.cli import environment
    from supervisor.cli.node_logs import show_logs

    show_logs(environment.folder(data_dir), which, lines, is_followed=is_followed)


@users_app.callback()
def users() -> None:
    """Settings of one user."""


@users_app.command("set")
def set_user(
    user: str,
    *,
    time_zone: Annotated[str, typer.Option(help="In which cadences are meant; '' for default.")],
    data_dir: DataDir = None,
    url: Url = None,
) -> None:
    """Set in which time zone a user's cadences are meant."""
    from supervisor.cli import output

    path = path_of("/internal/users", user) + "/settings"
    told = gateway_of(url, data_dir).call("PUT", path, content={"time_zone": time_zone or None})
    output.line_out(f"{user}: {told['time_zone'] or 'the time zone of the deployment'}")


@app.command()
def version() -> None:
    """Print the version."""
    from supervisor import __version__
    from supervisor.cli import output

    output.line_out(__version__)
