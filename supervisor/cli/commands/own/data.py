"""`mana data`: a person's records as the log says they are now, and who wrote what when."""
# ruff: noqa: PLC0415 - a command imports what it needs when called, so that each answers at once

from typing import Annotated

import typer

from supervisor.cli.options import AsJson, Limit, PersonOptions, by_person

app = typer.Typer(help="A person's records, and who wrote what.", no_args_is_help=True)


@app.command("list")
@by_person
def list_data(
    module: Annotated[str | None, typer.Argument(help="todo, notes, calendar, …")] = None,
    *,
    table: Annotated[str | None, typer.Option(help="Only of this table.")] = None,
    person: PersonOptions,
    limit: Limit = 100,
    as_json: AsJson = False,
) -> None:
    """Which modules hold something, or the records of one."""
    from supervisor.cli.commands.own import records as own_records

    client = person.client()
    if module is None:
        own_records.show_modules(client, as_json=as_json)
    else:
        own_records.show_records(client, module, table, limit, as_json=as_json)


@app.command("show")
@by_person
def show_data(
    module: str,
    table: str,
    record: Annotated[str, typer.Argument(metavar="ID")],
    *,
    person: PersonOptions,
    as_json: AsJson = False,
) -> None:
    """One record: each field, who wrote it and when."""
    from supervisor.cli.commands.own import records as own_records

    client = person.client()
    own_records.show_record(client, (module, table, record), as_json=as_json)


@app.command("timeline")
@by_person
def show_timeline(
    *,
    module: Annotated[str | None, typer.Option(help="Only of this module: todo, notes, …")] = None,
    table: Annotated[str | None, typer.Option(help="Only of this table.")] = None,
    record: Annotated[str | None, typer.Option(help="Only of the record with this id.")] = None,
    kind: Annotated[str | None, typer.Option(help="Only of these: user, ai or system.")] = None,
    principal: Annotated[str | None, typer.Option(help="Only of this one, by id.")] = None,
    person: PersonOptions,
    limit: Limit = 50,
    as_json: AsJson = False,
) -> None:
    """Who did what, the newest first."""
    from supervisor.cli.commands.own import records as own_records

    client = person.client()
    given = {
        "module": module,
        "table": table,
        "record": record,
        "kind": kind,
        "principal": principal,
    }
    wanted = {name: value for name, value in given.items() if value is not None}
    own_records.show_timeline(client, wanted, limit, as_json=as_json)
