"""A round as a whole: the same from the same, whoever does it, and told in full."""

import copy
import dataclasses
from typing import Any

import msgspec
import pytest
from hypothesis import given

from app.routing_records import Decision, Remembered
from app.signals import Signals
from routing.policy import decide
from routing.policy.changes import wanted
from routing.policy.shedding import LANES
from tests.policy_scene import BEGIN_S, SHIPPED, Course, a_cloud, a_queue, a_server, anything, courses, signals, stored

HOT = a_server(cpu_percent=95.0)


@given(course=courses, last=anything())
def test_the_same_signals_and_memory_lead_to_the_same_decision(course: list[tuple[Signals, int]], last: Signals) -> None:
    rounds = Course()
    for seen, seconds in course:
        rounds.go(seen, seconds=seconds)
    before, kept = rounds.remembered, copy.deepcopy(rounds.remembered)

    first = decide(last, SHIPPED, before, rounds.now_s)
    assert first == decide(copy.deepcopy(last), SHIPPED, kept, rounds.now_s)
    assert before == kept


@given(course=courses)
def test_another_leader_goes_on_from_what_is_stored_as_the_same_one_would(course: list[tuple[Signals, int]]) -> None:
    same, others = Course(), Course()
    for seen, seconds in course:
        for _ in range(seconds):
            one = same.go(seen)
            others.remembered = stored(others.remembered)
            assert others.go(seen) == one
            assert msgspec.json.decode(msgspec.json.encode(one), type=Decision) == one
    assert stored(same.remembered) == others.remembered


#: Members of what is remembered whose every change is in the history, and how the history writes them.
TOLD = {
    "share": lambda remembered: {"all": f"{remembered.share:.0%}"},
    "breaker": lambda remembered: {"cloud": remembered.breaker.state.value},
    "server": lambda remembered: {name: view.standing.value for name, view in remembered.servers.items()},
    "hold": lambda remembered: {name: ", ".join(services) for name, services in remembered.hold.items()},
    "level": lambda remembered: {"spend_percent@cloud": remembered.spend.level.value,
                                 **{key: gauge.level.value for key, gauge in remembered.gauges.items()}},
    "shed": lambda remembered: {"all": ", ".join(LANES[remembered.shed])},
    "scale": lambda remembered: {"cloud": wanted(remembered.scale)}}

STARTING = {"share": "0%", "breaker": "closed", "server": "open", "hold": "nothing", "level": "normal", "shed": "nothing",
            "scale": "as there are"}


@given(course=courses)
def test_the_history_leads_from_the_beginning_to_how_it_stands(course: list[tuple[Signals, int]]) -> None:
    rounds = Course()
    for seen, seconds in course:
        rounds.go(seen, seconds=seconds)
    for what, standing in TOLD.items():
        told: dict[str, str] = {}
        for change in rounds.changes(what):
            if (what, change.scope) == ("scale", "home"):
                continue
            assert change.before == told.get(change.scope, STARTING[what])
            assert change.before != change.after
            assert change.why
            told[change.scope] = change.after
        now = standing(rounds.remembered)
        assert {scope: now.get(scope) or "nothing" for scope in {**told, **now}} == {
            **dict.fromkeys(now, STARTING[what]), **told}


OPEN = "2 of 2 servers open; "
OVER = OPEN + "148 waiting, wait 9.2 s of 5 s; "


@pytest.mark.parametrize(("seen", "reason"), [
    (signals(), OPEN + "0 waiting, wait 0.0 s of 5 s; nothing need leave"),
    (signals(queue=a_queue(148)), OVER + "an excess of 100 waits, as there is no cloud"),
    (signals(queue=a_queue(148), cloud=a_cloud(workers=0)),
     OVER + "an excess of 100 waits, as no cloud worker takes jobs"),
    (signals(queue=a_queue(148), cloud=a_cloud(reachable=False)),
     OVER + "an excess of 100 waits, as MNS is not reached"),
    (signals(queue=a_queue(148), cloud=a_cloud(money_left=0.0)),
     OVER + "an excess of 100 waits, as the cap on money an hour is reached"),
    (signals(queue=a_queue(148), cloud=a_cloud()), OVER + "100 of an excess of 100 leave for the cloud"),
    (signals(queue=a_queue(148), cloud=a_cloud(sent=1000)), OVER + "an excess of 100 waits, as the cloud has no room"),
    (signals(cloud=a_cloud(sent=3)), OPEN + "0 waiting, wait 0.0 s of 5 s; 3 come home from the cloud"),
    (signals(HOT, None, queue=a_queue(wait_s=None)),
     "0 of 2 servers open; 1 saturated; 1 down; 0 waiting, wait not known; nothing need leave")])
def test_how_it_stands_is_told_in_a_sentence(seen: Signals, reason: str) -> None:
    course = Course()

    assert course.go(seen, seconds=30).reason == reason


@pytest.mark.parametrize(("rules", "failed", "lack"), [
    ({"cloud_jobs_per_minute": 0}, 0, "the cap on jobs a minute is 0"),
    ({"cloud_money_per_hour": 0.0}, 0, "the cap on money an hour is 0"), ({}, 3, "the breaker is open")])
def test_why_nothing_leaves_is_told(rules: dict[str, Any], failed: int, lack: str) -> None:
    course = Course(dataclasses.replace(SHIPPED, **rules))

    course.go(signals(queue=a_queue(148), cloud=a_cloud()))
    course.go(signals(queue=a_queue(148), cloud=a_cloud(posts=failed, posts_failed=failed)))
    assert course.decision.reason == OVER + f"an excess of 100 waits, as {lack}"


def test_a_first_round_at_ease_does_nothing() -> None:
    remembered, decision = decide(signals(cloud=a_cloud()), SHIPPED, Remembered(), BEGIN_S)

    assert decision == Decision(reason=decision.reason)
    assert remembered.at_s == BEGIN_S


def test_a_round_of_sixty_four_servers_relieves_each_that_is_saturated_and_no_other() -> None:
    names = tuple(f"server-{number}" for number in range(1, 65))
    course = Course()

    course.go(signals(*(a_server(name, cpu_percent=95.0) for name in names[:63]), names=names), seconds=11)
    assert list(course.decision.hold) == list(names[:63])
    assert len(course.decision.opened) == 63
