"""What a worker holds, by whose wish and for how long; and what it takes for a word of the routing task's."""

from typing import Any

import pytest

from app.errors import TandemError
from app.job import Service
from tests.clock import Clock
from workers import control
from workers.holding import Holding, WordRefused

MODEL, CHAT = Service.MODEL, Service.CHAT
GOOD = {"epoch": 3, "hold": ["model"], "slots": None, "for_s": 15.0}


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def holding(clock: Clock) -> Holding:
    """Of a worker with two services."""
    return Holding((MODEL, CHAT), clock)


def test_what_the_routing_task_holds_is_free_again_when_its_time_is_over(holding: Holding, clock: Clock) -> None:
    holding.hear(1, [MODEL], 15)
    assert holding.held == (MODEL,)

    clock.now_s += 14.9
    assert holding.holds(MODEL)
    clock.now_s += 0.1
    assert holding.held == ()


def test_each_word_counts_anew_and_names_all_that_is_held(holding: Holding, clock: Clock) -> None:
    holding.hear(1, [MODEL], 15)
    clock.now_s += 10
    holding.hear(1, [CHAT], 15)

    assert holding.held == (CHAT,)
    clock.now_s += 10
    assert holding.held == (CHAT,)
    holding.hear(1, [], 15)
    assert holding.held == ()


def test_the_word_of_a_leader_that_was_replaced_is_refused_and_changes_nothing(holding: Holding) -> None:
    holding.hear(5, [MODEL], 15)

    with pytest.raises(WordRefused, match=r"epoch 4.*epoch 5"):
        holding.hear(4, [], 15)
    assert holding.held == (MODEL,)
    holding.hear(5, [], 15)
    holding.hear(6, [CHAT], 15)
    assert holding.held == (CHAT,)


def test_epochs_that_begin_anew_in_a_redis_that_was_emptied_are_heeded_when_the_last_word_is_over(
        holding: Holding, clock: Clock) -> None:
    holding.hear(5, [MODEL], 15)
    clock.now_s += 14
    with pytest.raises(WordRefused, match=r"epoch 1.*epoch 5"):
        holding.hear(1, [CHAT], 15)
    clock.now_s += 1

    holding.hear(1, [CHAT], 15)
    assert holding.held == (CHAT,)


def test_after_redis_lost_its_data_a_leader_of_a_lower_epoch_is_heeded_when_the_last_word_is_over(
        holding: Holding, clock: Clock) -> None:
    holding.hear(500, [MODEL], 15)
    clock.now_s += 14.9
    with pytest.raises(WordRefused):
        holding.hear(1, [CHAT], 15)

    clock.now_s += 0.1
    holding.hear(1, [CHAT], 15)
    assert holding.held == (CHAT,)
    holding.hear(2, [], 15)
    with pytest.raises(WordRefused):
        holding.hear(1, [CHAT], 15)


@pytest.mark.parametrize("ends", ["by a word", "by an operator", "by itself", "by a word after its end"])
def test_the_end_of_a_hold_is_noted_however_it_comes(ends: str, holding: Holding, clock: Clock) -> None:
    began_s = clock.now_s
    holding.hear(1, [MODEL], 15)
    assert holding.freed_s == float("-inf")

    clock.now_s += 10
    holding.hear(1, [MODEL, CHAT], 15)
    assert holding.freed_s == float("-inf")
    clock.now_s += 10
    if ends == "by a word":
        holding.hear(1, [CHAT], 15)
    elif ends == "by an operator":
        holding.added(MODEL)
    else:
        clock.now_s += 100
    if ends == "by a word after its end":
        holding.hear(1, [], 15)
    assert holding.freed_s == began_s + (25 if "itself" in ends or "after" in ends else 20)


def test_the_routing_task_never_frees_what_an_operator_cancelled(holding: Holding, clock: Clock) -> None:
    holding.cancelled(MODEL)
    holding.hear(1, [MODEL, CHAT], 15)
    holding.hear(1, [], 15)
    clock.now_s += 60

    assert holding.held == (MODEL,)
    holding.added(MODEL)
    assert holding.held == ()


def test_what_an_operator_took_back_is_free_until_the_next_word(holding: Holding) -> None:
    holding.hear(1, [MODEL, CHAT], 15)
    holding.added(MODEL)
    assert holding.held == (CHAT,)

    holding.hear(1, [MODEL, CHAT], 15)
    assert holding.held == (MODEL, CHAT)


def test_services_that_the_worker_lacks_are_not_said_to_be_held(holding: Holding) -> None:
    holding.hear(1, [Service.CACHE, MODEL], 15)

    assert holding.held == (MODEL,)


def test_a_word_is_read_as_it_is_sent() -> None:
    assert control.read(GOOD) == control.Word(epoch=3, hold=(MODEL,), slots=None, for_s=15.0)
    assert control.read({**GOOD, "hold": [], "slots": 8, "for_s": 5}) == control.Word(epoch=3, hold=(), slots=8, for_s=5.0)


@pytest.mark.parametrize(("wrong", "says"), [
    ({"epoch": "3"}, "epoch must be"), ({"epoch": True}, "epoch must be"), ({"epoch": -1}, "epoch must be"),
    ({"epoch": None}, "epoch must be"), ({"hold": "model"}, "hold must be"), ({"hold": ["gpu"]}, "hold must be"),
    ({"hold": [["model"]]}, "hold must be"), ({"hold": None}, "hold must be"), ({"slots": 1.5}, "slots must be"),
    ({"slots": "8"}, "slots must be"), ({"for_s": 0}, "for_s must be"), ({"for_s": 1e9}, "for_s must be"),
    ({"for_s": float("nan")}, "for_s must be"), ({"for_s": None}, "for_s must be"), ({"for_s": True}, "for_s must be"),
    ({"until_s": 4}, "until_s is not an argument of route")])
def test_a_word_that_cannot_be_read_is_refused_with_what_is_wrong(wrong: dict[str, Any], says: str) -> None:
    with pytest.raises(TandemError, match=says):
        control.read({**GOOD, **wrong})
