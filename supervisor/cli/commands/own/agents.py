"""`mana agents new|edit|archive|list|templates`: a person's own agents."""
# ruff: noqa: PLC0415 - a command imports what it needs when called, so that each answers at once

from pathlib import Path
from typing import Annotated, Any

import typer

from supervisor.cli.commands.own.target import AGENTS, PAGE, place_of
from supervisor.cli.failures import USAGE, Failure
from supervisor.cli.options import AsJson, PersonOptions, by_person

app = typer.Typer()

Agent = Annotated[
    str, typer.Argument(metavar="USER/AGENT", help="By id or name; or AGENT, with --as USER.")
]
Role = Annotated[str | None, typer.Option(help="What it is there for, in one line.")]
Prompt = Annotated[
    str | None, typer.Option("--prompt-file", help="What it is told first.", metavar="FILE")
]
Cap = Annotated[int | None, typer.Option(help="Tokens a day at most.", min=0)]


@app.command("new")
@by_person
def new_agent(
    name: Annotated[str | None, typer.Argument(help="By default the template's.")] = None,
    *,
    template: Annotated[str | None, typer.Option(help="See mana agents templates.")] = None,
    role: Role = None,
    prompt_file: Prompt = None,
    cap: Cap = None,
    person: PersonOptions,
    as_json: AsJson = False,
) -> None:
    """Make an agent."""
    from uuid import uuid4

    from supervisor.cli import output

    body = {"template": template} | _said(name, role, prompt_file, cap)
    content = {field: value for field, value in body.items() if value is not None}
    me = person.client()
    key = {"Idempotency-Key": str(uuid4())}
    made = me.call("POST", AGENTS, content=content, headers=key)
    if as_json:
        output.json_out(made)
        return
    output.line_out(f"{made['name']} is made: {made['role']}")
    pair = f"{me.get('/api/v1/me')['user']}/{made['name']}"
    output.line_out(
        f'its id is {made["id"]}; next: mana missions new "Plan my week" --for "{pair}"'
    )


@app.command("edit")
@by_person
def edit_agent(
    agent: Agent,
    *,
    name: Annotated[str | None, typer.Option(help="How it is called.")] = None,
    role: Role = None,
    prompt_file: Prompt = None,
    cap: Cap = None,
    no_cap: Annotated[bool, typer.Option("--no-cap", help="The deployment's default.")] = False,
    person: PersonOptions,
    as_json: AsJson = False,
) -> None:
    """Change what is given, and leave the rest."""
    from supervisor.cli import output

    content: dict[str, Any] = _said(name, role, prompt_file, cap)
    if no_cap:
        content["maxTokensPerDay"] = None
    if not content:
        raise Failure("nothing to change: give --name, --role, --prompt-file or --cap", USAGE)
    me, place = place_of(AGENTS, agent, person)
    told = me.call("PATCH", place, content=content)
    if as_json:
        output.json_out(told)
    else:
        output.line_out(f"{told['name']} is changed: {', '.join(content)}")


@app.command("archive")
@by_person
def archive_agent(
    agent: Agent,
    *,
    person: PersonOptions,
    as_json: AsJson = False,
) -> None:
    """Put an agent away: its missions run no more, its plans stay."""
    from supervisor.cli import output

    me, place = place_of(AGENTS, agent, person)
    told = me.call("POST", f"{place}/archive")
    if as_json:
        output.json_out(told)
    else:
        output.line_out(f"{told['name']} is archived")


@app.command("list")
@by_person
def list_agents(
    *,
    person: PersonOptions,
    as_json: AsJson = False,
) -> None:
    """One person's agents, by their names."""
    from supervisor.cli import output

    me = person.client()
    rows = me.items(AGENTS, {}, page_size=PAGE)
    if as_json:
        output.json_out(rows)
        return
    columns = (
        ("name", output.field("name")),
        ("role", output.field("role")),
        ("state", output.field("state")),
        ("tokens a day", output.field("maxTokensPerDay")),
        ("id", output.field("id")),
    )
    output.table_out(columns, rows, "no agents yet: mana agents new --template planner")


@app.command("templates")
@by_person
def list_templates(
    *,
    person: PersonOptions,
    as_json: AsJson = False,
) -> None:
    """Agents to begin with."""
    from supervisor.cli import output

    me = person.client()
    told: dict[str, dict[str, str]] = me.get("/api/v1/me/agent-templates")["templates"]
    if as_json:
        output.json_out(told)
        return
    rows = [{"template": name, **one} for name, one in told.items()]
    columns = (("template", output.field("template")), ("role", output.field("role")))
    output.table_out(columns, rows, "there are none")


def _said(
    name: str | None, role: str | None, prompt_file: str | None, cap: int | None
) -> dict[str, Any]:
    said: dict[str, Any] = {"name": name, "role": role, "maxTokensPerDay": cap}
    if prompt_file is not None:
        try:
            said["systemPrompt"] = Path(prompt_file).read_text("utf-8")
        except (OSError, UnicodeDecodeError) as exc:
            raise Failure(f"{prompt_file}: cannot be read as text", USAGE) from exc
    return {field: value for field, value in said.items() if value is not None}
