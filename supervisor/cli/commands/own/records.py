"""A person's records as tables."""

from typing import Any

import msgspec

from mana_actors.http.paths import path_of
from supervisor.cli import output
from supervisor.cli.commands.own.target import PAGE
from supervisor.cli.gateway_client import Gateway

DATA = "/api/v1/me/data"
TIMELINE = "/api/v1/me/timeline"
MOST_CHARS = 80
NAMED_BY = ("title", "name", "content", "description")
"""The fields that tell people which record it is, the first that is there."""


def show_modules(client: Gateway, *, as_json: bool) -> None:
    """Which modules hold something, and how much."""
    modules: list[dict[str, Any]] = client.get(DATA)["items"]
    rows = [{"module": each["module"], **table} for each in modules for table in each["tables"]]
    if as_json:
        output.json_out(rows)
    else:
        output.table_out(MODULES, rows, "nothing is kept yet")


def show_records(
    client: Gateway, module: str, table: str | None, limit: int, *, as_json: bool
) -> None:
    """The records of a module, or of one of its tables."""
    query = {} if table is None else {"table": table}
    rows = client.items(path_of(DATA, module), query, limit, page_size=PAGE)
    if as_json:
        output.json_out(rows)
    else:
        output.table_out(RECORDS, rows, f"nothing is kept in {module}")


def show_record(client: Gateway, place: tuple[str, str, str], *, as_json: bool) -> None:
    """Each field of a record by module, table and id, who wrote it and when."""
    told = client.get(path_of(DATA, *place))
    if as_json:
        output.json_out(told)
        return
    fields: dict[str, Any] = told.get("fields", {})
    rows = [{"field": name, **field} for name, field in fields.items()]
    output.table_out(FIELDS, rows, "it is too large to show")


def show_timeline(client: Gateway, wanted: dict[str, str], limit: int, *, as_json: bool) -> None:
    """Who did what, the newest first."""
    rows = client.items(TIMELINE, wanted, limit, page_size=PAGE)
    if as_json:
        output.json_out(rows)
    else:
        output.table_out(DEEDS, rows, "nobody did anything yet")


def _named(row: output.Row) -> str:
    if row.get("tooLarge"):
        return "too large to show"
    fields: dict[str, Any] = row["fields"]
    return next((_short(fields[name]) for name in NAMED_BY if fields.get(name)), "—")


def _author(row: output.Row) -> str:
    return output.shown(row["updatedBy"]["actor"]["displayName"] if row.get("updatedBy") else None)


def _short(value: object) -> str:
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    text = output.shown(text)
    return text if len(text) <= MOST_CHARS else f"{text[:MOST_CHARS]}…"


MODULES: tuple[output.Column, ...] = (
    ("module", output.field("module")),
    ("table", output.field("table")),
    ("records", output.field("records")),
)
RECORDS: tuple[output.Column, ...] = (
    ("table", output.field("table")),
    ("id", output.field("id")),
    ("record", _named),
    ("changed", output.when("updatedAt")),
    ("by", _author),
)
FIELDS: tuple[output.Column, ...] = (
    ("field", output.field("field")),
    ("value", lambda row: _short(row["value"])),
    ("since", output.when("at")),
    ("by", lambda row: output.shown(row["actor"]["displayName"])),
    ("as", output.field("origin")),
)
DEEDS: tuple[output.Column, ...] = (
    ("at", output.when("at")),
    ("by", lambda row: output.shown(row["actor"]["displayName"])),
    ("as", output.field("origin")),
    ("did", output.field("op")),
    ("module", output.field("module")),
    ("table", output.field("table")),
    ("record", output.field("record")),
    ("fields", lambda row: _short(", ".join(row["fields"]))),
)
