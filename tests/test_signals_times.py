"""Times by bucket: percentiles near the exact ones, many processes' as one, and a window that slides."""

import math
from bisect import bisect_left

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.api.request_window import RequestWindow
from app.signal_times import merged, percentile_s, times
from app.signals import BOUNDS_S, WINDOW_S, Histogram

durations = st.lists(st.floats(BOUNDS_S[0], BOUNDS_S[-1], exclude_min=True), min_size=1, max_size=200)


def histogram(seconds: list[float]) -> Histogram:
    counts = [0] * (len(BOUNDS_S) + 1)
    for each in seconds:
        counts[bisect_left(BOUNDS_S, each)] += 1
    return Histogram(counts=tuple(counts), total_s=sum(seconds))


def exact(seconds: list[float], percent: float) -> float:
    """The least of them that so many percent do not exceed."""
    return sorted(seconds)[math.ceil(len(seconds) * percent / 100) - 1]


# -- what is read from a histogram


@given(seconds=durations, percent=st.sampled_from([1, 50, 90, 95, 99, 100]))
def test_a_percentile_is_at_most_a_tenth_from_the_exact_one(seconds: list[float], percent: float) -> None:
    assert percentile_s(histogram(seconds).counts, percent) == pytest.approx(exact(seconds, percent), rel=0.1)


@given(seconds=durations)
def test_the_mean_and_the_count_are_exact(seconds: list[float]) -> None:
    told = times(histogram(seconds))

    assert (told.count, told.mean_s) == (len(seconds), pytest.approx(sum(seconds) / len(seconds)))


@given(first=durations, second=durations)
def test_two_histograms_are_one_of_all_their_times(first: list[float], second: list[float]) -> None:
    whole = merged([histogram(first), histogram(second)])

    assert whole.counts == histogram(first + second).counts
    assert whole.total_s == pytest.approx(sum(first + second))


def test_of_no_times_all_is_nothing() -> None:
    told = times(merged([]))

    assert (told.count, told.mean_s, told.p50_s, told.p95_s) == (0, 0.0, 0.0, 0.0)


@pytest.mark.parametrize("took_s", [0.0, 0.0004, 0.001])
def test_what_is_shorter_than_the_first_bound_is_told_as_less_than_that(took_s: float) -> None:
    assert 0 < times(histogram([took_s])).p95_s < BOUNDS_S[0]


@pytest.mark.parametrize("took_s", [BOUNDS_S[-1] * 1.01, 1e6])
def test_what_is_longer_than_the_last_bound_is_told_as_at_least_that(took_s: float) -> None:
    assert times(histogram([took_s])).p50_s == BOUNDS_S[-1]


# -- the window


def counts(window: RequestWindow) -> tuple[int, int, int, int]:
    """How many calls, answers, requests, and failed ones it reports."""
    report = window.report("server-1", 1, 0, 0.0)
    return sum(report.calls.counts), sum(report.answers.counts), report.requests, report.requests_failed


def test_a_window_holds_a_minute_of_seconds_and_forgets_each_in_its_turn() -> None:
    window = RequestWindow()
    for second in range(3):
        window.now.request(0.5, failed=False)
        window.now.request(None, failed=True)
        window.waits("a job")
        window.heard("a job")
        window.turn(100.0 + second)

    window.turn(100.0 + WINDOW_S - 1)
    assert counts(window) == (3, 3, 6, 3)
    window.turn(100.0 + WINDOW_S)
    assert counts(window) == (2, 2, 4, 2)
    window.turn(101.5 + WINDOW_S)
    assert counts(window) == (1, 1, 2, 1)
    window.turn(102.0 + WINDOW_S)
    assert counts(window) == (0, 0, 0, 0)
    assert window.report("server-1", 1, 0, 0.0).calls.total_s == 0.0


@given(turns=st.lists(st.tuples(st.floats(0.5, 30), st.lists(st.floats(0, 200), max_size=5)), min_size=1, max_size=60))
def test_a_report_is_always_the_sum_of_the_last_minute(turns: list[tuple[float, list[float]]]) -> None:
    window, now_s, told = RequestWindow(), 0.0, list[tuple[float, list[float]]]()
    for step_s, seconds in turns:
        now_s += step_s
        for took_s in seconds:
            window.now.request(took_s, failed=False)
        window.turn(now_s)
        told.append((now_s, seconds))

    inside = [took_s for at_s, seconds in told if at_s > now_s - WINDOW_S for took_s in seconds]
    assert window.report("server-1", 1, 0, 0.0).calls.counts == histogram(inside).counts
    assert window.report("server-1", 1, 0, 0.0).calls.total_s == pytest.approx(sum(inside))


def test_what_the_present_second_holds_is_told_when_it_is_over() -> None:
    window = RequestWindow()
    window.now.request(0.1, failed=False)

    assert counts(window) == (0, 0, 0, 0)
    window.turn(1.0)
    assert counts(window) == (1, 0, 1, 0)


def test_each_tenant_is_told_once_in_a_second() -> None:
    window = RequestWindow()
    for tenant in ("ann", "ben", "ann"):
        window.seen.add(tenant)

    assert sorted(window.take_seen()) == ["ann", "ben"]
    assert window.take_seen() == []
