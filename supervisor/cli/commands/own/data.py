"""`mana data`: a person's records as the log says they are now, and who wrote what."""
# ruff: noqa: PLC0415 - a command imports what it needs when called, so that each answers at once

from typing import Annotated

import typer

from supervisor.cli.options import As, AsJson, DataDir, Limit, TokenFile, Url

app = typer.Typer(help="A person's records, and who wrote what.", no_args_is_help=True)


@app.command("list")
def list_data(
    module: Annotated[str | None, typer.Argument(help="todo, notes, calendar, …")] = None,
    *,
    table: Annotated[str | None, typer.Option(help="Only of this table.")] = None,
    person: As = None,
    token_file: TokenFile = None,
    data_dir: DataDir = None,
    url: Url = None,
    limit: Limit = 100,
    as_json: AsJson = False,
) -> None:
    """Which modules hold something, or the records of one."""
    from supervisor.cli.commands.own import records as own_records
    from supervisor.cli.own_client import person_client

    client = person_client(person, url=url, data_dir=data_dir, token_file=token_file)
    if module is None:
        own_records.show_modules(client, as_json=as_json)
    else:
        own_records.show_records(client, module, table, limit, as_json=as_json)


@app.command("show")
def show_data(
    module: str,
    table: str,
    record: Annotated[str, typer.Argument(metavar="ID")],
    *,
    person: As = None,
    token_file: TokenFile = None,
    data_dir: DataDir = None,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """One record: each field, who wrote it and when."""
    from supervisor.cli.commands.own import records as own_records
    from supervisor.cli.own_client import person_client

    client = person_client(person, url=url, data_dir=data_dir, token_file=token_file)
    own_records.show_record(client, (module, table, record), as_json=as_json)
