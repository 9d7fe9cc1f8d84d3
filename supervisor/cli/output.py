"""What commands print: JSON for programs, tables for people."""

import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from state.runs.reasons import in_words, label

Row = Mapping[str, Any]
Column = tuple[str, Callable[[Row], str]]


def json_out(content: object) -> None:
    """JSON on stdout, indented where a person looks on."""
    raw = msgspec.json.encode(content)
    if sys.stdout.isatty():
        raw = msgspec.json.format(raw)
    sys.stdout.write(raw.decode() + "\n")


def table_out(columns: Sequence[Column], rows: Sequence[Row], nothing: str) -> None:
    """A table on stdout; plain and whole where nobody looks on."""
    from rich.box import SIMPLE_HEAD  # noqa: PLC0415 - slow to load, needed only here
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    if not rows:
        line_out(nothing)
        return
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for title, _ in columns:
        table.add_column(title, overflow="fold")
    for row in rows:
        # Text, not markup: an id may hold brackets.
        table.add_row(*(Text(cell(row)) for _, cell in columns))
    width = None if sys.stdout.isatty() else 400
    Console(width=width, highlight=False).print(table)


def line_out(line: str) -> None:
    """A line on stdout, with control characters made visible: ids are other people's."""
    sys.stdout.write("".join(c if c.isprintable() else repr(c)[1:-1] for c in line) + "\n")


def field(name: str) -> Callable[[Row], str]:
    """A cell that shows a field."""
    return lambda row: shown(row.get(name))


def why(row: Row) -> str:
    """A cell that says what happened, what happens next and what can be done."""
    return shown(in_words(row.get("reason")) or None)


def decided(name: str) -> Callable[[Row], str]:
    """A cell that shows a decision, or a run's state, in words."""
    return lambda row: shown(label(row.get(name)) or None)


def when(name: str) -> Callable[[Row], str]:
    """A cell that shows an instant as local time."""
    return lambda row: local_time(row.get(name))


def part_of(shown_rows: int, all_rows: int) -> str:
    """How many of how many; counting stops at 1,001."""
    count = f"{all_rows:,}" if all_rows <= 1000 else "over 1,000"
    return f"{shown_rows:,} of {count}"


def pair(row: Row) -> str:
    """An agent's name everywhere: USER/AGENT, since one agent id is everybody's."""
    return f"{row['user_id']}/{row['agent_id']}"


def shown(value: object) -> str:
    """A value in a table."""
    if value is None or value == []:
        return "—"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, list):
        return ", ".join(map(str, value))  # pyright: ignore[reportUnknownArgumentType]
    return "".join(c if c.isprintable() else "�" for c in str(value))


def local_time(text: str | None) -> str:
    """An instant in the terminal's zone: the time today, else with its date."""
    if text is None:
        return "—"
    moment = datetime.fromisoformat(text).astimezone()
    is_today = moment.date() == datetime.now(UTC).astimezone().date()
    return moment.strftime("%H:%M:%S" if is_today else "%Y-%m-%d %H:%M")


MISSIONS: tuple[Column, ...] = (
    ("user", field("user_id")),
    ("mission", field("mission_id")),
    ("agent", field("agent_id")),
    ("state", field("state")),
    ("decision", decided("decision")),
    ("why", why),
    ("next run", when("next_run_at")),
    ("next look", when("wake_at")),
)
AGENTS: tuple[Column, ...] = (
    ("agent", pair),
    ("state", field("state")),
    ("running", lambda row: f"{row['running']} of {row['max_concurrent']}"),
    ("tokens 24 h", field("used_24h")),
    ("held", field("held")),
    ("cap", field("cap")),
    ("set by", field("cap_source")),
    ("problems", field("problems")),
)
RUNS: tuple[Column, ...] = (
    ("run", field("run_id")),
    ("user", field("user_id")),
    ("mission", field("mission_id")),
    ("state", field("state")),
    ("due", when("due_at")),
    ("began", when("opened_at")),
    ("ended", when("closed_at")),
    ("attempt", field("attempt")),
    ("steps", field("steps")),
    ("tokens", field("tokens")),
    ("why", why),
)
TROUBLES = {
    "stuck": "stuck",
    "failed": "failed for good",
    "overdue": "overdue",
    "budget": "blocked by budget",
    "grant": "blocked by a grant",
    "damaged": "cannot run as they are",
    "quarantined": "rows set aside",
}
TROUBLE: tuple[Column, ...] = (
    ("agent", lambda row: pair(row) if row["agent_id"] else shown(row["user_id"])),
    ("mission", field("mission_id")),
    ("id", field("id")),
    ("since", when("since")),
    ("what", decided("word")),
    ("why", why),
    ("what helps", field("remedy")),
)
ALIASES: tuple[Column, ...] = (
    ("alias", field("name")),
    ("chain", lambda row: " > ".join(row["chain"])),
)
PROVIDERS: tuple[Column, ...] = (
    ("provider", field("provider")),
    ("state", field("status")),
    ("failures", field("consecutive_failures")),
    ("last error", field("last_error")),
    ("not asked until", field("until")),
)


def _ability(row: Row, name: str) -> str:
    """A value, and who told it."""
    told = row["abilities"].get(name)
    return "not told" if told is None else f"{shown(told)} ({row['told_by'][name]})"


def _manners(row: Row) -> str:
    names = [n for n in row["abilities"] if n not in ("context", "tools", "vision")]
    return "; ".join(f"{name} {_ability(row, name)}" for name in names) or "—"


def _price(price: Row | None) -> str:
    if price is None:
        return "none"
    return f"{price['prompt']:g} + {price['completion']:g}"


MODELS: tuple[Column, ...] = (
    ("model", field("name")),
    ("context", lambda row: _ability(row, "context")),
    ("tools", lambda row: _ability(row, "tools")),
    ("price", lambda row: _price(row.get("price"))),
    ("asked differently", _manners),
)


def _verdict(row: Row) -> str:
    if not row["ok"]:
        return "PROBLEM"
    return "warning" if row.get("warning") else "ok"


CHECKS: tuple[Column, ...] = (
    ("", _verdict),
    ("check", field("check")),
    ("found", field("detail")),
    ("what helps", lambda row: "" if _verdict(row) == "ok" else shown(row["remedy"])),
)
