"""An idle process lives as long as it costs less than a start, by what this node measured."""

import pytest

from supervisor.node.idle_time import BOUNDS_S, CROWDED_S, SAMPLES, UNMEASURED_S, IdleCosts
from supervisor.node.settings import Settings

PLAIN = Settings(data_dir="/", secrets_dir="/")


def measured(start_cpu_s: float, cpu_s_a_minute: float) -> IdleCosts:
    costs = IdleCosts()
    costs.started(start_cpu_s)
    costs.idled(cpu_s_a_minute, 60.0)
    return costs


def test_before_anything_is_measured_it_is_what_a_start_by_fork_costs():
    assert IdleCosts().idle_time(PLAIN).seconds == UNMEASURED_S
    only_starts = IdleCosts()
    only_starts.started(1.0)
    assert only_starts.idle_time(PLAIN).seconds == UNMEASURED_S
    assert only_starts.idle_time(PLAIN).start_cpu_s == 1.0


def test_it_is_the_time_in_which_idleness_costs_a_start():
    assert measured(0.2, 0.6).idle_time(PLAIN).seconds == pytest.approx(20.0)
    assert measured(0.5, 0.5).idle_time(PLAIN).seconds == pytest.approx(60.0)


@pytest.mark.parametrize(("start_cpu_s", "seconds"), [(0.0001, BOUNDS_S[0]), (50, BOUNDS_S[1])])
def test_it_stays_within_bounds(start_cpu_s: float, seconds: float):
    assert measured(start_cpu_s, 0.6).idle_time(PLAIN).seconds == seconds


def test_one_start_on_a_crowded_machine_changes_nothing():
    costs = measured(0.2, 0.6)
    for _ in range(2):
        costs.started(0.2)
    costs.started(9.0)
    assert costs.idle_time(PLAIN).start_cpu_s == 0.2


def test_what_was_true_long_ago_is_forgotten():
    costs = measured(0.2, 0.6)
    for _ in range(SAMPLES):
        costs.started(0.4)
        costs.idled(0.6, 60.0)
    assert costs.idle_time(PLAIN).seconds == pytest.approx(40.0)


def test_processes_that_do_not_say_what_they_burned_measure_nothing():
    costs = IdleCosts()
    costs.started(0.0)
    costs.idled(0.0, 2.0)
    costs.idled(1.0, 0.0)
    costs.idled(-1.0, 2.0)
    told = costs.idle_time(PLAIN)
    assert (told.start_cpu_s, told.idle_cpu_share) == (None, None)


def test_who_is_done_makes_way_while_others_wait_to_be_started():
    for costs in (IdleCosts(), measured(0.2, 0.6)):
        assert costs.idle_time(PLAIN, is_crowded=True).seconds == CROWDED_S


def test_a_setting_wins():
    costs = measured(0.2, 0.6)
    seven = Settings(data_dir="/", secrets_dir="/", agent_idle_s=7)
    assert costs.idle_time(seven).seconds == 7
    assert costs.idle_time(seven, is_crowded=True).seconds == 7
    kept = Settings(data_dir="/", secrets_dir="/", agent_idle_s=7, agent_keep_awake=True)
    assert costs.idle_time(kept).seconds is None
