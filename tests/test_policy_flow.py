"""How many jobs leave for the cloud, and how many come home."""

import dataclasses
import itertools
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.routing_records import BreakerState
from app.signals import CloudSignals, Signals
from routing.policy import decide
from tests.policy_scene import SERVERS, SHIPPED, Course, a_cloud, a_queue, a_server, anything, courses, paces, signals


def sends(queue: Any, cloud: CloudSignals | None, *, seconds: int = 1) -> list[int]:
    """Return how many jobs are sent in each of the first seconds."""
    course = Course()
    course.go(signals(queue=queue, cloud=cloud), seconds=seconds)
    return [decision.send for decision in course.decisions]


def test_what_home_begins_within_the_target_wait_stays() -> None:
    """32 slots, each 2 s a job: 80 in five seconds, of which two fifths are left for what comes between two rounds."""
    assert sends(a_queue(48), a_cloud(), seconds=60) == [0] * 60
    assert sends(a_queue(49), a_cloud()) == [1]
    assert sends(a_queue(58, running=22), a_cloud(), seconds=60) == [0] * 60


def test_the_share_of_the_excess_that_leaves_grows_a_step_at_a_time() -> None:
    course = Course()

    course.go(signals(queue=a_queue(148), cloud=a_cloud()), seconds=20)
    assert [decision.send for decision in course.decisions] == [25] * 5 + [50] * 5 + [100] * 10
    assert [(change.before, change.after) for change in course.changes("share")] == [
        ("0%", "25%"), ("25%", "50%"), ("50%", "100%")]


def test_the_share_shrinks_a_step_at_a_time_when_home_has_been_calm() -> None:
    course = Course()

    course.go(signals(queue=a_queue(148), cloud=a_cloud()), seconds=20)
    course.go(signals(cloud=a_cloud()), seconds=30)
    assert [change.at_s - course.changes("share")[0].at_s for change in course.changes("share")] == [0, 5, 10, 30, 35, 40]
    assert course.remembered.share == 0.0


def test_while_no_pace_is_known_only_what_has_waited_too_long_leaves() -> None:
    assert sends(a_queue(40, running=12, pace_s=None, oldest_s=5.0), a_cloud()) == [0]
    assert sends(a_queue(40, running=12, pace_s=None, oldest_s=5.1), a_cloud()) == [5]
    assert sends(a_queue(40, slots=0, running=0, oldest_s=5.1), a_cloud()) == [10]


@pytest.mark.parametrize(("cloud", "most"), [
    (a_cloud(slots=8, workers=1, pace_s=4.0), 14), (a_cloud(slots=8, workers=1, pace_s=4.0, sent=10, running=8), 0),
    (a_cloud(slots=8, workers=1, pace_s=None), 16), (a_cloud(workers=0), 0), (a_cloud(jobs_left=7), 7),
    (a_cloud(money_left=0.1, job_cost=0.01), 10), (a_cloud(money_left=0.018, job_cost=0.001), 17),
    (a_cloud(money_left=0.0, job_cost=0.0), 0), (a_cloud(reachable=False), 0),
    (None, 0)])
def test_no_more_leaves_than_the_cloud_begins_in_time_and_the_caps_allow(cloud: CloudSignals | None, most: int) -> None:
    assert sends(a_queue(1000), cloud) == [most]


@pytest.mark.parametrize(("sent", "pace_s", "back"), [
    (28, 4.0, 0), (29, 4.0, 1), (129, 4.0, 101),  # 8 slots and 6 more in time: twice that may stay
    (129, 0.3, 0), (129, None, 0)])
def test_what_the_cloud_turns_out_to_be_too_slow_for_comes_home_and_does_not_leave_again(
        sent: int, pace_s: float | None, back: int) -> None:
    course = Course()
    cloud = a_cloud(slots=8, workers=1, pace_s=pace_s, sent=sent, running=8)

    assert course.go(signals(queue=a_queue(148), cloud=cloud)).recall == back
    after = course.go(signals(queue=a_queue(148 + back), cloud=msgspec.structs.replace(cloud, sent=sent - back)))
    assert (after.recall, back and after.send) == (0, 0)


def test_no_more_than_a_round_can_send_leaves_in_one() -> None:
    assert max(sends(a_queue(10_000), a_cloud(slots=4000, jobs_left=None), seconds=20)) == 256


@pytest.mark.parametrize("cap", ["cloud_jobs_per_minute", "cloud_money_per_hour"])
def test_a_cap_of_nothing_stands_for_no_cloud(cap: str) -> None:
    course = Course(dataclasses.replace(SHIPPED, **{cap: 0}))

    course.go(signals(queue=a_queue(1000), cloud=a_cloud(jobs_left=0, money_left=0.0)), seconds=60)
    assert not any(decision.send or decision.cloud_workers or decision.opened for decision in course.decisions)


def test_jobs_keep_why_they_were_sent() -> None:
    course = Course()

    why = course.go(signals(queue=a_queue(148, oldest_s=7.5), cloud=a_cloud())).why
    assert why["detail"] == ("of the jobs that wait, 100 would wait about 5 s or longer at home; up to 25 of them leave in "
                             "this round, as 25% of the excess may leave in one round for now")
    values = {"rule": "overflow", "wait_s": 9.25, "target_wait_s": 5.0, "waiting": 148, "excess": 100, "share": 0.25,
              "slots": 32, "pace_s": 2.0}
    assert why | values == why


@pytest.mark.parametrize(("waiting", "cloud", "told"), [
    (148, a_cloud(), "up to 100 of them leave in this round"),
    (148, a_cloud(jobs_left=7), "up to 7 of them leave in this round, as the cap on jobs a minute allows no more"),
    (148, a_cloud(money_left=0.05), "up to 5 of them leave in this round, as the cap on money an hour allows no more"),
    (148, a_cloud(sent=150), "up to 10 of them leave in this round, as the cloud has room for no more"),
    (999, a_cloud(slots=999), "up to 256 of them leave in this round, as no more may leave in one round")])
def test_jobs_keep_what_limits_how_many_leave_with_them(waiting: int, cloud: CloudSignals, told: str) -> None:
    course = Course()

    why = course.go(signals(queue=a_queue(waiting), cloud=cloud), seconds=30).why
    assert why["detail"].partition("; ")[2] == told


def test_sending_and_coming_home_are_in_the_history_when_they_begin_and_end() -> None:
    course = Course()

    course.go(signals(queue=a_queue(52), cloud=a_cloud()), seconds=30)
    course.go(signals(cloud=a_cloud(sent=4)), seconds=12)
    course.go(signals(cloud=a_cloud()), seconds=60)
    assert [(change.before, change.after) for change in course.changes("send")] == [("none", "some"), ("some", "none")]
    assert course.changes("send")[1].why == "up to 95 in 29 s, then none for 10 s"
    assert [(change.before, change.after) for change in course.changes("recall")] == [("none", "some"), ("some", "none")]


def test_when_home_is_calm_as_much_comes_home_as_it_begins_soon() -> None:
    course = Course()
    away = a_cloud(sent=100)

    course.go(signals(queue=a_queue(running=27), cloud=away), seconds=10)
    assert course.decision.recall == 0
    assert course.go(signals(queue=a_queue(running=27), cloud=away)).recall == 37  # 5 slots, and 16 a second for 2 s
    assert course.go(signals(queue=a_queue(34), cloud=away)).recall == 0
    assert course.go(signals(queue=a_queue(pace_s=None, running=30), cloud=away)).recall == 2


def test_what_nobody_in_the_cloud_is_there_to_begin_comes_home_at_once() -> None:
    course = Course()

    course.go(signals(queue=a_queue(148), cloud=a_cloud(sent=12)), seconds=10)
    assert course.go(signals(queue=a_queue(148), cloud=a_cloud(sent=12, workers=0, slots=0))).recall == 12


def test_what_comes_home_does_not_leave_again() -> None:
    course = Course()
    course.go(signals(cloud=a_cloud(sent=100)), seconds=11)
    home = course.decision.recall

    course.go(signals(queue=a_queue(home), cloud=a_cloud(sent=100 - home)), seconds=60)
    assert (home, [decision.send for decision in course.decisions if decision.send]) == (32, [])


@given(course=courses)
def test_the_caps_hold_whatever_comes(course: list[tuple[Signals, int]]) -> None:
    rounds = Course()
    for seen, seconds in course:
        for _ in range(seconds):
            decision = rounds.go(seen)
            if decision.send:
                cloud = seen.cloud
                assert cloud is not None
                assert cloud.jobs_left is None or decision.send <= cloud.jobs_left
                assert cloud.money_left is None or decision.send * cloud.job_cost <= cloud.money_left
                assert decision.send <= 256
                assert decision.recall == 0


@given(course=courses)
def test_nothing_leaves_while_home_has_a_slot_free_for_all_that_waits(course: list[tuple[Signals, int]]) -> None:
    """But where every server is saturated, and takes nothing."""
    rounds = Course()
    for seen, seconds in course:
        for _ in range(seconds):
            decision = rounds.go(seen)
            queue = seen.queues.get("model")
            if queue is None or (queue.waiting <= queue.slots - queue.running and not rounds.remembered.away):
                assert decision.send == 0


@given(course=courses, last=anything(), waiting=st.integers(0, 500), more=st.integers(0, 5000))
def test_where_more_waits_no_less_leaves_and_no_more_comes_home(course: list[tuple[Signals, int]], last: Signals,
                                                               waiting: int, more: int) -> None:
    rounds = Course()
    for seen, seconds in course:
        rounds.go(seen, seconds=seconds)

    def then(waiting: int) -> tuple[int, int]:
        queue = msgspec.structs.replace(last.queues.get("model", a_queue()), waiting=waiting)
        seen = msgspec.structs.replace(last, queues={"model": queue})
        _, decision = decide(seen, rounds.rules, rounds.remembered, rounds.now_s)
        return decision.send, decision.recall

    (sent, home), (worse_sent, worse_home) = then(waiting), then(waiting + more)
    assert sent <= worse_sent
    assert home >= worse_home


@given(waits=st.lists(st.tuples(st.integers(0, 400), st.integers(1, 30)), min_size=1, max_size=20))
def test_the_share_takes_one_step_in_step_s_at_most_whatever_waits(waits: list[tuple[int, int]]) -> None:
    rounds = Course()
    for waiting, seconds in waits:
        rounds.go(signals(queue=a_queue(waiting), cloud=a_cloud()), seconds=seconds)

    taken = [change.at_s for change in rounds.changes("share")]
    assert all(later - earlier >= 5.0 for earlier, later in itertools.pairwise(taken))
    turns = [change for change in rounds.changes("share") if change.before == "0%"]
    assert len(turns) <= 1 + len(rounds.decisions) / 15  # up again only after 10 s of calm, and a step


@given(course=courses, rest_s=st.integers(30, 60), pace_s=paces)
def test_when_home_stays_calm_nothing_leaves_and_the_share_is_nothing(course: list[tuple[Signals, int]], rest_s: int,
                                                                      pace_s: float | None) -> None:
    rounds = Course()
    for seen, seconds in course:
        rounds.go(seen, seconds=seconds)

    rounds.go(signals(queue=a_queue(pace_s=pace_s, running=0), cloud=a_cloud(posts=99, begun=99)), seconds=rest_s)
    assert rounds.remembered.share == 0.0
    assert rounds.decision.send == 0
    assert rounds.remembered.breaker.state is not BreakerState.OPEN or rounds.remembered.breaker.until_s > rounds.now_s - 1


def test_what_comes_home_to_saturated_servers_begins_at_once() -> None:
    hot = [a_server(name, memory_percent=95.0) for name in SERVERS]
    course = Course()

    course.go(signals(*hot, queue=a_queue(running=30, rate=90.0), cloud=a_cloud(sent=50)), seconds=20)
    assert course.decision.recall == 2
