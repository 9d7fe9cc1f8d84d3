"""How the tree is kept: one name for one idea, small folders, and nothing pointed to in vain."""

import ast
import re
import subprocess
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("state", "mana_actors", "supervisor")
MOST_MODULES = 12

QUOTING = {
    "tests/unit/test_house.py": "shows what a reference looks like",
    "tests/integration/data/before_the_baseline.sql": "is what an older release printed",
}
"""Files that may hold references to texts that are not here, with the reason."""

ELSEWHERE = re.compile(
    r"§ ?[0-9]|\bD-[0-9]{2}\b|\bF[0-9]{2}\b|\bissue [0-9]|\bspec[/]"
    r"|\b(data-model|grants-auth|tools-mcp|llm-gateway)\b"
)
"""A section, a numbered decision, fault or issue, or a chapter: nothing of that is in here."""

NAMED_PATH = re.compile(r"(?<![\w./-])[\w.-]+(?:/[\w.*-]+)*/[\w*-]+\.(?:py|sql)\b")


def modules() -> Iterator[Path]:
    for package in PACKAGES:
        yield from sorted((ROOT / package).rglob("*.py"))


def tracked_texts() -> Iterator[tuple[str, str]]:
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if listed.returncode != 0:
        pytest.skip("not a checkout of the repository")
    for name in filter(None, listed.stdout.split("\0")):
        try:
            yield name, (ROOT / name).read_text("utf-8")
        except (UnicodeDecodeError, FileNotFoundError):  # a picture; removed, not yet committed
            continue


def test_no_two_public_classes_share_a_name():
    homes: defaultdict[str, list[str]] = defaultdict(list)
    for path in modules():
        for node in ast.parse(path.read_text("utf-8")).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                homes[node.name].append(str(path.relative_to(ROOT)))
    assert {name: places for name, places in homes.items() if len(places) > 1} == {}


def test_nothing_refers_to_a_text_that_is_not_here():
    citing = [
        f"{name}:{number}: {line.strip()}"
        for name, text in tracked_texts()
        if name not in QUOTING
        for number, line in enumerate(text.splitlines(), 1)
        if ELSEWHERE.search(line)
    ]
    assert citing == []


@pytest.mark.parametrize(
    ("line", "is_found"),
    [
        ("kept for a day (D-33)", True),
        ("a lost acknowledgement (F17, P7)", True),
        ("in the order of tick §10.2", True),
        ("see spec/tick.md", True),
        ("as data-model wants it", True),
        ("RFC 9180, base mode", False),
        ("the inspector/supervisor pair, ID-333", False),
    ],
)
def test_a_reference_is_told_from_plain_words(line: str, *, is_found: bool):
    assert (ELSEWHERE.search(line) is not None) == is_found


def test_a_folder_is_surveyed_at_a_glance():
    counts: defaultdict[str, int] = defaultdict(int)
    for path in modules():
        counts[str(path.parent.relative_to(ROOT))] += path.name != "__init__.py"
    assert {folder: count for folder, count in counts.items() if count > MOST_MODULES} == {}


def test_every_path_that_a_document_names_exists():
    documents = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), *ROOT.glob("CONTRIBUTING.md")]
    lost = [
        f"{document.relative_to(ROOT)}: {named}"
        for document in documents
        for named in NAMED_PATH.findall(document.read_text("utf-8"))
        if not any(ROOT.glob(named))
    ]
    assert lost == []
