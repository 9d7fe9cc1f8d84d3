"""`python -m tests.bench [NAME…] [--json] [--quick]`: progress on stderr, one table at the end."""

import argparse
import asyncio
import signal
import sys
import time
from collections.abc import Awaitable, Sequence
from contextlib import redirect_stdout
from importlib import import_module
from typing import Protocol

import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tests.bench.figures import Figure, Say


class Bench(Protocol):
    """Measures in an installation of its own."""

    def __call__(self, say: Say, *, quick: bool) -> Awaitable[list[Figure]]: ...


BENCHES = {
    "fold": "fold",
    "tick": "quiet_tick",
    "poll": "idle_poll",
    "transactions": "transactions",
    "run": "run_cost",
    "item": "item_cost",
    "keys": "keys",
    "delay": "delay",
    "wake": "wake",
    "memory": "memory",
    "starts": "starts",
    "herd": "herd",
    "crowd": "crowd",
    "router": "router",
    "prompt": "prompt",
    "growth": "growth",
    "sync": "sync",
    "pages": "pages",
}
"""Name to module, which is imported when it is asked for: so the folder also measures a release
in which another bench's parts are missing."""


def main(arguments: Sequence[str]) -> int:
    """0 when every bench ran, whatever it found; 1 when one broke, 130 when it was interrupted."""
    asked = _asked(arguments)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that everything is cleaned up
    try:
        found, broken = _measured(asked.names or list(BENCHES), quick=asked.quick)
    except KeyboardInterrupt:
        return 130
    if asked.json:
        print(msgspec.json.encode(found).decode())
    else:
        _show(found)
    return 1 if broken else 0


def _measured(names: Sequence[str], *, quick: bool) -> tuple[list[Figure], int]:
    """What the benches found, and how many broke."""
    found: list[Figure] = []
    broken = 0
    for name in names:
        try:
            with redirect_stdout(sys.stderr):  # Ray warns on stdout
                found += asyncio.run(_run(name, quick=quick))
        except Exception:  # noqa: BLE001 - one broken bench must not cost the others' figures
            broken += 1
            Console(stderr=True).print_exception()
    return found, broken


def _asked(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(BENCHES)}")
    parser.add_argument("--json", action="store_true", help="figures for a program, on stdout")
    parser.add_argument("--quick", action="store_true", help="fewer rows and rounds: a first idea")
    asked = parser.parse_args(arguments)
    unknown = sorted(set(asked.names) - set(BENCHES))
    if unknown:
        parser.error(f"no bench is named {', '.join(unknown)}; there are {', '.join(BENCHES)}")
    return asked


async def _run(name: str, *, quick: bool) -> list[Figure]:
    began = time.monotonic()

    def say(what: str) -> None:
        print(f"{name} {time.monotonic() - began:5.0f} s  {what}", file=sys.stderr, flush=True)

    bench: Bench = import_module(f"tests.bench.{BENCHES[name]}").measure
    found = await bench(say, quick=quick)
    for figure in found:
        say(_line(figure))
    return found


def _line(figure: Figure) -> str:
    ratio = "" if figure.ratio is None else f", {_number(figure.ratio)}x {figure.beside}"
    return f"{figure.name}: {_value(figure)}{ratio}"


def _value(figure: Figure) -> str:
    """The figure in its unit, and how far it spread."""
    value = f"{_number(figure.value)} {figure.unit}".rstrip()
    if figure.low is None or figure.high is None:
        return value
    return f"{value} ({_number(figure.low)} to {_number(figure.high)})"


def _show(found: Sequence[Figure]) -> None:
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 190
    table = Table(title="Measured side by side in this run, medians", title_justify="left")
    for name in ("what", "measured", "compared with"):
        table.add_column(name, overflow="fold")
    for name in ("ratio", "target", "met"):
        table.add_column(name, justify="right")
    for figure in found:
        table.add_row(*_cells(figure))
    console.print(table)


def _cells(figure: Figure) -> list[Text]:
    other = "" if figure.other is None else f"{_number(figure.other)} {figure.unit}: "
    met = {True: Text("yes", "green"), False: Text("NO", "red"), None: Text("-")}[figure.met]
    return [
        Text(figure.name),
        Text(_value(figure)),
        Text(other + figure.beside),
        Text("-" if figure.ratio is None else f"{_number(figure.ratio)}x"),
        Text(figure.target or "-"),
        met,
    ]


def _number(value: float) -> str:
    """Three digits that matter."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
