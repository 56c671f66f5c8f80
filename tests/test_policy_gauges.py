"""Levels of signals: each row of the shipped table, and that they neither flap nor stay for ever."""

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.routing_records import Gauge, Level
from app.routing_rules import Action, Threshold
from app.signals import Signals
from routing.policy import readings
from routing.policy.gauges import gauge_after
from tests.policy_scene import SHIPPED, Course, a_server, signals, times

CPU = SHIPPED.thresholds["cpu_percent"]


def with_cpu(value: float | None) -> Signals:
    """Return signals with that CPU of the first server."""
    return signals(a_server(cpu_percent=value))


#: A signal, how it is raised, and its row in the table: normal, alert, for_s, hold_s, action.
ROWS: list[tuple[str, dict[str, Any], dict[str, Any], tuple[float, float, float, float, Action]]] = [
    ("cpu_percent@server-1", {"cpu_percent": 80.0}, {"cpu_percent": 70.0}, (70, 80, 10, 60, Action.FAILOVER)),
    ("memory_percent@server-1", {"memory_percent": 85.0}, {"memory_percent": 75.0}, (75, 85, 5, 60, Action.FAILOVER)),
    ("response_s@server-1", {"calls": times(2.0)}, {"calls": times(1.0)}, (1, 2, 30, 120, Action.INVESTIGATE)),
    ("response_s@server-1", {"answers": times(2.0)}, {"answers": times(1.0)}, (1, 2, 30, 120, Action.INVESTIGATE)),
    ("error_percent@server-1", {"requests_failed": 50}, {"requests_failed": 10}, (1, 5, 10, 120, Action.FAILOVER)),
    ("error_percent@server-1", {"attempts_failed": 50}, {"attempts_failed": 10}, (1, 5, 10, 120, Action.FAILOVER)),
]


@pytest.mark.parametrize(("key", "raised", "normal", "row"), ROWS, ids=[f"{row[0]}-{next(iter(row[1]))}" for row in ROWS])
def test_a_signal_is_in_alert_after_its_time_at_alert_and_normal_after_its_time_at_normal(
        key: str, raised: dict[str, Any], normal: dict[str, Any], row: tuple[float, float, float, float, Action]) -> None:
    threshold, (low, high, for_s, hold_s, action) = SHIPPED.thresholds[key.partition("@")[0]], row
    assert threshold == Threshold(normal=low, alert=high, for_s=for_s, hold_s=hold_s, action=action)
    course = Course()

    course.go(signals(a_server(**raised)), seconds=for_s)
    assert course.level(key) == "normal"
    course.go(signals(a_server(**raised)))
    assert course.level(key) == "alert"
    course.go(signals(a_server(**normal)), seconds=hold_s)
    assert course.level(key) == "alert"
    course.go(signals(a_server(**normal)))
    assert course.level(key) == "normal"


def test_fifteen_hundred_users_are_in_alert_after_ten_seconds_and_a_thousand_normal_after_five_minutes() -> None:
    course = Course()

    course.go(signals(users=1500), seconds=11)
    assert course.level("concurrent_users@all") == "alert"
    course.go(signals(users=1000), seconds=300)
    assert course.level("concurrent_users@all") == "alert"
    course.go(signals(users=1000))
    assert course.level("concurrent_users@all") == "normal"


@pytest.mark.parametrize(("members", "value"), [
    ({"requests": 19, "requests_failed": 19, "attempts": 0}, 0.0),
    ({"requests": 20, "requests_failed": 2}, 0.0),
    ({"requests": 20, "requests_failed": 3}, 15.0),
    ({"requests": 100, "requests_failed": 4, "attempts": 50, "attempts_failed": 5}, 10.0)])
def test_an_error_rate_needs_twenty_samples_and_three_failures_and_is_the_worse_of_two(
        members: dict[str, int], value: float) -> None:
    assert readings(signals(a_server(**members)))["error_percent@server-1"] == value


@pytest.mark.parametrize(("members", "value"), [
    ({"calls": times(9.0, 19), "answers": times(0.5, 20)}, 0.5),
    ({"calls": times(0.4), "answers": None}, 0.4),
    ({"calls": times(9.0, 19), "answers": None}, 0.0),
    ({"calls": None, "answers": None}, None)])
def test_a_response_time_is_the_worse_p95_of_enough_samples_and_unknown_without_a_gateway(
        members: dict[str, Any], value: float | None) -> None:
    assert readings(signals(a_server(**members)))["response_s@server-1"] == value


def test_nothing_is_known_of_a_server_that_is_not_heard_of() -> None:
    values = readings(signals(None, users=None))

    assert [values[key] for key in values if key.endswith(("@server-1", "@all"))] == [None] * 5
    assert None not in [values[key] for key in values if key.endswith("@server-2")]


def test_in_the_band_between_normal_and_alert_a_level_stays_but_warns() -> None:
    course = Course()

    course.go(with_cpu(75.0), seconds=11)
    assert course.level("cpu_percent@server-1") == "warning"
    course.go(with_cpu(80.0), seconds=11)
    course.go(with_cpu(75.0), seconds=600)
    assert course.level("cpu_percent@server-1") == "alert"


def test_what_has_to_last_begins_anew_after_a_value_that_is_not_known() -> None:
    course = Course()

    course.go(with_cpu(90.0), seconds=10)
    course.go(with_cpu(None))
    assert course.remembered.gauges["cpu_percent@server-1"].value is None
    course.go(with_cpu(90.0), seconds=10)
    assert course.level("cpu_percent@server-1") == "normal"
    course.go(with_cpu(90.0))
    assert course.level("cpu_percent@server-1") == "alert"


def test_after_a_gap_without_rounds_what_has_to_last_begins_anew() -> None:
    course = Course()

    course.go(with_cpu(90.0), seconds=5)
    course.now_s += 60.0
    course.go(with_cpu(90.0), seconds=10)
    assert course.level("cpu_percent@server-1") == "normal"
    course.go(with_cpu(90.0))
    assert course.level("cpu_percent@server-1") == "alert"


def test_a_clock_that_goes_back_delays_nothing_by_more_than_its_time() -> None:
    course = Course()

    course.go(with_cpu(90.0), seconds=5)
    course.now_s -= 3600.0
    course.go(with_cpu(90.0), seconds=11)
    assert course.level("cpu_percent@server-1") == "alert"


thresholds = st.builds(
    Threshold, normal=st.just(70.0), alert=st.just(80.0), for_s=st.sampled_from([0.0, 1.0, 10.0, 45.0]),
    hold_s=st.sampled_from([0.0, 1.0, 60.0]), action=st.just(Action.FAILOVER))
values = st.lists(st.none() | st.sampled_from([0.0, 70.0, 70.1, 79.9, 80.0, 100.0]), min_size=1, max_size=300)
sawtooth = st.tuples(st.integers(1, 80), st.integers(1, 80)).map(lambda up: ([100.0] * up[0] + [0.0] * up[1]) * 4)


def levels(threshold: Threshold, seen: list[float | None], before: Gauge | None = None) -> list[Level]:
    """Return the levels that values lead to, one a second."""
    gauge, found = before or Gauge(), []
    for second, value in enumerate(seen, start=1):
        gauge = gauge_after(gauge, value, threshold, float(second))
        found.append(gauge.level)
    return found


@given(threshold=thresholds, seen=values | sawtooth)
def test_whatever_a_signal_does_its_transitions_are_bounded_by_the_times_of_its_threshold(
        threshold: Threshold, seen: list[float | None]) -> None:
    found = [Level.NORMAL, *levels(threshold, seen)]
    cycle_s = max(1.0, threshold.for_s + threshold.hold_s)  # a round is the shortest time there is

    transitions = sum(one is not next_ for one, next_ in itertools.pairwise(found))
    openings = sum(one is not Level.ALERT and next_ is Level.ALERT for one, next_ in itertools.pairwise(found))
    assert transitions <= 3 * (1 + len(seen) / cycle_s)
    assert openings <= 1 + len(seen) / cycle_s


@given(threshold=thresholds, seen=values | sawtooth)
def test_an_alert_is_left_for_normal_only(threshold: Threshold, seen: list[float | None]) -> None:
    found = levels(threshold, seen)

    assert (Level.ALERT, Level.WARNING) not in itertools.pairwise(found)


@given(threshold=thresholds, seen=values | sawtooth, low=st.sampled_from([0.0, 70.0]))
def test_a_signal_that_stays_normal_long_enough_is_normal(threshold: Threshold, seen: list[float | None],
                                                          low: float) -> None:
    rest = [low] * (int(threshold.hold_s) + 1)

    assert levels(threshold, seen + rest)[-1] is Level.NORMAL


@given(threshold=thresholds, seen=values | sawtooth, unknown=st.integers(1, 200))
def test_what_is_not_known_changes_no_level(threshold: Threshold, seen: list[float | None], unknown: int) -> None:
    found = levels(threshold, seen + [None] * unknown)

    assert set(found[len(seen):]) == {found[len(seen) - 1]}


@given(threshold=thresholds, seen=values, low=st.floats(0, 100), more=st.floats(0, 100))
def test_a_higher_value_never_leads_to_a_lower_level(threshold: Threshold, seen: list[float | None], low: float,
                                                     more: float) -> None:
    order = [Level.NORMAL, Level.WARNING, Level.ALERT]

    assert order.index(levels(threshold, [*seen, low])[-1]) <= order.index(levels(threshold, [*seen, low + more])[-1])


def test_cpu_on_the_edge_for_an_hour_opens_one_alert_at_most_in_seventy_seconds() -> None:
    found = levels(CPU, ([80.0] * 11 + [70.0] * 61) * 50)

    assert sum(one is not Level.ALERT and now is Level.ALERT for one, now in itertools.pairwise(found)) == 50
    assert Level.ALERT not in levels(CPU, ([80.0] * 10 + [79.9]) * 330)
