"""The routing task tells workers what to take nothing new of, and how many jobs to run: when that differs, and again."""

from app.ledger import Ledger
from app.routing_records import Decision
from routing.task import Routing
from tests.clock import Clock
from tests.routing_task import Policy, Told, enter


def test_the_workers_of_a_server_are_told_what_of_their_services_is_held(
        ledger: Ledger, routing: Routing, told: Told) -> None:
    for name in ("model@server-1", "chat@server-1", "auth@server-1", "model@server-2", "all@server-1", "model@elsewhere"):
        enter(ledger, name)
    routing.round()

    assert told.words[0][1] == {"epoch": 1, "hold": ["chat"], "slots": None, "for_s": 15.0}
    assert told.take() == {"model@server-1": (["model"], None), "chat@server-1": (["chat"], None)}


def test_a_worker_that_does_what_it_was_told_is_told_again_every_5_s(
        ledger: Ledger, routing: Routing, told: Told, clock: Clock) -> None:
    enter(ledger, "model@server-1")
    routing.round()
    enter(ledger, "model@server-1", held="model")
    told.take()
    for _ in range(11):
        clock.now_s += 1
        routing.round()

    assert len(told.words) == 2


def test_a_worker_that_did_not_hear_it_is_told_again_after_a_second(
        ledger: Ledger, routing: Routing, told: Told, clock: Clock) -> None:
    enter(ledger, "model@server-1")
    for _ in range(3):
        routing.round()
        clock.now_s += 1

    assert len(told.words) == 3


def test_a_worker_that_began_anew_is_told_again(ledger: Ledger, routing: Routing, told: Told) -> None:
    for pid in (1, 2):
        enter(ledger, "model@server-1", pid=pid)
        routing.round()

    assert len(told.words) == 2


def test_what_need_not_be_held_any_more_is_let_go(ledger: Ledger, routing: Routing, policy: Policy, told: Told) -> None:
    enter(ledger, "model@server-1")
    routing.round()
    enter(ledger, "model@server-1", held="model")
    told.take()
    policy.decision = Decision()
    routing.round()
    routing.round()

    assert len(told.words) == 1
    assert told.take() == {"model@server-1": ([], None)}


def test_what_a_leader_before_had_held_is_let_go_and_an_operators_wish_is_not_argued_with(
        ledger: Ledger, routing: Routing, policy: Policy, told: Told, clock: Clock) -> None:
    policy.decision = Decision()
    enter(ledger, "model@server-1", held="model")
    for _ in range(10):
        routing.round()
        clock.now_s += 1

    assert [arguments["hold"] for _, arguments in told.words] == [[], []], "once, and again 5 s later"


def test_pools_grow_to_what_the_topology_allows_and_back(
        ledger: Ledger, routing: Routing, policy: Policy, told: Told) -> None:
    enter(ledger, "model@server-1")
    enter(ledger, "cache@server-1")
    policy.decision = Decision(grow=True)
    routing.round()
    assert told.take() == {"model@server-1": ([], 32)}, "the cache service has no more to grow to"

    enter(ledger, "model@server-1", slots=32)
    routing.round()
    assert told.take() == {}
    policy.decision = Decision()
    routing.round()
    assert told.take() == {"model@server-1": ([], None)}


def test_all_who_are_to_do_the_same_are_told_with_one_word(
        ledger: Ledger, routing: Routing, policy: Policy, told: Told) -> None:
    names = [f"{service}@server-{number}" for service in ("model", "chat") for number in (1, 2)]
    for name in names:
        enter(ledger, name)
    policy.decision = Decision(hold={f"server-{number}": ("model", "chat") for number in (1, 2)})
    routing.round()

    assert told.spoken == 2
    assert told.take() == {name: ([name.partition("@")[0]], None) for name in names}
