"""Reasons in words: each kind of ending has some, in each language, and rows lead back to them."""

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mana_actors.agent.attempt.endings import FAILURES, LACKS, failure_in_words, why_empty
from mana_actors.agent.inputs.copies import CopiesLacking
from mana_actors.agent.inputs.copies import Lack as CopyLack
from mana_actors.agent.inputs.reader import OF_THE_GRANT
from mana_actors.agent.planner.exchange import TokenUsage
from mana_actors.agent.planner.loop import CUT_SHORT, PlanOutcome, StopReason
from mana_actors.errors import ProviderErrorKind, ProviderRefused
from mana_actors.keys.client import KeyHolderUnreachable
from mana_actors.keys.protocol import PASSING, RefusedBecause
from mana_actors.llm.failures.cause import Cause, Lack, LackKind
from state.grants.grant import Reason as GrantReason
from state.rules.budgets import Shortfall, shortfall_reason
from state.runs.decision import Decision
from state.runs.gate import Full, GateFacts, gate
from state.runs.occurrence import RunState
from state.runs.reason_words import GERMAN, LABELS, NEXT, WORDS, Next, ReasonCode
from state.runs.reasons import (
    Language,
    codes_of,
    in_short,
    in_words,
    label,
    language_of,
    reasons_of,
    told,
    written_as,
)
from state.runs.withdrawal import why_unwanted

NOW = datetime(2026, 1, 1, tzinfo=UTC)
ROOT = Path(__file__).parents[2]
FIELD = re.compile(r"\{(\w+)\}")
CODES = get_args(ReasonCode)
LANGUAGES = get_args(Language)
FILLED: dict[str, Any] = {
    **dict.fromkeys(("running", "places", "used", "most", "count", "size"), 7),
    **dict.fromkeys(("need", "most_amount", "left"), "900 tokens"),
    "scope": "agent",
    "unit": "tokens",
    "tool": "create_task",
    "field": "title",
    "state": "paused",
    "trouble": "timeout",
    "advice": "open the app once",
}


def example(code: ReasonCode) -> str:
    return told(code, **{name: FILLED[name] for name in FIELD.findall(WORDS[code][0])})


def is_in_words(text: str) -> None:
    """Every part of it is one of ours, says what is next and what to do, in each language."""
    for language in LANGUAGES:
        for reason in reasons_of(text, language):
            assert reason.code, text
            assert all((reason.what, reason.then, reason.can)), text
    assert in_words(text, "de") != in_words(text, "en")


# --- the table -----------------------------------------------------------------------------------


def test_each_reason_has_words_in_each_language():
    assert set(WORDS) == set(CODES)
    assert set(NEXT) == set(get_args(Next))
    for english, german, then, can in WORDS.values():
        assert FIELD.findall(english) != [] or english
        assert sorted(FIELD.findall(english)) == sorted(FIELD.findall(german))
        assert all((english, german, *NEXT[then], *can))
        assert "; " not in english, "it is what parts several"


@pytest.mark.parametrize("code", CODES)
def test_what_a_row_keeps_leads_back_to_its_reason(code: ReasonCode):
    text = example(code)
    expected = {"mission-state": "mission-state", "agent-state": "agent-paused"}.get(code, code)
    assert codes_of(text) == [expected]
    assert in_short(text) == text
    is_in_words(text)


def test_the_document_lists_every_reason():
    listed = (ROOT / "docs/reasons.md").read_text("utf-8")
    lines = [f"| `{code}` | {words[0]} | {words[3][0]} |" for code, words in WORDS.items()]
    assert [line for line in listed.splitlines() if line.startswith("| `")] == lines


@pytest.mark.parametrize("code", CODES)
def test_no_reason_reads_like_a_code(code: ReasonCode):
    for language in LANGUAGES:
        words = in_words(example(code), language).replace("zero-knowledge", "")
        words = re.sub(r"`[^`]+`|create_task|undo_drink", "", words)
        assert not re.search(r"\w_\w|\b[a-z]+-[a-z]+-[a-z]+\b|[{}]", words), words


def test_what_is_filled_in_is_german_too():
    text = told("copies-absent", count=3, advice="open the app once")
    assert "öffne die App einmal" in in_short(text, "de")
    assert "pausiert" in in_short(told("mission-state", state="paused"), "de")
    assert all(GERMAN.values())


def test_several_reasons_share_what_they_have_in_common():
    text = f"{told('cut-dropped', count=3)}; {told('cut-torn')}"
    assert codes_of(text) == ["cut-dropped", "cut-torn"]
    assert in_words(text).count(NEXT["goes-on"][0]) == 1


def test_words_lead_back_to_the_reason_that_they_were_written_of():
    for language in get_args(Language):
        assert written_as(in_words(told("empty"), language)) == told("empty")
    assert written_as("anything else") is None


@given(st.text())
def test_any_other_text_stays_what_it_is(text: str):
    for language in LANGUAGES:
        short = in_short(text, language)
        if not codes_of(text):
            assert short == "; ".join(part for part in text.split("; ") if part)
        in_words(text, language)


# --- every kind of ending has one ----------------------------------------------------------------


def test_every_decision_and_state_of_a_run_has_a_label():
    for word in (*get_args(Decision), *get_args(RunState)):
        english, german = LABELS[word]
        assert label(word) == english
        assert label(word, "de") == german
        assert german != word


@pytest.mark.parametrize("cause", get_args(Cause))
def test_every_failure_of_a_model_call_is_in_words(cause: Cause):
    assert cause in FAILURES
    is_in_words(failure_in_words(ProviderRefused("unknown", 500, cause=cause)))


@pytest.mark.parametrize("kind", get_args(ProviderErrorKind))
def test_every_kind_of_failure_is_in_words(kind: ProviderErrorKind):
    is_in_words(failure_in_words(ProviderRefused(kind, 500)))


@pytest.mark.parametrize("kind", get_args(LackKind))
def test_everything_an_entry_can_lack_is_in_words(kind: LackKind):
    assert kind in LACKS
    lack = Lack(kind, "max_tokens")
    is_in_words(failure_in_words(ProviderRefused("capability", 400, lack=lack)))


def test_a_prompt_that_is_too_long_says_both_numbers():
    error = ProviderRefused("capability", 400, lack=Lack("context", limit=8192, asked=23_000))
    words = in_words(failure_in_words(error), "de")
    assert "8192" in words
    assert "23000" in words


@pytest.mark.parametrize("stop", get_args(StopReason))
def test_every_way_to_stop_is_in_words(stop: StopReason):
    outcome = PlanOutcome(1, (), None, stop, (), TokenUsage())
    is_in_words(told(why_empty(outcome)))
    if CUT_SHORT[stop] is not None:
        is_in_words(outcome.cut_short)
    for name in ("cut_turns", "unread_calls", "dropped_calls"):
        lacking = msgspec.structs.replace(outcome, **{name: 3})
        is_in_words(lacking.cut_short)


def test_every_refusal_of_a_key_is_in_words():
    assert set(get_args(GrantReason)) <= set(OF_THE_GRANT)
    for why in get_args(RefusedBecause):
        if why in OF_THE_GRANT:
            is_in_words(told(OF_THE_GRANT[why]))
        else:
            is_in_words(str(KeyHolderUnreachable(why)))
    assert not PASSING & set(OF_THE_GRANT)


@pytest.mark.parametrize("lack", get_args(CopyLack))
@pytest.mark.parametrize(
    "answer",
    ["zero-knowledge", "grant-refused", "grant-outdated", "not-opened", "too-large", None],
)
def test_every_lack_of_sealed_copies_is_in_words(lack: CopyLack, answer: str | None):
    text = CopiesLacking(lack, 3).told(answer)
    is_in_words(text)
    assert not re.search(r"\b(the|grant|once)\b", in_short(text, "de"))


@pytest.mark.parametrize("scope", ["agent", "user", "installation"])
@pytest.mark.parametrize("unit", ["tokens", "money"])
@pytest.mark.parametrize("until", ["change", "window", "holds"])
@pytest.mark.parametrize("cap", [None, 10])
def test_every_shortfall_is_in_words(scope: str, unit: str, until: str, cap: int | None):
    is_in_words(shortfall_reason(Shortfall(scope, unit, until, 900, cap, 3, 2)))


@pytest.mark.parametrize(
    "changes",
    [
        {"readable": False},
        {"agent_id": "a9"},
        {"agent_known": True, "agent_state": "archived"},
        {"agent_known": True, "agent_state": "paused"},
        {"running": 1},
        {"cap": 0},
        {"cap": 5, "used": 6},
        {"full": Full("installation", "money", None)},
        {"browser_since": NOW},
    ],
)
def test_every_refusal_of_the_gate_is_in_words(changes: dict[str, Any]):
    usual: dict[str, Any] = {"now": NOW, "state": "active", "agent_id": "legacy:ai-default"}
    facts: dict[str, Any] = usual | {"next_run_at": NOW - timedelta(1)} | changes
    answer = gate(GateFacts(**facts))
    assert answer.action == "skip"
    is_in_words(answer.reason)


@pytest.mark.parametrize(
    "changes",
    [
        {"hidden": True},
        {"state": "done"},
        {"is_ours": False},
        {"agent_hidden": True, "agent_state": "active"},
        {"agent_state": "archived"},
        {"agent_state": "a state of some client"},
    ],
)
def test_every_withdrawal_is_in_words(changes: dict[str, Any]):
    usual: dict[str, Any] = {
        "hidden": False, "state": "active", "agent_hidden": False, "agent_state": None,
    }  # fmt: skip
    facts: dict[str, Any] = usual | changes
    why = why_unwanted(**facts)
    assert why is not None
    is_in_words(why)


def test_sentences_that_the_database_writes_are_in_words():
    written = {
        text
        for path in (ROOT / "state/store/sql/functions").glob("*.sql")
        for text in re.findall(r"reason = '([^']+)'", path.read_text("utf-8"))
    }
    assert written
    for text in written:
        is_in_words(text)


# --- languages -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "language"),
    [
        ("de-DE,de;q=0.9,en;q=0.8", "de"),
        ("fr, en;q=0.5, de;q=0.7", "de"),
        ("EN", "en"),
        ("en;q=0, de;q=0.1", "de"),
        ("*", "en"),
        ("fr", "en"),
        ("de;q=huge,", "en"),
        (",;,", "en"),
        ("x" * 100_000, "en"),
        (None, "en"),
    ],
)
def test_a_request_says_its_language(header: str | None, language: Language):
    assert language_of(header) == language


def test_a_request_that_says_none_has_the_deployments():
    assert language_of(None, "de") == "de"
