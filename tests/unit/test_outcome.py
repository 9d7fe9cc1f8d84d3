"""What follows from an ending stands in one table, and nothing is left out of it."""

from datetime import UTC, datetime
from pathlib import Path
from typing import get_args

import pytest

from mana_actors.messages import Report, decode_report, encode
from state.runs.decision import Decision
from state.runs.outcome import (
    Broken,
    CapabilityRefused,
    Early,
    Failed,
    Healed,
    Held,
    Interrupted,
    Later,
    LookAt,
    Moves,
    NotWanted,
    Outcome,
    Ran,
    Served,
    Skipped,
    SkippedForGrant,
    Stale,
    TakenOver,
    Waits,
    WaitsForRoom,
    Whole,
    Withdrawn,
    after,
    word,
)

DUE = datetime(2026, 4, 27, 5, 0, tzinfo=UTC)
SOON = datetime(2026, 4, 27, 5, 1, tzinfo=UTC)
ENDINGS: list[Outcome] = [
    Ran(DUE, "i1", 2, "plan cut short"),
    Failed(DUE, "i1", "no model"),
    Withdrawn(DUE, "paused"),
    SkippedForGrant(DUE, "no grant", None, is_news=True),
    WaitsForRoom(DUE, "no room", is_news=True),
    Waits(DUE, SOON, "no model"),
    Skipped("skipped-paused", "the agent is paused", DUE, None),
    Later(SOON),
    NotWanted(),
    Held(SOON),
    Early(SOON),
    Served(),
    Stale(),
    Moves(),
    TakenOver(),
    CapabilityRefused(),
    Interrupted(),
    Broken("ValueError"),
    Healed(),
    Whole(),
]
NEVER_CLAIMED = (Skipped, Later)


def test_every_ending_is_tried_here() -> None:
    assert {type(ending) for ending in ENDINGS} == set(get_args(Outcome))


@pytest.mark.parametrize("ending", ENDINGS, ids=word)
def test_every_ending_is_in_the_table_and_travels_in_a_report(ending: Outcome) -> None:
    report = Report("h", "u1", "a1", "m1", 1, ending)
    assert decode_report(encode(report)) == report
    assert after(ending).counts.count("plan") == isinstance(ending, Ran)


@pytest.mark.parametrize("ending", ENDINGS, ids=word)
def test_a_refusal_does_not_wake_itself_and_any_other_ending_frees_a_place(
    ending: Outcome,
) -> None:
    assert after(ending).wakes_next != isinstance(ending, NEVER_CLAIMED)


@pytest.mark.parametrize("ending", ENDINGS, ids=word)
def test_a_decision_is_noted_by_its_transaction_or_by_who_hears_of_it_never_by_both(
    ending: Outcome,
) -> None:
    follow_up = after(ending)
    assert not (follow_up.notes and follow_up.is_news)
    if follow_up.notes or follow_up.is_news:
        assert follow_up.decision in get_args(Decision)


def test_a_run_that_somebody_else_closed_is_not_counted_twice() -> None:
    ending = after(Withdrawn(DUE, "cancelled", is_news=False))
    assert (ending.decision, ending.is_news, ending.notes) == (None, False, False)


def test_what_was_put_off_while_it_was_under_way_is_looked_at_at_once() -> None:
    assert after(Withdrawn(DUE, "moved")).look == after(TakenOver()).look == "now-if-put-off"
    assert after(Served()).look == after(Moves()).look == "now"
    assert after(Waits(DUE, SOON)).look == LookAt(SOON)
    assert after(Ran(DUE, "i1", 1)).look == "as-set"


def test_the_docs_explain_every_decision_and_no_other() -> None:
    text = (Path(__file__).parents[2] / "docs" / "operations.md").read_text()
    section = text.split("\n## Decisions\n")[1].split("\n## ")[0]
    rows = [line.split("|")[1].strip() for line in section.splitlines() if line.startswith("| `")]
    assert sorted(rows) == sorted(f"`{decision}`" for decision in get_args(Decision))
