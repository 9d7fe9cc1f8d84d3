"""What a model call is charged: what was reported for it, and the hold where nothing was; pure."""

import msgspec

from mana_actors.agent.planner.exchange import ModelAnswer
from mana_actors.errors import ProviderError
from mana_actors.llm.failures.wasted import Wasted
from mana_actors.llm.provider import AliasFacts
from state.rules.budgets import Hold, cost_micros

MOST_TOKENS = 2**33
MOST_MICROS = 10**12
"""What the database takes for a report at most; no call can cost more."""


class CallCharge(msgspec.Struct, frozen=True):
    """Tokens and money (micro-units) to charge; None = nobody told, so what the hold has."""

    tokens: int | None = None
    micros: int | None = None

    def of(self, hold: Hold) -> int:
        """The tokens, with those of `hold` where nobody told."""
        return hold.tokens if self.tokens is None else self.tokens


NOTHING = CallCharge(0, 0)


def charge_of_answer(answer: ModelAnswer, hold: Hold, facts: AliasFacts) -> CallCharge:
    """What `answer` and the attempts before it cost.

    A report that cannot be true counts where it is above the hold: nobody is charged less than it
    says. Where the router names no price, the alias's prices hold.
    """
    told = max(answer.total_tokens, answer.prompt_tokens + answer.completion_tokens)
    micros = answer.cost_micros
    if not answer.usage_reported:
        is_above = told > hold.tokens
        return _with_wasted(
            CallCharge(told if is_above else None, micros if is_above else None),
            answer.wasted,
            hold,
        )
    if micros is None:
        micros = cost_micros(
            answer.prompt_tokens,
            told - answer.prompt_tokens,
            facts.micros_per_prompt_token,
            facts.micros_per_completion_token,
        )
    return _with_wasted(CallCharge(told, micros), answer.wasted, hold)


def charge_of_failure(error: ProviderError, hold: Hold) -> CallCharge:
    """What a call without an answer cost: what its attempts reported, and holds for the silent.

    One that was refused cost nothing.
    """
    if error.wasted != Wasted():  # a router told of all its attempts
        return _with_wasted(NOTHING, error.wasted, hold)
    usage = error.usage
    if usage is not None and (told := max(usage.total_tokens, usage.prompt_tokens)):
        return CallCharge(told)
    return CallCharge() if error.may_have_spent else NOTHING


def _with_wasted(own: CallCharge, wasted: Wasted, hold: Hold) -> CallCharge:
    """`own` and what failed attempts cost: what they reported, and a hold for each silent one."""
    if wasted == Wasted():
        return own
    micros = hold.micros if own.micros is None else own.micros
    return CallCharge(
        min(own.of(hold) + wasted.tokens + wasted.unreported * hold.tokens, MOST_TOKENS),
        min(micros + wasted.micros + wasted.unreported * hold.micros, MOST_MICROS),
    )
