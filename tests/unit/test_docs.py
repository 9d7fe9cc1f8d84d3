"""What the documents say of the code: links, names and the states of a run are those there are."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    [*(ROOT / "docs").rglob("*.md"), *(ROOT / name for name in ("README.md", "CONTRIBUTING.md"))]
)
DECISIONS = sorted((ROOT / "docs/decisions").glob("[0-9]*.md"))
SCHEMA = (ROOT / "state/store/schema.sql").read_text("utf-8")
ARCHITECTURE = (ROOT / "docs/architecture.md").read_text("utf-8")
CODE = re.compile(r"`([^`\s]+)`")
LINK = re.compile(r"\]\(([^)#:\s]+)(?:#[\w-]*)?\)")
ARROW = re.compile(r"(?m)^  (\S+) --> (\w+|\[\*\])(?:: (.*))?$")


def named(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_link_leads_somewhere(page: Path) -> None:
    targets = LINK.findall(page.read_text("utf-8"))
    assert [target for target in targets if not (page.parent / target).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_folder_and_every_test_that_is_named_is_there(page: Path) -> None:
    words = [word.partition("::")[0] for word in CODE.findall(page.read_text("utf-8"))]
    tops = ("state/", "mana_actors/", "supervisor/", "tests/", "docs/")
    folders = [word for word in words if word.startswith(tops) and word.endswith("/")]
    assert [folder for folder in folders if not (ROOT / folder).is_dir()] == []
    tests = [word for word in words if re.fullmatch(r"test_\w+\.py", word)]
    assert [test for test in tests if not any((ROOT / "tests").rglob(test))] == []


def test_the_diagram_has_the_states_and_transitions_that_the_database_has() -> None:
    diagram = ARCHITECTURE.partition("stateDiagram-v2\n")[2].partition("```")[0]
    arrows = ARROW.findall(diagram)
    states = {state for begin, end, _ in arrows for state in (begin, end)} - {"[*]"}
    checked = re.search(r"CONSTRAINT runs_state CHECK (.*)", SCHEMA)
    assert checked
    assert states == set(re.findall(r"'(\w+)'", checked[1]))
    functions = {name for _, _, label in arrows for name in re.findall(r"[a-z]+_[a-z_]+", label)}
    assert "commit_run" in functions
    assert [f for f in functions if f"CREATE FUNCTION mana_ai.{f}(" not in SCHEMA] == []


def test_the_architecture_is_read_in_eight_minutes() -> None:
    assert len(ARCHITECTURE.split()) <= 1_500


@pytest.mark.parametrize("note", DECISIONS, ids=named)
def test_a_decision_says_its_context_its_choice_and_its_price(note: Path) -> None:
    text = note.read_text("utf-8")
    assert re.findall(r"(?m)^## (.*)$", text) == ["Context", "Choice", "What we gave up"]
    assert 100 <= len(text.split()) <= 270
    assert f"]({note.name})" in (ROOT / "docs/decisions/README.md").read_text("utf-8")


def test_decisions_are_numbered_without_a_gap() -> None:
    assert [int(note.name[:3]) for note in DECISIONS] == list(range(1, len(DECISIONS) + 1))
