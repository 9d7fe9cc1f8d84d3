"""Commands that show the fleet and start work in it, all over HTTP."""
# ruff: noqa: PLC0415 - a command imports what it needs when called, so that each answers at once

from typing import TYPE_CHECKING, Annotated, Any

import typer

from mana_actors.http.paths import path_of
from supervisor.cli.commands.control import pair_of
from supervisor.cli.failures import FAILED, UNREACHABLE, USAGE, Failure
from supervisor.cli.options import (
    AgentOf,
    AsJson,
    DataDir,
    Limit,
    PersonOptions,
    Url,
    User,
    by_person,
    gateway_of,
)

if TYPE_CHECKING:
    from supervisor.cli.gateway_client import Gateway

TICK_WITHIN_S = 300.0

app = typer.Typer()
agents_app = typer.Typer(help="Agents of all users, and one's own: new, edit, …")
missions_app = typer.Typer(help="Missions of all users, and one's own: new, edit, …")
runs_app = typer.Typer(help="Runs of all users; `show` tells a person all about one of theirs.")


@app.command()
def status(*, data_dir: DataDir = None, url: Url = None, as_json: AsJson = False) -> None:
    """Whether it is well, and how much there is; exit 1 when it is not."""
    from supervisor.cli import output

    try:
        told = gateway_of(url, data_dir).get("/internal/status")
    except Failure as silent:
        if url is not None or silent.code != UNREACHABLE:
            raise
        from supervisor.cli import environment
        from supervisor.health.nearby import signs_nearby

        for sign in signs_nearby(environment.settings_of({"MANA_DATA_DIR": data_dir})):
            output.line_out(f"  {sign}")
        raise
    if as_json:
        output.json_out(told)
    else:
        output.line_out("well" if told["ok"] else "needs attention")
        for problem in told["problems"]:
            output.line_out(f"  {problem}")
        for warning in told.get("warnings", []):
            output.line_out(f"  warning: {warning}")
        counts: dict[str, int] = told["counts"] or {}
        for name, count in counts.items():
            output.line_out(f"  {name.replace('_', ' ')}: {output.shown(count)}")
        troubles: dict[str, int] = told.get("troubles") or {}
        said = [f"{output.TROUBLES[one]}: {n:,}" for one, n in troubles.items() if n]
        if said:
            output.line_out(f"  {'; '.join(said)} (mana missions --problems)")
        hour: dict[str, dict[str, int] | None] = told.get("last_hour") or {}
        if minute := hour.get("latest"):
            output.line_out(
                f"  in the last minute: {minute['ran']:,} runs, {minute['failed']:,} failed,"
                f" {minute['woken']:,} wakes, {minute['tokens']:,} tokens"
            )
        node: dict[str, Any] = told.get("node") or {}
        for restart in node.get("latest", [])[:3]:
            output.line_out(f"  started again at {restart['at']}: {restart['why']}")
        if devices := told.get("devices"):
            output.line_out(
                f"  devices connected: {devices['connected']:.0f},"
                f" of people: {devices['people']:.0f};"
                f" {devices['changes_pushed']:,.0f} changes pushed,"
                f" {devices['conflicts']:,.0f} conflicts"
            )
        if told["supervisor"] is not None:
            idle: dict[str, float | None] = told["supervisor"].get("idle") or {}
            idle_s = idle.get("seconds")
            rest = "" if idle_s is None else f"; idle ones sleep after {idle_s:.0f} s"
            awake: list[dict[str, Any]] = told["supervisor"]["awake"]
            forks = sum(agent.get("fork", False) for agent in awake)
            output.line_out(f"  agents awake: {len(awake)}, forks: {forks}{rest}")
    raise typer.Exit(0 if told["ok"] else FAILED)


@agents_app.callback(invoke_without_command=True)
def agents(
    context: typer.Context,
    *,
    user: User = None,
    data_dir: DataDir = None,
    url: Url = None,
    limit: Limit = 100,
    as_json: AsJson = False,
) -> None:
    """Agents of all users: state, tokens and caps."""
    if context.invoked_subcommand is not None:
        return
    from supervisor.cli import output

    gateway = gateway_of(url, data_dir)
    rows = gateway.items("/internal/agents", _filter(gateway, user), limit)
    _out(rows, output.AGENTS, "no agents yet", as_json)


@agents_app.command("texts")
def show_texts(
    agent: Annotated[str, typer.Argument(metavar="USER/AGENT")],
    *,
    reason: Annotated[str, typer.Option(help="Why; the owner reads it.")],
    data_dir: DataDir = None,
    url: Url = None,
) -> None:
    """Titles and plans of one agent, as JSON; who opened them and why is kept for its owner."""
    from supervisor.cli import output

    gateway = gateway_of(url, data_dir)
    path = path_of("/internal/agents", *pair_of(gateway, agent)) + "/texts"
    output.json_out(gateway.call("POST", path, content={"reason": reason}))


@agents_app.command("show")
def show_agent(
    agent: Annotated[str, typer.Argument(metavar="USER/AGENT")],
    *,
    data_dir: DataDir = None,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """One agent: policy, budget, missions, runs, and its last decisions and why."""
    from supervisor.cli.commands.agent import show_agent

    show_agent(gateway_of(url, data_dir), agent, as_json=as_json)


@missions_app.callback(invoke_without_command=True)
def missions(
    context: typer.Context,
    *,
    user: User = None,
    agent: AgentOf = None,
    has_problems: Annotated[
        bool, typer.Option("--problems", help="What needs somebody, and what helps.")
    ] = False,
    data_dir: DataDir = None,
    url: Url = None,
    limit: Limit = 100,
    as_json: AsJson = False,
) -> None:
    """Missions of all users: what was decided, why, and when each is looked at next."""
    if context.invoked_subcommand is not None:
        return
    from supervisor.cli import output

    gateway = gateway_of(url, data_dir)
    asked = _filter(gateway, user, agent)
    if not has_problems:
        rows = gateway.items("/internal/missions", asked, limit)
        _out(rows, output.MISSIONS, "no missions yet", as_json)
        return
    told = gateway.get("/internal/triage", query=asked | {"limit": str(limit)})["groups"]
    if as_json:
        output.json_out(told)
        return
    for group in told:
        if group["count"]:
            shown = output.part_of(len(group["items"]), group["count"])
            output.line_out(f"{output.TROUBLES[group['kind']]}: {shown}")
            output.table_out(output.TROUBLE, group["items"], "none")
    if not any(group["count"] for group in told):
        output.line_out("nothing needs you")


@missions_app.command("run")
@by_person
def run_mission(
    user: Annotated[str, typer.Argument(metavar="[USER] MISSION", help="USER: as an operator.")],
    mission: Annotated[str | None, typer.Argument(hidden=True)] = None,
    *,
    key: Annotated[str | None, typer.Option(help="Asking twice under one key runs once.")] = None,
    is_waited_for: Annotated[bool, typer.Option("--wait", help="Until there is a plan.")] = False,
    person: PersonOptions,
    as_json: AsJson = False,
) -> None:
    """Run a mission now, once per key."""
    import uuid

    from supervisor.cli import output

    headers = {"Idempotency-Key": key or str(uuid.uuid4())}
    if mission is None:
        from supervisor.cli.commands.own.runs import follow
        from supervisor.cli.commands.own.target import MISSIONS, place_of, whose

        me, place = place_of(MISSIONS, user, person)
        told = me.call("POST", f"{place}/run", headers=headers)
        if as_json:
            output.json_out(told)
        else:
            _, said = whose(user, person.as_user)
            output.line_out(f"{said} runs now (due {output.local_time(told['dueAt'])})")
        if is_waited_for:
            raise typer.Exit(follow(me, place, told["dueAt"], as_json=as_json))
        return
    if is_waited_for:
        raise Failure("--wait: only for a mission of one's own, with --as USER", USAGE)
    path = path_of("/internal/missions", user, mission) + "/run"
    told = gateway_of(person.url, person.data_dir).call("POST", path, headers=headers)
    if as_json:
        output.json_out(told)
    else:
        word = "runs now" if told["created"] else "was asked for under this key already"
        output.line_out(f"{user}: {mission} {word} (due {output.local_time(told['due_at'])})")


@runs_app.callback(invoke_without_command=True)
def runs(
    context: typer.Context,
    *,
    user: User = None,
    agent: AgentOf = None,
    state: Annotated[str | None, typer.Option(help="open, waiting, committed, …")] = None,
    model: Annotated[
        str | None, typer.Option(metavar="PROVIDER/MODEL", help="Of the newest 1,000 runs.")
    ] = None,
    data_dir: DataDir = None,
    url: Url = None,
    limit: Limit = 50,
    as_json: AsJson = False,
) -> None:
    """Runs, the newest first: what each did, took and cost."""
    if context.invoked_subcommand is not None:
        return
    from supervisor.cli import output

    gateway = gateway_of(url, data_dir)
    kind = {k: v for k, v in (("state", state), ("model", model)) if v is not None}
    rows = gateway.items("/internal/runs", _filter(gateway, user, agent) | kind, limit)
    _out(rows, output.RUNS, "no such run" if kind else "nothing has run yet", as_json)


@runs_app.command("show")
@by_person
def show_run(
    run: Annotated[str, typer.Argument(metavar="RUN")],
    *,
    person: PersonOptions,
    as_json: AsJson = False,
) -> None:
    """One run of a person's: why it woke, what it decided, called, read and planned."""
    from supervisor.cli.commands.own.runs import show_run

    show_run(person.client(), run, as_json=as_json)


@app.command()
def tick(
    *,
    is_waited_for: Annotated[bool, typer.Option("--wait", help="Until it is over.")] = False,
    data_dir: DataDir = None,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Look for due missions now."""
    import time

    from supervisor.cli import output

    gateway = gateway_of(url, data_dir)
    query = {"wait": "8"} if is_waited_for else None
    told = gateway.call("POST", "/internal/tick", query=query)
    is_over = "id" not in told
    give_up = time.monotonic() + TICK_WITHIN_S
    while is_waited_for and not is_over:
        if time.monotonic() >= give_up:
            raise Failure(f"tick {told['id']} is not over after {TICK_WITHIN_S:.0f} s")
        report = gateway.get(f"/internal/tick/{told['id']}")
        if report["state"] != "running":
            told, is_over = report["stats"], True
        else:
            time.sleep(0.2)
    if as_json:
        output.json_out(told)
    elif not is_over:
        output.line_out(f"tick {told['id']} begun")
    else:
        output.line_out(f"{told['dueMissionCount']} due, {told['plansWrittenBack']} written back")
        for error in told["errors"]:
            output.line_out(f"  {error}")
    raise typer.Exit(FAILED if is_over and told["errors"] else 0)


def _filter(gateway: "Gateway", user: str | None, agent: str | None = None) -> dict[str, str]:
    if agent is not None and "/" in agent and user is None:
        user, agent = pair_of(gateway, agent)
    return {name: text for name, text in (("user", user), ("agent", agent)) if text is not None}


def _out(rows: Any, columns: Any, nothing: str, as_json: bool) -> None:
    from supervisor.cli import output

    if as_json:
        output.json_out(rows)
    else:
        output.table_out(columns, rows, nothing)
