"""How the demo looks: a table that fills as missions wake, then what their owners' clients show."""

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager

import msgspec
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from mana_actors.client import ShownRecord
from mana_actors.client.local.kept import REPLAYED
from supervisor.demo.facts import MissionFacts
from supervisor.demo.story import MISSIONS, RAN, WAITED

Show = Callable[[Sequence[MissionFacts], int], None]
TITLES = {(mission.user, mission.id): mission.title for mission in MISSIONS}


class Stage:
    """Where it is shown: stdout, or stderr where stdout is for a program."""

    def __init__(self, *, is_quiet: bool) -> None:
        self._console = Console(stderr=is_quiet, highlight=False)
        if not self._console.is_terminal:
            self._console.width = 180

    @contextmanager
    def table(self) -> Generator[Show]:
        """A function that shows how things stand; each decision as a line where nobody looks on."""
        if self._console.is_terminal:
            with Live(console=self._console, refresh_per_second=8) as live:
                yield lambda facts, quarantined: live.update(_table(facts, quarantined))
            return
        last: list[tuple[Sequence[MissionFacts], int]] = []

        def show(facts: Sequence[MissionFacts], quarantined: int) -> None:
            before = last[-1][0] if last else ()
            known = {(each.user, each.mission): len(each.decisions) for each in before}
            for each in facts:
                for decision in each.decisions[known.get((each.user, each.mission), 0) :]:
                    why = f" ({each.reason})" if each.reason and decision != RAN else ""
                    line = f"  {each.user}/{each.agent} {each.mission}: {decision}{why}"
                    self._console.print(Text(line))
            last[:] = [(facts, quarantined)]

        yield show
        if last:
            self._console.print(_table(*last[-1]))

    def records(self, shown: Mapping[str, Sequence[ShownRecord]]) -> None:
        """The missions as each person's client shows them, as far as others wrote them."""
        self._console.print(Text("\nWhat their owners' clients were sent:", "bold"))
        for user, records in shown.items():
            for record in records:
                sent = {
                    name: {"value": record[name], "at": meta.at, "actor": meta.actor}
                    for name, meta in record.field_meta.items()
                    if meta.origin == REPLAYED
                }
                if sent:
                    raw = msgspec.json.encode({"id": record.id, "fields": sent})
                    text = msgspec.json.format(raw, indent=0).decode()
                    line = Text.assemble((f"{user}  ", "bold"), text)
                    self._console.print(line, overflow="fold")


def _table(missions: Sequence[MissionFacts], quarantined: int) -> Table:
    table = Table(
        title="Eight missions of three people",
        caption=f"{quarantined} row set aside: its data is no object" if quarantined else None,
        title_justify="left",
        caption_justify="left",
    )
    for name in ("person", "agent", "mission", "decision", "why"):
        table.add_column(name, overflow="fold")
    for name in ("steps", "tokens", "woke after", "next run"):
        table.add_column(name, justify="right")
    for facts in missions:
        style = {RAN: "green", WAITED: "yellow", None: "dim"}.get(facts.decision, "magenta")
        decision = " → ".join(facts.decisions) or "not due yet"
        cells = (
            Text(facts.user),
            Text(facts.agent),
            Text(TITLES[facts.user, facts.mission]),
            Text(decision, style),
            Text(facts.reason or ""),
            Text(str(facts.steps) if facts.iterations else "—"),
            Text(f"{facts.tokens:,}" if facts.tokens else "—"),
            Text("—" if facts.wake_ms is None else f"{facts.wake_ms} ms"),
            Text((facts.next_run_at or "—")[:16].replace("T", " ")),
        )
        table.add_row(*cells)
    return table
