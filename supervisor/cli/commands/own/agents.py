"""`mana agents new|edit|archive|list|templates`: a person's own agents."""
# ruff: noqa: PLC0415 - a command imports what it needs when called, so that each answers at once

from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import typer

from supervisor.cli.failures import USAGE, Failure
from supervisor.cli.options import As, AsJson, DataDir, TokenFile, Url

PATH = "/api/v1/me/agents"
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
def new_agent(
    name: Annotated[str | None, typer.Argument(help="By default the template's.")] = None,
    *,
    template: Annotated[str | None, typer.Option(help="See mana agents templates.")] = None,
    role: Role = None,
    prompt_file: Prompt = None,
    cap: Cap = None,
    as_user: As = None,
    token_file: TokenFile = None,
    data_dir: DataDir = None,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Make an agent."""
    from uuid import uuid4

    from supervisor.cli import output
    from supervisor.cli.own_client import person_client

    body = {"template": template} | _said(name, role, prompt_file, cap)
    content = {field: value for field, value in body.items() if value is not None}
    me = person_client(as_user, url=url, data_dir=data_dir, token_file=token_file)
    key = {"Idempotency-Key": str(uuid4())}
    made = me.call("POST", PATH, content=content, headers=key)
    if as_json:
        output.json_out(made)
        return
    output.line_out(f"{made['name']} is made: {made['role']}")
    pair = f"{me.get('/api/v1/me')['user']}/{made['name']}"
    output.line_out(
        f'its id is {made["id"]}; next: mana missions new "Plan my week" --for "{pair}"'
    )


@app.command("edit")
def edit_agent(
    agent: Agent,
    *,
    name: Annotated[str | None, typer.Option(help="How it is called.")] = None,
    role: Role = None,
    prompt_file: Prompt = None,
    cap: Cap = None,
    no_cap: Annotated[bool, typer.Option("--no-cap", help="The deployment's default.")] = False,
    as_user: As = None,
    token_file: TokenFile = None,
    data_dir: DataDir = None,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Change what is given, and leave the rest."""
    from supervisor.cli import output
    from supervisor.cli.own_client import person_client

    content: dict[str, Any] = _said(name, role, prompt_file, cap)
    if no_cap:
        content["maxTokensPerDay"] = None
    if not content:
        raise Failure("nothing to change: give --name, --role, --prompt-file or --cap", USAGE)
    user, id_ = whose(agent, as_user)
    me = person_client(user, url=url, data_dir=data_dir, token_file=token_file)
    place = f"{PATH}/{quote(id_of(me, PATH, id_), safe='')}"
    told = me.call("PATCH", place, content=content)
    if as_json:
        output.json_out(told)
    else:
        output.line_out(f"{told['name']} is changed: {', '.join(content)}")


@app.command("archive")
def archive_agent(
    agent: Agent,
    *,
    as_user: As = None,
    token_file: TokenFile = None,
    data_dir: DataDir = None,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Put an agent away: its missions run no more, its plans stay."""
    from supervisor.cli import output
    from supervisor.cli.own_client import person_client

    user, id_ = whose(agent, as_user)
    me = person_client(user, url=url, data_dir=data_dir, token_file=token_file)
    told = me.call("POST", f"{PATH}/{quote(id_of(me, PATH, id_), safe='')}/archive")
    if as_json:
        output.json_out(told)
    else:
        output.line_out(f"{told['name']} is archived")


@app.command("list")
def list_agents(
    *,
    as_user: As = None,
    token_file: TokenFile = None,
    data_dir: DataDir = None,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """One person's agents, by their names."""
    from supervisor.cli import output
    from supervisor.cli.own_client import person_client

    me = person_client(as_user, url=url, data_dir=data_dir, token_file=token_file)
    rows = every_item(me, PATH)
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
def list_templates(
    *,
    as_user: As = None,
    token_file: TokenFile = None,
    data_dir: DataDir = None,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Agents to begin with."""
    from supervisor.cli import output
    from supervisor.cli.own_client import person_client

    me = person_client(as_user, url=url, data_dir=data_dir, token_file=token_file)
    told: dict[str, dict[str, str]] = me.get("/api/v1/me/agent-templates")["templates"]
    if as_json:
        output.json_out(told)
        return
    rows = [{"template": name, **one} for name, one in told.items()]
    columns = (("template", output.field("template")), ("role", output.field("role")))
    output.table_out(columns, rows, "there are none")


def whose(target: str, as_user: str | None) -> tuple[str | None, str]:
    """The person and the id in USER/ID, or in ID with --as USER; raises Failure where both differ.

    Ids of ours hold no slash; where the person is named, all of the rest is the id.
    """
    if as_user is not None:
        return as_user, target.removeprefix(f"{as_user}/")
    user, slash, id_ = target.partition("/")
    return (user, id_) if slash and id_ else (None, target)


def id_of(me: Any, path: str, said: str) -> str:
    """The id of the one agent or mission that has this id, else this name or title.

    Raises Failure where several have it; what nobody has stays as it is, for the gateway to refuse.
    """
    if me.has(f"{path}/{quote(said, safe='')}"):
        return said
    named = [
        row["id"] for row in every_item(me, path) if said in (row.get("name"), row.get("title"))
    ]
    if len(named) > 1:
        raise Failure(f"{len(named)} are called {said}: name one by its id", USAGE)
    return named[0] if named else said


def every_item(me: Any, path: str) -> list[dict[str, Any]]:
    """All items of a list, over as many pages as that takes."""
    rows: list[dict[str, Any]] = []
    after: str | None = None
    while True:
        page = me.get(path, {"limit": "200"} | ({} if after is None else {"after": after}))
        rows += page["items"]
        after = page["after"]
        if after is None:
            return rows


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
