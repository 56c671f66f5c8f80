"""What the cloud may cost, and how much more is asked for."""

import dataclasses
import itertools
from typing import Any

import pytest
from hypothesis import given, settings

from app.routing_records import Level
from app.signals import Signals
from routing.policy import decide
from tests.policy_scene import SHIPPED, Course, a_cloud, a_queue, courses, signals

#: An excess of 100 jobs.
MUCH = a_queue(148)

AT_CAP = {"jobs_left": 0, "jobs_minute": 600}


# The caps


def test_a_cap_that_holds_jobs_back_is_an_alert_until_less_than_four_fifths_were_used_for_a_minute() -> None:
    course = Course()

    course.go(signals(queue=MUCH, cloud=a_cloud(**AT_CAP)))
    assert [(alert.name, alert.scope, alert.value) for alert in course.decision.opened] == [("spend-cap", "cloud", 100.0)]
    assert course.decision.opened[0].detail == ("100 % of the caps is used: the cap on jobs a minute holds back what would "
                                                "leave for the cloud, with 600 jobs in the last minute, of 600")
    course.go(signals(cloud=a_cloud(jobs_left=100, jobs_minute=500)), seconds=300)
    assert course.closed() == []
    course.go(signals(cloud=a_cloud(jobs_left=200, jobs_minute=400)), seconds=60)
    assert course.closed() == []
    course.go(signals(cloud=a_cloud(jobs_left=200, jobs_minute=400)))
    assert [alert.detail for alert in course.closed()] == ["less than 80 % of the caps is used"]


@pytest.mark.parametrize(("cloud", "told"), [
    ({"jobs_left": 5, "jobs_minute": 595},
     "the cap on jobs a minute holds back what would leave for the cloud, with 595 jobs in the last minute, and 5 in this "
     "round, of 600"),
    ({"money_left": 0.00125, "money_hour": 99.99875, "job_cost": 0.0004125},
     "the cap on money an hour holds back what would leave for the cloud, with 100 spent or reserved in the last hour, "
     "and up to 0.001237 in this round, of 100, where a job costs up to 0.0004125"),
    ({"money_left": 0.0, "money_hour": 0.05678}, "the cap on money an hour holds back what would leave for the cloud, with "
     "0.05678 spent or reserved in the last hour, of 100, where a job costs up to 0.01")],
    ids=["jobs", "a round's money", "money"])
def test_the_alert_of_a_cap_says_which_it_is_and_what_has_gone_into_it(cloud: dict[str, Any], told: str) -> None:
    course = Course()

    course.go(signals(queue=MUCH, cloud=a_cloud(**cloud)))
    assert course.decision.opened[0].detail == f"100 % of the caps is used: {told}"
    assert course.decision.opened[0].action == "the excess waits"
    course.go(signals(cloud=a_cloud(**cloud)))
    assert course.remembered.alerts["spend-cap@cloud"].action == "nothing is held back at the moment"


@pytest.mark.parametrize("used", [{"jobs_left": 119, "jobs_minute": 481}, {"money_left": 19.0, "money_hour": 81.0}],
                         ids=["jobs", "money"])
def test_above_four_fifths_of_a_cap_the_history_warns(used: dict[str, Any]) -> None:
    course = Course()

    course.go(signals(cloud=a_cloud(**used)))
    assert [(change.scope, change.before, change.after) for change in course.decision.changes] == [
        ("spend_percent@cloud", "normal", "warning")]
    assert course.decision.opened == ()


def test_jobs_that_leave_as_fast_as_the_cap_allows_are_one_alert() -> None:
    course = Course()

    for second in range(600):
        left = 10 if second % 3 else 0
        course.go(signals(queue=MUCH, cloud=a_cloud(jobs_left=left, jobs_minute=600 - left)))
    assert len(course.opened()) == 1


def test_at_the_cap_the_excess_waits() -> None:
    course = Course()

    course.go(signals(queue=MUCH, cloud=a_cloud(**AT_CAP)), seconds=60)
    assert course.decision.shed.lanes == ()
    assert course.decision.reason.endswith("an excess of 100 waits, as the cap on jobs a minute is reached")


# Growth


def test_many_users_grow_the_pools_and_ask_for_one_more_cloud_worker_a_minute_and_less_in_time() -> None:
    course = Course()
    few = a_cloud(workers=1)

    course.go(signals(users=1500, cloud=few), seconds=11)
    assert (course.decision.grow, course.decision.cloud_workers) == (True, 2)
    course.go(signals(users=1500, cloud=few), seconds=600)
    assert course.decision.cloud_workers == 3
    assert course.until(signals(users=900, cloud=few), at_most_s=400, grow=False) == 300
    assert course.until(signals(users=900, cloud=few), at_most_s=400, cloud_workers=2) == 299
    course.go(signals(users=900, cloud=few), seconds=1000)
    assert course.decision.cloud_workers is None
    assert [(change.scope, change.after) for change in course.changes("scale")] == [
        ("home", "grown"), ("cloud", "2"), ("cloud", "3"), ("home", "as started"), ("cloud", "2"),
        ("cloud", "as there are")]


def test_no_more_are_asked_for_once_the_crowd_has_gone_while_its_alert_lasts() -> None:
    course, few = Course(), a_cloud(workers=1)

    course.go(signals(users=1500, cloud=few), seconds=11)
    course.go(signals(users=3, cloud=few), seconds=250)
    assert (course.decision.grow, course.decision.cloud_workers) == (True, 2)


def test_an_excess_that_stays_without_room_in_the_cloud_asks_for_a_cloud_worker() -> None:
    course = Course()

    assert course.until(signals(queue=MUCH, cloud=a_cloud(workers=0)), at_most_s=30, cloud_workers=1) == 10
    assert course.until(signals(queue=MUCH, cloud=a_cloud(workers=1, slots=8, sent=28)), at_most_s=99,
                        cloud_workers=2) == 59


@pytest.mark.parametrize("lack", [AT_CAP, {"reachable": False}, {"posts_failed": 3}])
def test_no_cloud_worker_is_asked_for_that_would_get_nothing_to_do(lack: dict[str, Any]) -> None:
    course = Course()

    course.go(signals(users=1500, queue=MUCH, cloud=a_cloud()), seconds=8)
    course.go(signals(users=1500, queue=MUCH, cloud=a_cloud(workers=1, slots=8, **lack)), seconds=10)
    assert all(decision.cloud_workers is None for decision in course.decisions)
    assert course.decision.grow


def test_where_more_cloud_workers_live_than_may_be_asked_for_none_is() -> None:
    course = Course()

    course.go(signals(users=1500, queue=MUCH, cloud=a_cloud(workers=5)), seconds=200)
    assert all(decision.cloud_workers is None for decision in course.decisions)


def fleet(live: int, **signs: Any) -> Signals:
    """Return signals of so many cloud workers, with users that ask for more unless the test says otherwise."""
    return signals(**({"users": 1500} | signs), cloud=a_cloud(workers=live, slots=8 * live))


def test_a_fleet_that_grew_from_nothing_goes_back_to_nothing() -> None:
    course = Course(dataclasses.replace(SHIPPED, cloud_workers_most=1))

    course.go(fleet(0), seconds=11)
    assert course.decision.cloud_workers == 1
    course.go(fleet(1), seconds=30)
    assert course.decision.cloud_workers is None, "there are as many as are wanted"
    assert course.until(fleet(1, users=10), at_most_s=1000, cloud_workers=0) > 300
    assert course.go(fleet(1, users=10), seconds=90).cloud_workers == 0, "until it is done"
    assert course.go(fleet(0, users=10)).cloud_workers is None
    course.go(fleet(2, users=10), seconds=1000)
    assert {decision.cloud_workers for decision in course.decisions[-1000:]} == {None}, "started by hand"


def test_cloud_workers_that_are_started_by_hand_are_not_sent_away() -> None:
    course = Course()

    course.go(fleet(2), seconds=11)
    assert course.decision.cloud_workers == 3
    course.go(fleet(3), seconds=60)
    course.go(fleet(5), seconds=60)
    course.go(fleet(5, users=10), seconds=2000)
    assert {decision.cloud_workers for decision in course.decisions[11:]} == {None}
    assert course.remembered.scale.cloud_workers is None


def test_as_many_cloud_workers_stay_as_there_were() -> None:
    course = Course()

    course.go(fleet(1), seconds=11)
    course.go(fleet(2), seconds=60)
    course.go(fleet(3), seconds=60)
    course.until(fleet(3, users=10), at_most_s=1000, cloud_workers=2)
    course.go(fleet(2, users=10), seconds=200)
    assert course.decision.cloud_workers is None, "the step is done"
    course.until(fleet(2, users=10), at_most_s=1000, cloud_workers=1)
    course.go(fleet(1, users=10), seconds=2000)
    assert course.remembered.scale.cloud_workers is None
    assert {decision.cloud_workers for decision in course.decisions[-1999:]} == {None}


def test_with_a_lower_limit_fewer_are_asked_for_but_no_fewer_than_there_were() -> None:
    course = Course()
    course.go(fleet(1), seconds=11)
    course.go(fleet(2), seconds=60)
    course.go(fleet(3), seconds=5)

    course.rules = dataclasses.replace(SHIPPED, cloud_workers_most=2)
    assert course.go(fleet(3)).cloud_workers == 2
    course.rules = dataclasses.replace(SHIPPED, cloud_workers_most=0)
    assert course.go(fleet(2)).cloud_workers == 1


def _number(wanted: str) -> int:
    return int(wanted) if wanted.isdigit() else 0


@given(course=courses)
def test_never_more_cloud_workers_are_asked_for_than_may_be_and_one_at_a_time(course: list[tuple[Signals, int]]) -> None:
    rounds = Course()
    for seen, seconds in course:
        rounds.go(seen, seconds=seconds)

    assert all((decision.cloud_workers or 0) <= SHIPPED.cloud_workers_most for decision in rounds.decisions)
    ups = [change.at_s for change in rounds.changes("scale") if change.scope == "cloud"
           and _number(change.after) > _number(change.before)]
    assert all(later - earlier >= SHIPPED.scale_step_s for earlier, later in itertools.pairwise(ups))


@settings(max_examples=30)
@given(course=courses)
def test_after_an_hour_at_ease_all_is_as_it_was(course: list[tuple[Signals, int]]) -> None:
    rounds = Course()
    for seen, seconds in course:
        rounds.go(seen, seconds=seconds)

    calm = signals(cloud=a_cloud(posts=99, posts_failed=99, lapsed=99, begun=99))
    rounds.go(calm, seconds=3 * 300 + 400)
    remembered = rounds.remembered
    assert {gauge.level for gauge in remembered.gauges.values()} == {Level.NORMAL}
    assert {view.standing.value for view in remembered.servers.values()} == {"open"}
    assert (remembered.alerts, remembered.hold, remembered.shed, remembered.share) == ({}, {}, 0, 0.0)
    assert (remembered.scale.grown, remembered.scale.cloud_workers) == (False, None)
    assert remembered.breaker.state.value == "closed"
    assert decide(calm, SHIPPED, remembered, rounds.now_s)[1].changes == ()
