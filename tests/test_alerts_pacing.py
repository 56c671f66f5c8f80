"""Messages about alerts: how they gather, how many go, and when one is given up."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing.alerting.outcome import Outcome
from routing.alerting.pacing import (
    GATHER_MS,
    GIVEN_UP_MS,
    MOST_A_MINUTE,
    due_ms,
    is_hopeless,
    wait_ms,
)


def test_the_first_event_waits_a_few_seconds_for_others() -> None:
    assert due_ms(10_000, ()) == 10_000 + GATHER_MS


def test_a_storm_gets_three_messages_at_once_and_the_others_spread_over_the_minute() -> None:
    told: list[int] = []
    while (due := due_ms(told[-1] + 1 if told else 0, told)) < 60_000:
        told.append(due)

    assert [round(each / 1000) for each in told] == [3, 6, 9, 24, 39, 54]


@given(st.lists(st.integers(0, 600_000), min_size=1, max_size=300))
def test_no_minute_has_more_messages_than_allowed_whenever_events_come(events: list[int]) -> None:
    told: list[int] = []
    left = sorted(events)
    while left:
        now = due_ms(left[0], told[-6:])
        left = [each for each in left if each > now]
        told.append(now)

    assert all(later - earlier >= 60_000 for earlier, later in zip(told, told[MOST_A_MINUTE:], strict=False))
    assert all(b > a for a, b in pairwise(told))


@given(st.lists(st.integers(0, 600_000), min_size=1, max_size=300))
def test_no_event_waits_longer_than_a_minute_for_its_message(events: list[int]) -> None:
    told: list[int] = []
    left = sorted(events)
    while left:
        now = due_ms(left[0], told[-6:])
        assert now - left[0] <= 60_000
        left = [each for each in left if each > now]
        told.append(now)


def test_waits_double_up_to_five_minutes() -> None:
    failed = Outcome(error="answered 500")

    assert [wait_ms(failed, failures=n, chance=0.5) for n in (1, 2, 3, 8, 9, 10_000)] == [
        2000, 4000, 8000, 256_000, 300_000, 300_000]
    assert wait_ms(failed, failures=1, chance=0.0) < 2000 < wait_ms(failed, failures=1, chance=1.0)


@pytest.mark.parametrize(("asked_s", "wait"), [(30.0, 30_000), (0.0, 2000), (1e9, 3_600_000)])
def test_a_receiver_may_ask_for_more_time_up_to_an_hour(asked_s: float, wait: int) -> None:
    assert wait_ms(Outcome(error="answered 429", retry_after_s=asked_s), failures=1, chance=0.5) == wait


def test_what_is_refused_is_given_up_after_some_tries_and_what_fails_after_a_day() -> None:
    refused, failed = Outcome(error="answered 404", refused=True), Outcome(error="answered 503")

    assert [is_hopeless(refused, failures=n, age_ms=0) for n in (1, 5, 6)] == [False, False, True]
    assert not is_hopeless(failed, failures=1000, age_ms=GIVEN_UP_MS - 1)
    assert is_hopeless(failed, failures=1000, age_ms=GIVEN_UP_MS)
