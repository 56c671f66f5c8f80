"""Whether the cloud is used: the breaker opens, tries it again, and closes."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.routing_records import BreakerState
from app.signals import CloudSignals, Signals
from tests.policy_scene import Course, a_cloud, a_queue, courses, signals

#: An excess of 100 jobs.
MUCH = a_queue(148)


def much(**cloud: Any) -> Signals:
    """Return signals of an excess, and that cloud."""
    return signals(queue=MUCH, cloud=a_cloud(**cloud))


def opened_by_failures() -> Course:
    """Return a course in which three posts have failed."""
    course = Course()
    for failed in range(4):
        course.go(much(posts_failed=failed, sent=7))
    return course


def test_three_failures_in_a_row_open_it_and_all_that_was_not_begun_comes_home() -> None:
    course = opened_by_failures()

    assert [decision.send for decision in course.decisions] == [25, 25, 25, 0]
    assert course.decision.recall == 7
    assert course.remembered.share == 0.0
    assert [(alert.name, alert.scope) for alert in course.decision.opened] == [("cloud-unreachable", "cloud")]
    assert course.decision.opened[0].detail == "3 posts or jobs failed in a row; the cloud is tried again in 10 s"


def test_a_job_begun_in_the_cloud_ends_a_row_of_failures() -> None:
    course = Course()

    for failed in range(10):
        course.go(much(posts_failed=failed, begun=failed // 2))
    assert course.remembered.breaker.state is BreakerState.CLOSED


@pytest.mark.parametrize(("second", "state"), [(3, "closed"), (4, "open")])
def test_a_cloud_worker_that_dies_with_many_jobs_is_one_failure_and_three_are_a_row(second: int, state: str) -> None:
    course = Course()

    for lapsed in [0, 8, 16, 24][:second]:
        course.go(much(lapsed=lapsed))
    assert course.remembered.breaker.state.value == state


def test_a_cloud_where_jobs_fail_and_none_ends_well_is_left_alone() -> None:
    course = Course()

    for failed in range(4):
        course.go(much(begun=5 * failed, failed=failed))
    assert course.remembered.breaker.state is BreakerState.OPEN
    assert course.decision.opened[0].detail.startswith("jobs failed there in 3 rounds, and none ended well; the cloud is")
    assert course.until(much(begun=15, failed=3), at_most_s=20, probe=True) > 0
    course.go(much(begun=16, failed=4))
    assert course.remembered.breaker.state is BreakerState.OPEN


def test_failures_between_good_ends_do_not_open_it() -> None:
    course = Course()

    for number in range(60):
        course.go(much(begun=2 * number, failed=number, succeeded=number // 2))
    assert course.remembered.breaker.state is BreakerState.CLOSED


def test_mns_that_is_not_reached_opens_it_and_keeps_it_open_until_it_is_reached_again() -> None:
    course = Course()

    course.go(much(reachable=False), seconds=3)
    assert course.remembered.breaker.state is BreakerState.OPEN
    course.go(much(reachable=False), seconds=120)
    assert [change.after for change in course.changes("breaker")] == ["open"]
    assert not any(decision.send for decision in course.decisions)
    assert course.until(much(), at_most_s=80, probe=True) > 0
    assert course.go(much(begun=2)).send == 25
    assert [alert.detail for alert in course.closed()] == ["jobs were begun in the cloud again"]


def test_a_word_missed_now_and_then_does_not_open_it() -> None:
    course = Course()

    for second in range(60):
        course.go(much(reachable=second % 3 == 0))
    assert course.remembered.breaker.state is BreakerState.CLOSED


def test_half_open_one_job_at_a_time_tries_it_and_no_more_than_must_succeed() -> None:
    course = opened_by_failures()

    course.until(much(posts_failed=3), at_most_s=20, probe=True)
    assert (course.decision.send, course.decision.why["rule"]) == (1, "probe")
    assert course.go(much(posts_failed=3, sent=1)).send == 1
    assert course.go(much(posts_failed=3, sent=2)).send == 0
    course.go(much(posts_failed=3, sent=1, begun=1))
    assert course.remembered.breaker.state is BreakerState.HALF_OPEN
    course.go(much(posts_failed=3, begun=2))
    assert course.remembered.breaker.state is BreakerState.CLOSED
    assert course.remembered.share == 0.25
    assert [change.why for change in course.changes("breaker")] == [
        "3 posts or jobs failed in a row; it is tried again in 10 s", "its time is over; one job at a time tries it",
        "2 jobs were begun in the cloud"]


def test_a_failure_while_half_open_opens_it_for_twice_as_long_to_thirty_times() -> None:
    course, failed = opened_by_failures(), 3
    seconds = []
    while len(seconds) < 7:
        seconds.append(course.until(much(posts_failed=failed), at_most_s=400, probe=True))
        failed += 1
        course.go(much(posts_failed=failed))
        assert course.remembered.breaker.state is BreakerState.OPEN
    assert seconds == [9, 19, 39, 79, 159, 299, 299]
    assert len(course.opened()) == 1
    assert course.closed() == []


def test_without_anything_to_try_it_with_the_alert_closes_when_mns_is_reached_and_the_breaker_some_time_after() -> None:
    course = opened_by_failures()
    calm = signals(cloud=a_cloud(posts_failed=3))

    course.go(calm, seconds=10)
    assert course.remembered.breaker.state is BreakerState.HALF_OPEN
    course.go(calm, seconds=10)
    assert [alert.detail for alert in course.closed()] == ["MNS is reached again"]
    assert course.remembered.breaker.state is BreakerState.HALF_OPEN
    course.go(calm, seconds=300)
    assert course.remembered.breaker.state is BreakerState.CLOSED


def test_closed_for_long_its_openings_are_forgotten() -> None:
    course = opened_by_failures()

    course.until(much(posts_failed=3), at_most_s=20, probe=True)
    course.go(much(posts_failed=3, begun=2), seconds=300)
    assert course.remembered.breaker.openings == 1
    course.go(much(posts_failed=3, begun=2))
    assert course.remembered.breaker.openings == 0


def test_counts_seen_for_the_first_time_or_begun_anew_say_nothing() -> None:
    course = Course()

    course.go(much(posts=5000, posts_failed=900, lapsed=80, begun=4000))
    course.go(much(posts=3, posts_failed=3, lapsed=3, begun=0), seconds=10)
    assert course.remembered.breaker.state is BreakerState.CLOSED
    assert course.remembered.breaker.failures == 0


@given(course=courses)
def test_nothing_is_sent_while_it_is_open_and_one_job_a_round_while_half_open(course: list[tuple[Signals, int]]) -> None:
    rounds = Course()
    for seen, seconds in course:
        for _ in range(seconds):
            decision = rounds.go(seen)
            if decision.send and rounds.remembered.breaker.state is not BreakerState.CLOSED:
                assert rounds.remembered.breaker.state is BreakerState.HALF_OPEN
                assert (decision.send, decision.probe) == (1, True)


clouds = st.builds(a_cloud, reachable=st.sampled_from([True, True, False, None]), posts_failed=st.integers(0, 9),
                   lapsed=st.integers(0, 9), begun=st.integers(0, 9), sent=st.integers(0, 9))


@settings(max_examples=50)
@given(course=st.lists(clouds, min_size=1, max_size=100), anew=st.integers(0, 100))
def test_once_the_cloud_works_and_there_is_work_for_it_the_breaker_closes(course: list[CloudSignals], anew: int) -> None:
    rounds = Course()
    for cloud in course:
        rounds.go(signals(queue=MUCH, cloud=cloud))

    begun = anew
    for _ in range(700):
        begun += rounds.decision.send
        rounds.go(much(begun=begun))
        if rounds.remembered.breaker.state is BreakerState.CLOSED:
            break
    assert rounds.remembered.breaker.state is BreakerState.CLOSED
    assert "cloud-unreachable@cloud" not in rounds.remembered.alerts


@given(course=st.lists(clouds, min_size=1, max_size=300))
def test_it_does_not_open_more_often_than_it_stays_open(course: list[CloudSignals]) -> None:
    rounds = Course()
    for cloud in course:
        rounds.go(signals(queue=MUCH, cloud=cloud))

    openings = [change for change in rounds.changes("breaker") if change.after == "open"]
    assert len(openings) <= 1 + len(course) / 10
