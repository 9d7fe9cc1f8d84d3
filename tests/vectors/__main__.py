"""`python -m tests.vectors DIR`: run the suite files of a folder; exit 1 on a failing case."""

from __future__ import annotations

import logging
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec

from tests.vectors.overrides import OVERRIDES
from tests.vectors.suites import SUITES
from tests.vectors.verdict import Case, Outcome

Results = list[tuple[str, Outcome]]


class SuiteFileError(Exception):
    """A suite file that cannot be read."""


def load(path: Path) -> list[Case]:
    """The cases of one suite file; keys that its `about` names join the inputs."""
    try:
        suite: Any = msgspec.json.decode(path.read_bytes())
        named = {"keys": suite["about"]["keys"]} if "keys" in suite.get("about", {}) else {}
        return [
            {"name": case["name"], "input": case["input"] | named, "expected": case["expected"]}
            for case in suite["cases"]
        ]
    except (OSError, msgspec.DecodeError, KeyError, TypeError) as exc:
        raise SuiteFileError(f"{path}: not a suite file ({type(exc).__name__})") from exc


def run(suite: str, path: Path) -> Results:
    """The outcome of every case in a suite's file."""
    return [(case["name"], SUITES[suite](case)) for case in load(path)]


def report(suite: str, results: Results) -> bool:
    """Print a suite's counts, overrides with their rules, and failures; whether nothing failed."""
    counts = Counter(outcome.status for _, outcome in results)
    names = ("passed", "overridden", "failed")
    print(f"{suite}: " + ", ".join(f"{name} {counts[name]}" for name in names))
    rules = {override.name: override.rule for override in OVERRIDES.get(suite, ())}
    overridden = [outcome for _, outcome in results if outcome.status == "overridden"]
    used = Counter(name for outcome in overridden for name in outcome.overrides)
    for name, times in sorted(used.items()):
        print(f"  override {name} ({times}): {rules.get(name, '')}")
    for name, outcome in results:
        if outcome.status == "failed":
            print(f"  FAILED {name}")
            print("\n".join(f"    {line}" for line in outcome.difference.splitlines()))
    return counts["failed"] == 0


def main(arguments: list[str]) -> int:
    """0 when all is well, 1 on a failing case, 2 when there is nothing to run."""
    if len(arguments) != 1 or not Path(arguments[0]).is_dir():
        print("usage: python -m tests.vectors DIR (a folder of suite files)", file=sys.stderr)
        return 2
    folder = Path(arguments[0])
    try:
        verdicts = [_run_or_skip(suite, folder / f"{suite}.json") for suite in SUITES]
    except SuiteFileError as exc:
        print(exc, file=sys.stderr)
        return 2
    ran = [verdict for verdict in verdicts if verdict is not None]
    if not ran:
        print(f"{folder}: no suite file found", file=sys.stderr)
        return 2
    return 0 if all(ran) else 1


def _run_or_skip(suite: str, path: Path) -> bool | None:
    if not path.exists():
        print(f"{suite}: skipped, no {path.name} in this folder")
        return None
    return report(suite, run(suite, path))


if __name__ == "__main__":
    logging.getLogger().addHandler(logging.NullHandler())  # what we log is not what is asked for
    sys.exit(main(sys.argv[1:]))
