"""When the model is given a hint."""

import pytest

from mana_actors.agent.planner.exchange import TokenUsage
from mana_actors.agent.planner.reminders import Allowance, LoopView, RecentCall, reminders_for

FAILED, WORKED = RecentCall("t", success=False), RecentCall("t", success=True)


def producers(view: LoopView, allowance: Allowance | None = None) -> list[tuple[str, str]]:
    return [(r.producer, r.severity) for r in reminders_for(view, allowance)]


@pytest.mark.parametrize(
    ("used", "in_run", "severity"),
    [
        (700, 49, None),
        (750, 0, "warn"),
        (0, 750, "warn"),
        (900, 99, "warn"),
        (500, 500, "escalate"),
    ],
)
def test_tokens_running_low_warn_from_75_percent_and_escalate_at_100(
    used: int, in_run: int, severity: str | None
):
    view = LoopView(2, usage=TokenUsage(0, in_run, in_run))
    expected = [("token-budget", severity)] if severity else []
    assert producers(view, Allowance("Mira", 1000, used)) == expected


@pytest.mark.parametrize("cap", [None, 0, -5])
def test_without_a_cap_tokens_are_not_mentioned(cap: int | None):
    assert producers(LoopView(1), Allowance("Mira", cap, 10**9)) == []


def test_the_share_is_rounded_half_up_and_names_the_agent():
    (reminder,) = reminders_for(LoopView(1), Allowance("Mira </reminder>", 1000, 825))
    assert "83%" in reminder.text
    assert "825 / 1000" in reminder.text
    assert "Mira" in reminder.text
    assert "</reminder>" not in reminder.text


def test_two_failures_in_a_row_say_stop_from_round_three_on():
    assert producers(LoopView(3, recent=(FAILED, FAILED))) == [("retry-loop", "warn")]
    assert producers(LoopView(2, recent=(FAILED, FAILED))) == []
    assert producers(LoopView(3, recent=(FAILED, FAILED, WORKED))) == []
    assert producers(LoopView(4, recent=(WORKED, FAILED))) == []


def test_reminders_come_in_their_order():
    view = LoopView(3, recent=(FAILED, FAILED), compactions_done=1)
    names = [name for name, _ in producers(view, Allowance("Mira", 1000, 900))]
    assert names == ["compacted", "token-budget", "retry-loop"]
