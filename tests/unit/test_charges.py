"""A call is charged what was reported for it, and the hold where nothing was."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mana_actors.agent.model.charges import (
    MOST_MICROS,
    MOST_TOKENS,
    CallCharge,
    charge_of_answer,
    charge_of_failure,
)
from mana_actors.agent.planner.exchange import ModelAnswer, TokenUsage
from mana_actors.errors import ProviderBusy, ProviderRefused
from mana_actors.llm.failures.wasted import Wasted
from mana_actors.llm.provider import AliasFacts
from state.rules.budgets import Hold

HOLD = Hold(1000, 50)
FACTS = AliasFacts(micros_per_prompt_token=2.0, micros_per_completion_token=10.0)


def answer(**fields: Any) -> ModelAnswer:
    told: dict[str, Any] = {"prompt_tokens": 40, "completion_tokens": 10, "total_tokens": 60}
    told |= {"usage_reported": True, **fields}
    return ModelAnswer("x", **told)


@pytest.mark.parametrize(
    ("given_", "charge"),
    [
        (answer(), CallCharge(60, 40 * 2 + 20 * 10)),
        (answer(cost_micros=7), CallCharge(60, 7)),
        (answer(usage_reported=False), CallCharge()),
        (ModelAnswer("x"), CallCharge()),
        (answer(usage_reported=False, total_tokens=1001), CallCharge(1001)),
        (answer(usage_reported=False, total_tokens=1001, cost_micros=7), CallCharge(1001, 7)),
        (answer(cost_micros=7, wasted=Wasted(240, 3)), CallCharge(300, 10)),
        (answer(cost_micros=7, wasted=Wasted(240, 3, 2)), CallCharge(2300, 110)),
        (answer(usage_reported=False, wasted=Wasted(240, 3)), CallCharge(1240, 53)),
        (answer(wasted=Wasted(10**15, 10**15)), CallCharge(MOST_TOKENS, MOST_MICROS)),
    ],
)
def test_an_answer_costs_what_was_reported_for_all_its_attempts(
    given_: ModelAnswer, charge: CallCharge
):
    assert charge_of_answer(given_, HOLD, FACTS) == charge


def _with(error: ProviderBusy, **fields: Any) -> ProviderBusy:
    for name, value in fields.items():
        setattr(error, name, value)
    return error


@pytest.mark.parametrize(
    ("error", "charge"),
    [
        (ProviderBusy("timeout"), CallCharge()),
        (ProviderBusy("network"), CallCharge()),
        (ProviderBusy("invalid_answer", 200), CallCharge()),
        (ProviderBusy("truncated", 502), CallCharge()),
        (ProviderBusy("unknown", 500), CallCharge(0, 0)),
        (ProviderBusy("rate_limit", 429), CallCharge(0, 0)),
        (ProviderRefused("blocked", 422), CallCharge(0, 0)),
        (
            _with(ProviderBusy("invalid_answer", 200), usage=TokenUsage(120, 120, 240)),
            CallCharge(240),
        ),
        (
            _with(ProviderBusy("no_healthy_provider", 503), wasted=Wasted(240, 3)),
            CallCharge(240, 3),
        ),
        (_with(ProviderBusy("timeout", 503), wasted=Wasted(240, 3, 1)), CallCharge(1240, 53)),
        (_with(ProviderBusy("timeout", 503), wasted=Wasted(0, 0, 2)), CallCharge(2000, 100)),
    ],
)
def test_a_failure_costs_what_its_attempts_may_have_spent(error: ProviderBusy, charge: CallCharge):
    assert charge_of_failure(error, HOLD) == charge


_counts = st.integers(0, 2**31)


@given(_counts, _counts, _counts, st.booleans(), _counts, st.integers(0, 4))
def test_nobody_is_charged_less_than_was_billed(
    prompt: int, completion: int, total: int, is_told: bool, wasted: int, silent: int
):
    given_ = answer(
        prompt_tokens=prompt,
        completion_tokens=completion,
        total_tokens=total,
        usage_reported=is_told,
        wasted=Wasted(wasted, 0, silent),
    )
    charged = charge_of_answer(given_, HOLD, FACTS).of(HOLD)
    own = max(total, prompt + completion, 0 if is_told else HOLD.tokens)
    assert charged == min(own + wasted + silent * HOLD.tokens, MOST_TOKENS)
