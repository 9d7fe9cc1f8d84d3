"""How long a run waits before it is tried again."""

from hypothesis import given
from hypothesis import strategies as st

from state.runs.backoff import backoff_s

CHANCE = st.floats(0, 1, exclude_max=True)


@given(failures=st.integers(0, 10**6), chance=CHANCE)
def test_a_delay_doubles_up_to_its_cap_and_never_collapses(failures: int, chance: float):
    delay = backoff_s(failures, 5, 900, chance)
    ceiling = min(900, 5 * 2 ** min(failures, 10))
    assert ceiling / 2 <= delay <= ceiling


@given(asked=st.floats(0, 10**9), chance=CHANCE)
def test_what_a_provider_asks_for_is_waited_up_to_the_cap(asked: float, chance: float):
    delay = backoff_s(0, 5, 900, chance, asked)
    assert min(asked, 900) <= delay <= 900


def test_chance_spreads_the_delays():
    assert len({backoff_s(3, 5, 900, chance / 10) for chance in range(10)}) == 10


def test_no_back_off_is_possible():
    assert backoff_s(5, 5, 0, 0.5, 60) == 0
