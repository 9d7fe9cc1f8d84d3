"""`mana missions new|edit|pause|resume|cancel|comment|show|delete|list`: a person's own."""
# ruff: noqa: PLC0415 - a command imports what it needs when called, so that each answers at once

from typing import Annotated, Any, Literal

import typer

from mana_actors.http.paths import path_of
from supervisor.cli.commands.own.target import AGENTS, MISSIONS, PAGE, id_of, place_of, whose
from supervisor.cli.failures import USAGE, Failure
from supervisor.cli.options import AsJson, PersonOptions, by_person

app = typer.Typer()

Mission = Annotated[str, typer.Argument(metavar="MISSION", help="Its id or title, or USER/ID.")]
For = Annotated[
    str | None, typer.Option("--for", help="Which agent, by id or name.", metavar="USER/AGENT")
]
Every = Annotated[
    str | None,
    typer.Option(help='manual, "30 minutes", "daily 07:00", "mon 07:00" or cron: "0 7 * * 1".'),
]
Read = Annotated[
    str | None, typer.Option(help="What it reads: goals,notes:ID.", metavar="MODULE[:ID],…")
]
Objective = Annotated[str | None, typer.Option(help="What it is after; by default its title.")]
Missed = Annotated[
    Literal["one", "none"] | None,
    typer.Option(help="What becomes of runs that were missed: one now, or none."),
]


@app.command("new")
@by_person
def new_mission(
    title: str,
    *,
    agent: For = None,
    every: Every = None,
    read: Read = None,
    objective: Objective = None,
    missed: Missed = None,
    person: PersonOptions,
    as_json: AsJson = False,
) -> None:
    """Make a mission, and print when it runs next."""
    from uuid import uuid4

    user, agent_id = (person.as_user, None) if agent is None else whose(agent, person.as_user)
    me = person._replace(as_user=user).client()
    if agent_id is not None:
        agent_id = id_of(me, AGENTS, agent_id)
    content = {"title": title} | _said(agent_id, every, read, objective, missed)
    made = me.call("POST", MISSIONS, content=content, headers={"Idempotency-Key": str(uuid4())})
    _out(made, f"{made['title']} is made: {made['id']}", as_json=as_json)


@app.command("edit")
@by_person
def edit_mission(
    mission: Mission,
    *,
    title: Annotated[str | None, typer.Option(help="How it is called.")] = None,
    agent: For = None,
    every: Every = None,
    read: Read = None,
    objective: Objective = None,
    missed: Missed = None,
    person: PersonOptions,
    as_json: AsJson = False,
) -> None:
    """Change what is given, and leave the rest."""
    user, _ = whose(mission, person.as_user)
    agent_id = None if agent is None else whose(agent, user)[1]
    content = _said(agent_id, every, read, objective, missed)
    if title is not None:
        content["title"] = title
    if not content:
        raise Failure("nothing to change: give --title, --every, --read, …", USAGE)
    me, place = place_of(MISSIONS, mission, person)
    if agent_id is not None:
        content["agentId"] = id_of(me, AGENTS, agent_id)
    told = me.call("PATCH", place, content=content)
    _out(told, f"{told['title']} is changed: {', '.join(content)}", as_json=as_json)


@app.command("pause")
@by_person
def pause_mission(
    mission: Mission,
    *,
    person: PersonOptions,
    as_json: AsJson = False,
) -> None:
    """Nothing runs until it is resumed; a run under way is withdrawn."""
    me, place = place_of(MISSIONS, mission, person)
    told = me.call("POST", f"{place}/pause")
    _out(told, f"{told['title']} is paused", as_json=as_json)


@app.command("resume")
@by_person
def resume_mission(
    mission: Mission,
    *,
    person: PersonOptions,
    as_json: AsJson = False,
) -> None:
    """It runs again, next when its cadence says from now on."""
    me, place = place_of(MISSIONS, mission, person)
    told = me.call("POST", f"{place}/resume")
    _out(told, f"{told['title']} is active", as_json=as_json)


@app.command("cancel")
@by_person
def cancel_run(
    mission: Mission,
    *,
    run: Annotated[str | None, typer.Option(help="Which, else the one under way.")] = None,
    person: PersonOptions,
    as_json: AsJson = False,
) -> None:
    """End its run; what that used stays charged, and its due time counts as served."""
    from supervisor.cli import output

    me, place = place_of(MISSIONS, mission, person)
    told = me.call("POST", f"{place}/cancel", content={} if run is None else {"runId": run})
    if as_json:
        output.json_out(told)
        return
    word = "is cancelled" if told["changed"] else "was cancelled before"
    output.line_out(f"the run {told['runId']} of {told['missionId']} {word}")


@app.command("comment")
@by_person
def comment_on_plan(
    mission: Mission,
    words: Annotated[str, typer.Argument(help="What should be otherwise.")],
    *,
    person: PersonOptions,
    as_json: AsJson = False,
) -> None:
    """Say something about its newest plan; the agent reads it before the next."""
    from uuid import uuid4

    from supervisor.cli import output
    from supervisor.cli.commands.own.runs import plans

    me, place = place_of(MISSIONS, mission, person)
    newest = next(iter(plans(me, place, 1)), None)
    if newest is None:
        raise Failure("it has no plan yet")
    told = me.call(
        "POST",
        f"{place}{path_of('/iterations', newest['id'])}/feedback",
        content={"words": words},
        headers={"Idempotency-Key": str(uuid4())},
    )
    if as_json:
        output.json_out(told)
    else:
        output.line_out(f"the agent will read it before the next plan of {told['missionId']}")


@app.command("delete")
@by_person
def delete_mission(
    mission: Mission,
    *,
    person: PersonOptions,
    as_json: AsJson = False,
) -> None:
    """Hide it on every device; a run under way is withdrawn."""
    from supervisor.cli import output

    me, place = place_of(MISSIONS, mission, person)
    told = me.call("DELETE", place)
    if as_json:
        output.json_out(told)
    else:
        output.line_out(f"{told['id']} is deleted")


@app.command("show")
@by_person
def show_mission(
    mission: Mission,
    *,
    has_plan: Annotated[bool, typer.Option("--plan", help="With its newest plan.")] = False,
    person: PersonOptions,
    as_json: AsJson = False,
) -> None:
    """One mission: what it is after, what it reads, when it runs."""
    from supervisor.cli import output
    from supervisor.cli.commands.own.runs import plans, show_plan

    me, place = place_of(MISSIONS, mission, person)
    told = me.get(place)
    made = plans(me, place, 1) if has_plan else []
    if as_json:
        output.json_out(told | ({"plan": next(iter(made), None)} if has_plan else {}))
        return
    head = f"{told['title'] or 'a sealed title'}: {told['state']}, {told['every'] or 'no cadence'}"
    _out(told, head, as_json=False, whole=True)
    for plan in made:
        show_plan(plan)
    if has_plan and not made:
        output.line_out("no plan yet")


@app.command("list")
@by_person
def list_missions(
    *,
    person: PersonOptions,
    as_json: AsJson = False,
) -> None:
    """One person's missions, by their titles."""
    from supervisor.cli import output

    me = person.client()
    rows = me.items(MISSIONS, {}, page_size=PAGE)
    if as_json:
        output.json_out(rows)
        return
    columns = (
        ("title", output.field("title")),
        ("state", output.field("state")),
        ("every", output.field("every")),
        ("next run", output.when("nextRunAt")),
        ("agent", output.field("agentId")),
        ("id", output.field("id")),
    )
    output.table_out(columns, rows, 'no missions yet: mana missions new "Plan my week"')


def _said(
    agent_id: str | None,
    every: str | None,
    read: str | None,
    objective: str | None,
    missed: str | None,
) -> dict[str, Any]:
    words = None if read is None else [word for word in read.split(",") if word.strip()]
    said = {
        "agentId": agent_id,
        "every": every,
        "read": words,
        "objective": objective,
        "missedRuns": missed,
    }
    return {field: value for field, value in said.items() if value is not None}


def _out(told: dict[str, Any], head: str, *, as_json: bool, whole: bool = False) -> None:
    from supervisor.cli import output

    if as_json:
        output.json_out(told)
        return
    output.line_out(output.shown(head))
    if whole:
        output.line_out(f"  for {told['agentId']}: {output.shown(told['objective'])}")
        for ref in told["inputs"]:
            output.line_out(f"  reads {output.shown(ref['module'])}:{output.shown(ref['id'])}")
    for note in (*told["notes"], *told["problems"]):
        output.line_out(f"  {output.shown(note)}")
    if told["nextRuns"]:
        output.line_out(f"next runs ({told['timeZone']}):")
        for run in told["nextRuns"]:
            output.line_out(f"  {run['local']}")
    elif told["state"] == "active":
        output.line_out(f"it runs when asked: mana missions run {told['id']}")
