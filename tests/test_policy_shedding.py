"""Which lanes' new jobs are refused, from when on, and until when."""

import dataclasses
import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.routing_rules import AtCap
from app.signals import Signals
from tests.policy_scene import SHIPPED, Course, a_cloud, a_queue, signals

BATCH, STANDARD, ALL = ("batch",), ("batch", "standard"), ("batch", "standard", "interactive")

AT_CAP = a_cloud(jobs_left=0, jobs_minute=600)


def waits(wait_s: float | None, **queue: Any) -> Signals:
    """Return signals of a model queue with that wait, and no cloud."""
    return signals(queue=a_queue(50, wait_s=wait_s, **queue))


@pytest.mark.parametrize(("wait_s", "lanes"), [(120, ()), (121, BATCH), (240, BATCH), (241, STANDARD), (480, STANDARD),
                                               (481, ALL)])
def test_the_longer_the_wait_the_more_lanes_are_refused(wait_s: float, lanes: tuple[str, ...]) -> None:
    course = Course()

    course.go(waits(wait_s), seconds=60)
    assert course.decision.shed.lanes == lanes


def test_lanes_are_refused_a_step_at_a_time_and_taken_again_when_the_wait_is_half_of_their_bound_for_a_while() -> None:
    course = Course()

    course.go(waits(1000), seconds=30)
    course.go(waits(130), seconds=60)
    assert course.decision.shed.lanes == STANDARD
    course.go(waits(59), seconds=60)
    assert course.decision.shed.lanes == ()
    first = course.changes("shed")[0].at_s
    assert [(change.at_s - first, change.after) for change in course.changes("shed")] == [
        (0, "batch"), (5, "batch, standard"), (10, "batch, standard, interactive"), (30, "batch, standard"), (90, "batch"),
        (101, "nothing")]
    assert [alert.name for alert in course.opened()] == [alert.name for alert in course.closed()] == ["shedding"]


def test_a_wait_that_is_long_for_a_moment_refuses_nothing_until_it_has_lasted() -> None:
    course = Course()

    for _ in range(20):
        course.go(waits(1000), seconds=10)
        course.go(waits(100))
    assert course.changes("shed") == []
    course.go(waits(1000), seconds=5)
    course.now_s += 3600
    assert course.until(waits(1000), at_most_s=20, shed=course.decision.shed) == 0
    course.go(waits(1000), seconds=9)
    assert course.decision.shed.lanes == (), "what was before a gap does not count"
    assert course.go(waits(1000)).shed.lanes == BATCH


def test_when_nothing_waits_any_more_all_lanes_are_taken_again_at_once() -> None:
    course = Course()

    course.go(waits(1000), seconds=30)
    assert course.decision.shed.lanes == ALL
    course.go(signals(queue=a_queue(0), cloud=a_cloud(sent=1)))
    assert course.decision.shed.lanes == ALL, "one waits in the cloud"
    course.go(signals(queue=a_queue(0), cloud=a_cloud()))
    assert course.decision.shed.lanes == ()
    assert course.changes("shed")[-1].why == "nothing waits any more"
    assert [alert.detail for alert in course.decision.closed] == ["nothing waits any more; all lanes are taken again"]


@pytest.mark.parametrize(("wait_s", "retry_after_s"), [(121, 60), (70, 10), (61, 5)])
def test_callers_are_told_to_come_back_when_the_wait_may_be_over(wait_s: float, retry_after_s: int) -> None:
    course = Course()

    course.go(waits(121), seconds=11)
    assert course.go(waits(wait_s)).shed.retry_after_s == retry_after_s


def test_where_no_wait_can_be_foretold_the_first_in_line_tells_it() -> None:
    course = Course()

    assert course.go(waits(None, oldest_s=121.0), seconds=11).shed.lanes == BATCH


def test_the_wait_counts_with_the_cloud_s_help() -> None:
    """Home ends 16 jobs a second, and the cloud 40: 130 s at home are 37 s with it."""
    course, alone = Course(), Course()

    course.go(signals(queue=a_queue(2080), cloud=a_cloud()), seconds=20)
    alone.go(signals(queue=a_queue(2080), cloud=a_cloud(workers=0)), seconds=11)
    assert (course.decision.shed.lanes, alone.decision.shed.lanes) == ((), BATCH)


@given(waits_s=st.lists(st.tuples(st.none() | st.sampled_from([0.0, 59.0, 61.0, 121.0, 241.0, 1e4]), st.integers(1, 25)),
                        min_size=1, max_size=20))
def test_refusing_takes_one_step_in_step_s_at_most_and_ends_when_the_wait_is_short(
        waits_s: list[tuple[float | None, int]]) -> None:
    rounds = Course()
    for wait_s, seconds in waits_s:
        rounds.go(waits(wait_s, oldest_s=wait_s or 0.0), seconds=seconds)
    steps = [change.at_s for change in rounds.changes("shed")]
    assert all(later - earlier >= 5.0 for earlier, later in itertools.pairwise(steps))
    begun = [change for change in rounds.changes("shed") if change.before == "nothing"]
    assert len(begun) <= 1 + len(rounds.decisions) / 15  # begun again only after 10 s of less, and a step

    rounds.go(waits(0.0), seconds=40)
    assert rounds.decision.shed.lanes == ()


def test_at_the_cap_new_jobs_are_refused_where_the_rules_say_so_until_there_is_no_excess() -> None:
    course = Course(dataclasses.replace(SHIPPED, at_cap=AtCap.SHED))
    capped = signals(queue=a_queue(148), cloud=AT_CAP)

    assert course.go(capped).shed.lanes == BATCH
    assert course.go(capped, seconds=20).shed.lanes == ALL
    assert course.decision.shed.why == "the cloud's cap is reached, and more waits than home can do in time"
    course.go(signals(cloud=AT_CAP), seconds=60)
    assert course.decision.shed.lanes == ()
