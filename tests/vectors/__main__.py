"""`python -m tests.vectors [--all] DIR`: run the suite files of a folder; exit 1 on a failing case.

A file that no suite reads is named; with `--all` it fails the run.
"""

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
    """0 when all is well, 1 on a failing case or an unread file, 2 when there is nothing to run."""
    folders = [argument for argument in arguments if argument != "--all"]
    if len(folders) != 1 or not Path(folders[0]).is_dir():
        usage = "usage: python -m tests.vectors [--all] DIR (a folder of suite files)"
        print(usage, file=sys.stderr)
        return 2
    folder = Path(folders[0])
    verdicts: list[bool] = []
    try:
        for suite in SUITES:
            path = folder / f"{suite}.json"
            if path.exists():
                verdicts.append(report(suite, run(suite, path)))
            else:
                print(f"{suite}: skipped, no {path.name} in this folder")
    except SuiteFileError as exc:
        print(exc, file=sys.stderr)
        return 2
    unread = sorted(path.name for path in folder.glob("*.json") if path.stem not in SUITES)
    for name in unread:
        print(f"{name}: no suite")
    if not verdicts:
        print(f"{folder}: no suite file found", file=sys.stderr)
        return 2
    return 0 if all(verdicts) and not (unread and "--all" in arguments) else 1


if __name__ == "__main__":
    logging.getLogger().addHandler(logging.NullHandler())  # what we log is not what is asked for
    sys.exit(main(sys.argv[1:]))
