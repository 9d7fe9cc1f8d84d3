from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mana_actors.llm.router.aliases.registry import Target
from mana_actors.llm.router.chain.circuits import MOST_MODELS, Circuits, ProviderTrouble

A, B = Target("groq", "a"), Target("groq", "b")
DOWN = ProviderTrouble("network")
SLOW = ProviderTrouble("timeout", "model")
MISSING = ProviderTrouble("missing_model", "only-model", at_once=True)


def down(now: float = 1000.0) -> Circuits:
    health = Circuits()
    health.failed(A, DOWN, now)
    health.failed(A, DOWN, now)
    return health


def test_a_half_open_circuit_lets_one_call_in_at_a_time():
    health = down()
    assert health.admit(A, 1059.9) is None
    first = health.admit(A, 1060)
    assert first is not None
    assert health.admit(A, 1060) is None
    assert health.admit(B, 1060) is None  # it is the provider that is tried out
    health.release(first)
    assert health.admit(B, 1060) is not None


def test_a_try_that_fails_closes_it_off_again():
    health = down()
    admission = health.admit(A, 1061)
    assert admission is not None
    health.failed(A, DOWN, 1062)
    health.release(admission)
    assert health.admit(A, 1121.9) is None
    assert health.admit(A, 1122) is not None


def test_a_try_that_succeeds_opens_it_for_all():
    health = down()
    admission = health.admit(A, 1061)
    health.succeeded(A, 1062)
    assert admission is not None
    assert health.admit(A, 1062) is not None
    assert health.admit(A, 1062) is not None


def test_who_releases_late_takes_nobody_elses_turn():
    health = down()
    first = health.admit(A, 1061)
    assert first is not None
    health.release(first)
    second = health.admit(A, 1062)
    health.release(first)
    assert second is not None
    assert health.admit(A, 1063) is None


def test_asking_claims_nothing():
    health = down()
    assert health.is_available(A, 1061)
    assert health.is_available(A, 1061)


def test_a_missing_model_leaves_the_rest_of_its_provider_alone():
    health = Circuits()
    for second in range(5):
        health.failed(A, MISSING, 1000 + second)
    assert health.admit(A, 1005) is None
    assert health.admit(B, 1005) is not None
    shown = health.snapshot(["groq"])["groq"]
    assert (shown.status, shown.consecutive_failures) == ("healthy", 0)
    assert shown.models["a"].last_error == "missing_model"


def test_a_slow_model_leaves_the_rest_of_its_provider_alone():
    health = Circuits()
    for second in range(5):
        health.failed(A, SLOW, 1000 + second)
    assert health.admit(A, 1005) is None
    assert health.admit(B, 1005) is not None


def test_two_failing_models_are_a_failing_provider():
    health = Circuits()
    health.failed(A, SLOW, 1000)
    health.failed(B, SLOW, 1000)
    assert health.admit(Target("groq", "c"), 1001) is None


def test_a_success_of_another_model_does_not_clear_a_model():
    health = Circuits()
    health.failed(A, SLOW, 1000)
    health.failed(A, SLOW, 1000)
    health.succeeded(B, 1001)
    assert health.admit(A, 1001) is None


def test_a_probe_that_works_says_nothing_about_calls():
    health = down()
    health.probed("groq", None, 1030)
    assert health.admit(A, 1031) is None
    assert health.snapshot()["groq"].consecutive_failures == 2


def test_a_probe_takes_back_what_probes_found():
    health = Circuits()
    health.probed("groq", "probe_timeout", 1000)
    health.probed("groq", "probe_timeout", 1030)
    assert not health.is_available(A, 1031)
    health.probed("groq", None, 1060)
    assert health.is_available(A, 1060)


def test_a_wait_that_was_asked_for_is_kept_at_once_and_not_cut_short():
    health = Circuits()
    health.failed(A, ProviderTrouble("rate_limit", "model", at_once=True, wait_s=200), 1000)
    health.failed(A, ProviderTrouble("rate_limit", "model", wait_s=15), 1001)
    assert health.admit(A, 1199) is None
    assert health.wait_s([A], 1100) == 100
    assert health.admit(A, 1200) is not None


def test_the_wait_is_that_of_the_first_who_may_be_called():
    health = down()
    assert health.wait_s([A], 1010) == 50
    assert health.wait_s([A, Target("ollama", "x")], 1010) is None
    assert health.wait_s([], 1010) is None


def test_a_clock_that_is_set_back_closes_nobody_off_for_long():
    assert down().admit(A, 900) is not None


def test_listeners_hear_changes_only_and_may_fail(caplog: pytest.LogCaptureFixture):
    heard: list[tuple[str, bool]] = []

    def listener(provider: str, healthy: bool) -> None:
        heard.append((provider, healthy))
        raise RuntimeError("no")

    health = Circuits(listener=listener)
    for _ in range(3):
        health.failed(A, DOWN, 1000)
    health.succeeded(A, 1001)
    health.succeeded(A, 1001)
    assert heard == [("groq", False), ("groq", True)]
    assert "health_listener_failed" in caplog.text


def test_a_snapshot_is_a_copy_and_fills_in_who_was_never_called():
    health = down()
    before = health.snapshot(["ollama"])
    health.succeeded(A, 1001)
    assert (before["groq"].status, before["groq"].unhealthy_until_unix) == ("unhealthy", 1060)
    assert (before["ollama"].status, before["ollama"].last_check_unix) == ("healthy", None)


def test_forgetting_starts_afresh():
    health = down()
    health.failed(A, MISSING, 1000)
    health.forget("groq")
    assert health.admit(A, 1001) is not None


def test_the_memory_of_models_has_an_end():
    health = Circuits()
    for number in range(MOST_MODELS + 5):
        health.failed(Target("groq", str(number)), MISSING, 1000)
    assert len(health.snapshot(["groq"])["groq"].models) == MOST_MODELS
    assert health.admit(Target("groq", "0"), 1001) is not None
    assert health.admit(Target("groq", str(MOST_MODELS)), 1001) is None


@pytest.mark.parametrize(("threshold", "backoff_s"), [(0, 60.0), (2, -1.0)])
def test_senseless_numbers_are_refused(threshold: int, backoff_s: float):
    with pytest.raises(ValueError, match="needs to be at least"):
        Circuits(threshold, backoff_s)


EVENTS = st.lists(
    st.tuples(st.sampled_from(["fail", "slow", "missing", "ok", "probe", "bad"]), st.floats(0, 40)),
    max_size=20,
)


@given(EVENTS)
def test_whatever_happened_one_call_succeeding_makes_all_well(events: list[tuple[str, float]]):
    health, now = Circuits(), 1000.0
    troubles = {"fail": DOWN, "slow": SLOW, "missing": MISSING}
    for event, passed in events:
        now += passed
        if event in troubles:
            health.failed(A, troubles[event], now)
        elif event == "ok":
            health.succeeded(A, now)
        else:
            health.probed("groq", None if event == "probe" else "probe_failed", now)
    health.succeeded(A, now)
    assert health.admit(A, now) is not None
    assert health.admit(A, now) is not None
