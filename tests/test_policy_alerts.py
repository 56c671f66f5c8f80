"""What operators are told: each thing once when it begins, and once when it is over."""

import dataclasses
from collections.abc import Iterable

import msgspec
import pytest
from hypothesis import given

from app.routing_records import Alert
from app.routing_rules import SIGNALS
from app.signals import Signals
from tests.policy_scene import SHIPPED, Course, a_cloud, a_queue, a_server, courses, signals, times

SLOW = signals(a_server(calls=times(3.0)))


def test_an_alert_says_what_where_since_when_and_what_is_done() -> None:
    course = Course()

    course.go(signals(a_server(cpu_percent=93.04)), seconds=11)
    (alert,) = course.decision.opened
    assert alert == Alert(
        id="cpu_percent@server-1#1000010000", name="cpu_percent", scope="server-1", opened_s=1_000_010.0, value=93.04,
        threshold=80.0, action="server-1 takes nothing new of auth, model, chat, cache, queue",
        detail="CPU of server-1 is 93 %, at or above 80 % for 10 s")
    assert course.remembered.alerts == {"cpu_percent@server-1": alert}


def test_an_alert_that_is_over_says_how() -> None:
    course = Course()

    course.go(signals(a_server(cpu_percent=93.0)), seconds=11)
    course.go(signals(), seconds=61)
    (alert,) = course.decision.closed
    assert (alert.id, alert.opened_s, alert.closed_s) == ("cpu_percent@server-1#1000010000", 1_000_010.0, 1_000_071.0)
    assert alert.detail == "CPU of server-1 is 30 %, at or below 70 % for 60 s"
    assert alert.action == "nothing is done about it any more"
    assert course.remembered.alerts == {}


@pytest.mark.parametrize(("seen", "name", "action"), [
    (signals(a_server(memory_percent=90.0), a_server("server-2", memory_percent=90.0)), "memory_percent",
     "server-1 goes on: nobody else has room for all of its work"),
    (SLOW, "response_s", "a report of what is slow is written"),
    (signals(users=1500), "concurrent_users", "the pools at home grow"),
    (signals(users=1500, cloud=a_cloud(workers=1)), "concurrent_users",
     "the pools at home grow, and another cloud worker is asked for"),
    (signals(None), "server-down", "its jobs go to others as their leases run out"),
    (signals(queue=a_queue(50, wait_s=121.0)), "shedding", "new jobs are refused: batch"),
    (signals(cloud=a_cloud(reachable=False)), "cloud-unreachable",
     "jobs stay at home, and those not begun in the cloud come home"),
    (signals(queue=a_queue(180), cloud=a_cloud(jobs_left=0)), "spend-cap", "the excess waits")])
def test_each_kind_of_alert_says_what_is_done_about_it(seen: Signals, name: str, action: str) -> None:
    course = Course()

    course.go(seen, seconds=32)
    assert {alert.name: alert.action for alert in reversed(course.opened())} == {name: action}


def test_what_is_done_about_an_open_alert_is_told_as_it_changes_and_all_else_stays() -> None:
    course = Course()

    course.go(signals(a_server(cpu_percent=93.0)), seconds=11)
    (opened,) = course.decision.opened
    course.go(signals(a_server(cpu_percent=99.0), a_server("server-2", cpu_percent=99.0)), seconds=11)
    assert course.remembered.alerts["cpu_percent@server-1"] == msgspec.structs.replace(
        opened, action="server-1 goes on: nobody else has room for all of its work")
    course.go(signals(None, a_server("server-2", cpu_percent=99.0)), seconds=11)
    assert course.remembered.alerts["cpu_percent@server-1"].action == "nothing: nothing is heard of server-1"


def test_a_report_is_told_as_asked_for_from_the_second_round_on() -> None:
    course = Course()

    course.go(SLOW, seconds=32)
    assert course.opened()[0].action == "a report of what is slow is written"
    assert course.remembered.alerts["response_s@server-1"].action == "a report of what is slow was asked for"


@pytest.mark.parametrize(("back", "why"), [
    (signals(), "it is heard of again; no signal of it that counts is in alert"),
    (signals(None), "nothing has been heard of it for 5 s")])
def test_the_history_says_that_a_server_is_heard_of_again(back: Signals, why: str) -> None:
    course = Course()

    course.go(signals(None), seconds=6)
    course.go(back)
    assert course.changes("server")[-1].why == why


def test_small_thresholds_are_told_as_they_are() -> None:
    tight = dataclasses.replace(SHIPPED.thresholds["response_s"], normal=0.04, alert=0.05)
    course = Course(dataclasses.replace(SHIPPED, thresholds={**SHIPPED.thresholds, "response_s": tight}))

    course.go(signals(a_server(calls=times(0.944), answers=None)), seconds=31)
    assert course.decision.opened[0].detail == "response time of server-1 is 0.944 s, at or above 0.05 s for 30 s"


def test_concurrent_users_are_of_no_server() -> None:
    course = Course()

    course.go(signals(users=12_345), seconds=11)
    assert course.decision.opened[0].detail == "concurrent users are 12345, at or above 1500 for 10 s"


def test_slow_answers_ask_for_a_report_once_and_not_again_for_ten_minutes() -> None:
    course = Course()

    course.go(SLOW, seconds=31)
    assert course.decision.investigate == ("response_s@server-1#1000030000",)
    course.go(SLOW, seconds=60)
    for _ in range(5):
        course.go(signals(), seconds=121)
        course.go(SLOW, seconds=31)
    asked = [decision.investigate for decision in course.decisions if decision.investigate]
    opened = [alert.id for alert in course.opened()]
    assert len(opened) == 6
    assert asked == [(opened[0],), (opened[4],)]  # 30 s, and 91 + 4 * 152 s later


def test_cpu_asks_for_no_report() -> None:
    course = Course()

    course.go(signals(a_server(cpu_percent=93.0)), seconds=60)
    assert not any(decision.investigate for decision in course.decisions)


def test_alerts_of_a_server_that_left_the_topology_are_closed() -> None:
    course = Course()

    course.go(signals(a_server(cpu_percent=93.0), None), seconds=11)
    course.go(signals(names=("server-3",)))
    assert {alert.detail for alert in course.decision.closed} == {
        "cpu_percent of server-1 is not watched any more", "server-2 is not in the topology any more"}
    assert list(course.remembered.gauges) == [f"{name}@server-3" for name in SIGNALS[:-1]] + ["concurrent_users@all"]


def test_alerts_that_others_opened_are_left_alone() -> None:
    course = Course()
    paused = Alert(id="routing-held@all#1", name="routing-held", scope="all", opened_s=1.0, value=None, threshold=None,
                   action="", detail="")
    course.remembered = msgspec.structs.replace(course.remembered, alerts={"routing-held@all": paused})

    course.go(signals(), seconds=60)
    assert course.remembered.alerts == {"routing-held@all": paused}
    assert course.closed() == []


def opening(alerts: Iterable[Alert]) -> dict[str, Alert]:
    """Return alerts by their id, without what is done about them, which may change."""
    return {alert.id: msgspec.structs.replace(alert, action="") for alert in alerts}


@given(course=courses)
def test_each_alert_opens_once_and_closes_once_under_its_id(course: list[tuple[Signals, int]]) -> None:
    rounds = Course()
    current: dict[str, Alert] = {}
    ended: set[str] = set()
    for seen, seconds in course:
        for _ in range(seconds):
            decision = rounds.go(seen)
            for alert in decision.closed:
                was = current.pop(alert.id)
                assert alert.closed_s == rounds.now_s - 1.0
                assert (alert.name, alert.scope, alert.opened_s) == (was.name, was.scope, was.opened_s)
                ended.add(alert.id)
            for alert in decision.opened:
                assert alert.id == f"{alert.name}@{alert.scope}#{round(1000 * alert.opened_s)}"
                assert alert.id not in current
                assert alert.id not in ended
                current[alert.id] = alert
            assert opening(current.values()) == opening(rounds.remembered.alerts.values())
            assert set(decision.investigate) <= {alert.id for alert in decision.opened}


@given(course=courses)
def test_what_is_not_known_neither_opens_nor_closes_an_alert_of_a_signal(course: list[tuple[Signals, int]]) -> None:
    rounds = Course()
    for seen, seconds in course:
        rounds.go(seen, seconds=seconds)
    before = opening(alert for alert in rounds.remembered.alerts.values() if alert.name in SHIPPED.thresholds)

    rounds.go(signals(None, None, users=None), seconds=125)
    after = opening(alert for alert in rounds.remembered.alerts.values() if alert.name in SHIPPED.thresholds)
    assert after == before
