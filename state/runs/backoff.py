"""How long to wait before trying again. Pure: chance is an argument."""

from __future__ import annotations


def backoff_s(
    failures: int, least_s: float, most_s: float, chance: float, asked_s: float | None = None
) -> float:
    """Capped exponential delay in seconds after `failures` earlier ones, jittered above half.

    `chance` is a random number in [0, 1); `asked_s` is what a provider asked for (Retry-After):
    never sooner, but capped.
    """
    ceiling = min(most_s, least_s * 2 ** min(failures, 30))
    delay = ceiling * (0.5 + chance / 2)
    return min(max(delay, asked_s or 0.0), most_s) if most_s > 0 else 0.0
