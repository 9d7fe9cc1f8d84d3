"""What a prompt shows of each module's records: their real shapes, in bounded length."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mana_actors.agent.inputs.record_texts import (
    TITLE_UNITS,
    UNTITLED,
    cut,
    record_text,
)
from mana_actors.agent.inputs.resolvers import resolve_inputs
from mana_actors.agent.inputs.sources import distinct
from mana_actors.agent.planner.prompt import ResolvedInput
from state.errors import StateError, TransientError
from state.log.records import InputRef
from state.log.tables import INPUT_APPS
from tests.record_shapes import GOAL, SHAPES, Shape

JSON = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.just("k"), inner),
    max_leaves=4,
)
FIELDS = (
    "title", "content", "status", "isCompleted", "description", "dueDate", "startDate",
    "startTime", "location", "about", "leisure", "freeform", "target", "currentValue", "period",
)  # fmt: skip


@pytest.mark.parametrize("shape", [*SHAPES, GOAL], ids=lambda shape: f"{shape.module}-{shape.id}")
def test_a_real_record_reads_as_a_person_would_tell_it(shape: Shape):
    assert record_text(shape.module, shape.record) == (shape.title, shape.content)


@pytest.mark.parametrize(
    ("module", "fields", "text"),
    [
        ("notes", {}, ("Notiz", "")),
        ("notes", {"title": None, "content": {"markdown": "x"}}, ("Notiz", '{"markdown":"x"}')),
        ("tasks", {}, ("Task", UNTITLED)),
        ("todo", {"status": "in_progress", "title": " A "}, ("A", "[in_progress] A")),
        ("calendar", {"title": ""}, ("Termin", UNTITLED)),
        ("calendar", {"title": "A", "startTime": "9:00"}, ("A", "A @ 9:00")),
        ("profile", {"about": {}, "interests": [], "freeform": ""}, ("Nutzerprofil", "")),
        ("goals", {}, ("Goal", "Progress: 0 / ? per unbekannt")),
    ],
    ids=range(8),
)
def test_what_is_missing_or_empty_is_said_or_left_out(
    module: str, fields: dict[str, Any], text: tuple[str, str]
):
    assert record_text(module, fields) == text


@given(
    st.sampled_from(sorted(INPUT_APPS)),
    st.dictionaries(st.sampled_from(FIELDS), JSON, max_size=4),
)
def test_no_record_is_too_strange_and_none_too_long(module: str, fields: dict[str, Any]):
    title, content = record_text(module, fields)
    assert _units(title) <= TITLE_UNITS + 1
    assert _units(content) <= 2001


@pytest.mark.parametrize(
    ("module", "field", "length"),
    [("notes", "content", 500), ("tasks", "description", 500), ("todo", "title", 500),
     ("calendar", "location", 500), ("journal", "content", 500), ("kontext", "content", 1500),
     ("profile", "freeform", 2000), ("goals", "period", 500)],
)  # fmt: skip
def test_a_long_text_ends_in_an_ellipsis_at_its_modules_length(
    module: str, field: str, length: int
):
    title, content = record_text(module, {field: "ü" * 3000})
    assert _units(content) == length + 1
    assert content.endswith("ü…")
    assert _units(title) <= TITLE_UNITS + 1


def test_lengths_count_utf_16_units_as_clients_do():
    assert cut("ab", 2) == "ab"
    assert cut("abc", 2) == "ab…"
    assert cut("😀", 2) == "😀"
    assert cut("😀😀", 2) == "😀…"
    assert cut("a😀", 2) == "a\N{REPLACEMENT CHARACTER}…"


def test_every_module_of_the_specification_has_a_text_and_no_other():
    for module in INPUT_APPS:
        record_text(module, {})
    with pytest.raises(KeyError):
        record_text("articles", {})


def test_a_record_is_read_once_whatever_module_names_it():
    one, same, other = (
        InputRef("todo", "tasks", "t1"),
        InputRef("tasks", "tasks", "t1"),
        InputRef("notes", "tasks", "t1"),
    )
    assert distinct([one, other, same, one]) == (one, other)


async def test_a_resolver_that_throws_costs_its_own_input_only():
    refs = [InputRef(module, "t", "1") for module in ("bad", "good", "unknown", "none")]
    failures: list[tuple[str, str]] = []

    async def bad(_read: Any, _ref: InputRef) -> ResolvedInput | None:
        raise ValueError("secret")

    async def good(_read: Any, ref: InputRef) -> ResolvedInput | None:
        return ResolvedInput(ref.id, ref.module, ref.table, "T", "C")

    async def none(_read: Any, _ref: InputRef) -> ResolvedInput | None:
        return None

    found = await resolve_inputs(
        {"bad": bad, "good": good, "none": none},
        _nothing,
        refs,
        lambda ref, exc: failures.append((ref.module, type(exc).__name__)),
    )
    assert list(found) == [refs[1]]
    assert failures == [("bad", "ValueError")]


async def test_a_database_that_is_away_is_no_missing_input():
    async def away(_read: Any, _ref: InputRef) -> ResolvedInput | None:
        raise Away

    with pytest.raises(StateError):
        await resolve_inputs({"m": away}, _nothing, [InputRef("m", "t", "1")], _unheard)


class Away(StateError, TransientError):
    """The database does not answer."""


def _unheard(_ref: InputRef, _exc: Exception) -> None:
    raise AssertionError("an outage was taken for a broken resolver")


async def _nothing(_app: str, _table: str, _id: str) -> Any:
    return []


def _units(text: str) -> int:
    return len(text.encode("utf-16-le", "surrogatepass")) // 2
