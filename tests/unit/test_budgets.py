"""What a call may cost, and how a person is told that it does not fit."""

import pytest

from state.rules.budgets import Shortfall, cost_micros, shortfall_reason


@pytest.mark.parametrize(
    ("refusal", "said"),
    [
        (
            Shortfall("agent", "tokens", "change", 900, 10, 0, 0),
            "one call needs up to 900 tokens, the agent's cap is 10 tokens",
        ),
        (
            Shortfall("user", "tokens", "window", 900, 1000, 893, 100),
            "one call needs up to 900 tokens, 7 tokens left of the user's 1000 tokens in 24 hours",
        ),
        (
            Shortfall("installation", "tokens", "holds", 900),
            "one call needs up to 900 tokens, more than is left of the installation's limit",
        ),
        (
            Shortfall("agent", "money", "change", 1_500_000, 20, 0, 0),
            "one call needs up to 1.5000 in money, the agent's cap is 0.0000 in money",
        ),
    ],
)
def test_a_refusal_says_what_was_asked_and_what_is_there(refusal: Shortfall, said: str):
    assert shortfall_reason(refusal) == said


def test_a_price_is_never_estimated_too_low():
    assert cost_micros(3, 1, 0.5, 0.1) == 2
    assert cost_micros(0, 0, 5, 5) == 0
