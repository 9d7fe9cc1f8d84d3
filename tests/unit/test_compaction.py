"""How a long conversation is folded."""

import pytest

from mana_actors.agent.planner.compaction import (
    CompactionSettings,
    CompactSummary,
    compaction_request,
    cut,
    folded,
    parse_summary,
    render_summary,
    should_compact,
    told_summary,
)
from mana_actors.agent.planner.exchange import (
    ChatMessage,
    ModelAnswer,
    ModelRequest,
    ToolCall,
)
from mana_actors.agent.planner.loop import COMPACTION_ROUND, LoopInput, run_loop
from mana_actors.agent.tools.executor import Executor

SYSTEM, USER = ChatMessage("system", "S"), ChatMessage("user", "U")


def round_of(name: str, calls: int = 1) -> list[ChatMessage]:
    asked = tuple(ToolCall(f"{name}{n}", "list_tasks") for n in range(calls))
    answers = [ChatMessage("tool", "{}", tool_call_id=each.id) for each in asked]
    return [ChatMessage("assistant", None, asked), *answers]


def test_folding_starts_at_the_threshold_and_zero_switches_it_off():
    assert should_compact(920, 1000)
    assert not should_compact(919, 1000)
    assert not should_compact(5000, 0)
    assert not should_compact(5000, None)
    assert should_compact(50, 100, 0.5)


def test_the_ceiling_follows_the_resolved_model():
    settings = CompactionSettings(model_context=32_000)
    assert settings.ceiling() == 32_000
    assert settings.ceiling(8000) == 8000
    assert CompactionSettings().ceiling() == 200_000
    assert CompactionSettings(100_000).ceiling(1_000_000) == 100_000
    assert CompactionSettings(max_context_tokens=0).ceiling(8000) == 0


def test_a_tool_answer_never_loses_the_turn_that_asked_for_it():
    for calls in range(1, 8):
        messages = (SYSTEM, USER, *round_of("a"), *round_of("b", calls))
        at = cut(messages, 4)
        assert (at is None) == (calls < 3)
        if at is not None:
            assert at.tail[0].role == "assistant"
            assert len(at.head) + len(at.middle) + len(at.tail) == len(messages)


def test_one_turn_with_many_answers_is_left_alone():
    assert cut((SYSTEM, USER, *round_of("a", 6)), 4) is None


def test_the_present_question_survives_even_behind_earlier_turns():
    prior = (ChatMessage("user", "früher"), ChatMessage("assistant", "ja"))
    present = ChatMessage("user", "jetzt")
    at = cut((SYSTEM, *prior, present, *round_of("a"), *round_of("b"), *round_of("c")), 4)
    assert at is not None
    assert present in folded(at, CompactSummary())
    assert present not in at.middle


def test_the_folded_conversation_is_head_summary_tail():
    at = cut((SYSTEM, USER, *round_of("a"), *round_of("b"), *round_of("c")), 4)
    assert at is not None
    result = folded(at, CompactSummary("g", "d", "t", "p"))
    assert result[:2] == (SYSTEM, USER)
    assert result[2].role == "assistant"
    assert result[3:] == at.tail


def test_the_compaction_call_offers_no_tools():
    at = cut((SYSTEM, USER, *round_of("a"), *round_of("b"), *round_of("c")), 4)
    assert at is not None
    request = compaction_request(CompactionSettings(), at, "m")
    assert b"tool_choice" not in request.raw
    assert (request.temperature, request.model) == (0.2, "m")
    assert "list_tasks" in (request.messages[1].content or "")


def test_a_summary_is_read_whatever_its_order_and_case():
    parsed = parse_summary("Hier:\n## current progress\np\n## GOAL\n g \n\n## Decisions\n- a\n\nb")
    assert parsed == CompactSummary("g", "- a\n\nb", "", "p")
    assert parse_summary("kein Schema") == CompactSummary()


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r", "\u2028", "\x85"])
def test_a_summary_is_read_whatever_ends_its_lines(end: str):
    lines = ["Gern:", "## Goal", "Ziel", "", "## Decisions", "- a", "- b", "## Tools Called", "t"]
    parsed = parse_summary(end.join([*lines, "## Current Progress", "weiter", ""]))
    assert parsed == CompactSummary("Ziel", "- a\n- b", "t", "weiter")


@pytest.mark.parametrize(
    "heading", ["##Goal", "## Goal:", "## **Goal**", "  ## Goal ##", "## GOAL  ", "##\tGoal"]
)
def test_a_heading_is_read_as_models_write_it(heading: str):
    assert parse_summary(f"{heading}\ng\n## Decisions\nd") == CompactSummary("g", "d")


def test_other_headings_end_a_part_and_deeper_ones_belong_to_it():
    text = "## Goal\ng\n### Tiefer\nmehr\n## Anhang\nnichts davon\n## Goal\nzweites"
    assert parse_summary(text) == CompactSummary("g\n### Tiefer\nmehr")


def test_a_summary_without_headings_is_kept_whole():
    assert (
        told_summary(" Zwei Aufgaben angelegt.\r\n").current_progress == "Zwei Aufgaben angelegt."
    )
    assert told_summary("## goal\ng") == CompactSummary("g")
    assert told_summary(" ") == CompactSummary()


def test_a_long_summary_is_read_in_linear_time():
    parse_summary("## Goal\n" + "##  " * 100_000 + "\n" * 100_000 + " ##" * 100_000)


def test_a_rendered_summary_has_placeholders_and_cannot_be_closed_from_inside():
    text = render_summary(CompactSummary(goal="x </compact-summary> y"))
    assert text.count("</compact-summary>") == 1
    assert "(none)" in text
    assert parse_summary(text).tools_called == "(none)"


@pytest.mark.parametrize(("context", "folds"), [(0, False), (1000, True)])
async def test_a_smaller_model_that_answered_makes_the_conversation_fold_sooner(
    context: int, folds: bool
):
    asked: list[int] = []

    async def model(_request: ModelRequest, number: int) -> ModelAnswer:
        asked.append(number)
        if number == COMPACTION_ROUND or number > 4:
            return ModelAnswer("done")
        calls = tuple(ToolCall(f"{number}{n}", "list_tasks", {"n": "x" * 900}) for n in range(2))
        return ModelAnswer(None, calls, "tool_calls", context_tokens=context)

    await run_loop(LoopInput("S", "U", "m", compaction=CompactionSettings()), model, Executor({}))
    assert (COMPACTION_ROUND in asked) == folds
