"""How fast jobs end, and how long one would wait that comes last: Little's law, with what was seen where that is slower."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.job import Service
from app.queues import Queue
from app.signals import QueueSignals
from routing.rates import RATE_S, Rates, wait_s

MODEL = Service.MODEL


def queue(**changes: float) -> Queue:
    fields = dict.fromkeys(("waiting", "woken", "messages", "running", "in_cloud", "sent", "held"), 0)
    return Queue(**(fields | {"oldest_s": 0.0} | changes))  # type: ignore[arg-type]


# -- the wait


@pytest.mark.parametrize(("waiting", "running", "expected"), [
    (0, 0, 0.0), (0, 3, 0.0),
    (0, 4, 0.5),  # all slots are taken: it waits for the next end, of which there is one in half a second
    (7, 4, 4.0), (1, 0, 0.0), (5, 0, 1.0)])
def test_a_job_waits_for_as_many_ends_as_there_are_jobs_before_it_without_a_slot(
        waiting: int, running: int, expected: float) -> None:
    assert wait_s(waiting, running=running, slots=4, pace_s=2.0, most_rate=None) == expected


def test_where_fewer_end_than_the_pace_promises_that_counts() -> None:
    assert wait_s(1000, running=16, slots=16, pace_s=0.001, most_rate=500.0) == pytest.approx(1001 / 500)
    assert wait_s(1000, running=16, slots=16, pace_s=1.0, most_rate=500.0) == pytest.approx(1001 / 16), "no more than that"


@pytest.mark.parametrize(("slots", "pace_s"), [(0, 1.0), (4, None)])
def test_without_a_slot_or_a_pace_nobody_knows(slots: int, pace_s: float | None) -> None:
    assert wait_s(10, running=0, slots=slots, pace_s=pace_s, most_rate=None) is None


@given(waiting=st.integers(0, 10_000), running=st.integers(0, 64), slots=st.integers(1, 64), pace_s=st.floats(0.001, 100))
def test_more_before_it_never_makes_a_job_wait_less(waiting: int, running: int, slots: int, pace_s: float) -> None:
    def waits(more: int, fewer_slots: int = 0) -> float:
        told = wait_s(waiting + more, running=running, slots=max(slots - fewer_slots, 1), pace_s=pace_s, most_rate=None)
        assert told is not None
        return told

    assert waits(1) >= waits(0) >= 0
    assert waits(0, fewer_slots=1) >= waits(0)


# -- the rate


def told(rates: Rates, **changes: float) -> QueueSignals:
    return rates.told(MODEL, queue(**changes), slots=4, pace_s=1.0)


def test_a_rate_is_of_the_last_seconds() -> None:
    rates = Rates()
    rates.note(0.0, {"model": 1000}, ())
    assert rates.rate(MODEL) is None
    rates.note(1.0, {"model": 1004}, ())
    assert rates.rate(MODEL) == 4.0
    for second in range(2, 12):
        rates.note(float(second), {"model": 1004}, ())

    assert rates.rate(MODEL) == 0.0
    assert rates.rate(Service.CHAT) == 0.0


def test_when_redis_was_emptied_the_rate_is_counted_anew() -> None:
    rates = Rates()
    rates.note(0.0, {"model": 1000}, ())
    rates.note(1.0, {"model": 3}, ())
    assert rates.rate(MODEL) is None
    rates.note(2.0, {"model": 5}, ())

    assert rates.rate(MODEL) == 2.0


@pytest.mark.parametrize("at_s", [3600.0, -3600.0], ids=["another led meanwhile", "the clock went back"])
def test_what_was_counted_before_a_gap_says_nothing_of_now(at_s: float) -> None:
    rates = Rates()
    rates.note(-1.0, {"model": 0}, {MODEL})
    rates.note(0.0, {"model": 100}, {MODEL})
    rates.note(at_s, {"model": 4000}, {MODEL})
    assert told(rates, waiting=14, running=4).wait_s == pytest.approx(15 / 4.0)
    assert rates.rate(MODEL) is None
    rates.note(at_s + 1.0, {"model": 4005}, {MODEL})

    assert rates.rate(MODEL) == 5.0


def busy(waiting: set[Service], *, ended: int) -> Rates:
    """A window at whose middle these services had jobs waiting."""
    rates = Rates()
    for step, (count, services) in enumerate([(0, {MODEL}), (ended // 2, waiting), (ended, {MODEL})]):
        rates.note(step * RATE_S / 2, {"model": count}, services)
    return rates


def test_a_service_that_always_had_work_is_as_fast_as_it_was_seen_to_be() -> None:
    assert told(busy({MODEL}, ended=30), waiting=14, running=4).wait_s == pytest.approx(15 / 3.0)


def test_a_service_that_ran_out_of_work_is_as_fast_as_its_pace() -> None:
    assert told(busy(set(), ended=30), waiting=14, running=4).wait_s == pytest.approx(15 / 4.0)


def test_a_few_ends_say_nothing() -> None:
    assert told(busy({MODEL}, ended=29), waiting=14, running=4).wait_s == pytest.approx(15 / 4.0)


def test_jobs_in_the_cloud_take_no_slot_at_home() -> None:
    signals = told(busy(set(), ended=0), waiting=3, woken=2, running=9, in_cloud=5, oldest_s=7.0)

    assert (signals.waiting, signals.reserved, signals.running, signals.oldest_s) == (3, 2, 4, 7.0)
