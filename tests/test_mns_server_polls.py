"""Receives that wait, on the local MNS server: who is served, when, by what, and in which order."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from ops.mns_server.attributes import Attributes, DeadLetters
from ops.mns_server.clock import HandClock
from ops.mns_server.errors import Refused
from ops.mns_server.journal import Journal
from ops.mns_server.message import Delivery, Draft
from ops.mns_server.service import Service
from ops.waiting import wait_until

Got = Future[list[Delivery]]
Waiter = Callable[..., Got]


@contextmanager
def serving(clock: HandClock | None = None) -> Iterator[Service]:
    """A service with a queue of a visibility of 30 s, by this clock or the real one."""
    service = Service(Journal(), account="1", **({"clock": clock} if clock else {}))  # type: ignore[arg-type]
    service.create("jobs", Attributes())
    try:
        yield service
    finally:
        service.close()


@pytest.fixture
def clock() -> HandClock:
    """A clock that stands still until it is moved."""
    return HandClock(still=True)


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    """Threads to wait on."""
    with ThreadPoolExecutor(16) as pool:
        yield pool


@pytest.fixture
def service(clock: HandClock, threads: ThreadPoolExecutor) -> Iterator[Service]:
    """A service by the clock. It is closed before the threads are, which may wait on it."""
    with serving(clock) as one:
        yield one


@pytest.fixture
def wait(service: Service, threads: ThreadPoolExecutor) -> Waiter:
    """Begins a receive on a thread, and returns when it stands in line."""
    def begin(*, most: int = 1, wait_s: int | None = 20, queue: str = "jobs") -> Got:
        before = service.waiting(queue)
        future = threads.submit(service.receive, queue, most, wait_s=wait_s)
        wait_until(lambda: service.waiting(queue) > before or future.done(), timeout_s=10, what="the receive to wait",
                   every_s=0.002)
        return future

    return begin


def bodies(future: Got) -> list[str]:
    """Return what a receive got."""
    return [one.draft.body for one in future.result(10)]


def test_a_send_wakes_who_came_first(service: Service, wait: Waiter) -> None:
    waiting = [wait() for _ in range(5)]
    for number in range(5):
        service.send("jobs", Draft(str(number)))
        assert bodies(waiting[number]) == [str(number)]
        assert not any(later.done() for later in waiting[number + 1:])


def test_who_waits_comes_before_who_asks_now(service: Service, wait: Waiter, clock: HandClock) -> None:
    service.send("jobs", Draft("one", delay_s=5))
    first = wait()
    clock.skip(5)
    assert service.receive("jobs", 1, wait_s=0) == []
    assert bodies(first) == ["one"]


def test_one_message_wakes_one_waiter_and_takes_no_more_than_there_is(service: Service, wait: Waiter) -> None:
    first, second = wait(most=16), wait(most=16)
    service.send("jobs", Draft("one"))
    assert bodies(first) == ["one"]
    assert not second.done()
    assert service.waiting("jobs") == 1
    service.send("jobs", Draft("two"))
    assert bodies(second) == ["two"]


def test_the_end_of_a_delay_wakes(service: Service, wait: Waiter, clock: HandClock) -> None:
    service.send("jobs", Draft("later", delay_s=5))
    first = wait()
    clock.skip(4.9)
    assert not first.done()
    clock.skip(0.1)
    assert bodies(first) == ["later"]


def test_the_end_of_a_visibility_wakes(service: Service, wait: Waiter, clock: HandClock) -> None:
    service.send("jobs", Draft("again"))
    service.receive("jobs", 1)
    first = wait(wait_s=30)
    clock.skip(30)
    assert bodies(first) == ["again"]


def test_a_visibility_made_shorter_wakes_earlier(service: Service, wait: Waiter, clock: HandClock) -> None:
    service.send("jobs", Draft("given back"))
    held = service.receive("jobs", 1)[0]
    first = wait()
    service.change("jobs", held.handle, 1)
    clock.skip(1)
    assert bodies(first) == ["given back"]


def test_a_message_that_dies_wakes_who_waits_for_the_dead(service: Service, wait: Waiter, clock: HandClock) -> None:
    service.create("dead", Attributes())
    service.set_dead_letters("jobs", DeadLetters("dead", 1))
    service.send("jobs", Draft("poison"))
    service.receive("jobs", 1)
    first = wait(queue="dead", wait_s=30)
    clock.skip(30)
    assert bodies(first) == ["poison"]


def test_a_wait_ends_empty_at_its_time(service: Service, wait: Waiter, clock: HandClock) -> None:
    short, long = wait(wait_s=3), wait(wait_s=10)
    clock.skip(3)
    assert bodies(short) == []
    assert not long.done()
    clock.skip(7)
    assert bodies(long) == []
    assert service.waiting("jobs") == 0


def test_who_gave_up_takes_nothing_that_comes_later(service: Service, wait: Waiter, clock: HandClock) -> None:
    assert bodies_after(clock, wait(wait_s=1), 1) == []
    service.send("jobs", Draft("one"))
    assert service.audit("jobs")["active"] == 1


def bodies_after(clock: HandClock, future: Got, seconds: float) -> list[str]:
    """Let time pass, and return what the receive got."""
    clock.skip(seconds)
    return bodies(future)


def test_the_queues_own_wait_holds_where_the_receive_names_none(service: Service, wait: Waiter, clock: HandClock) -> None:
    service.set_attributes("jobs", lambda _: Attributes(polling_wait_s=7))
    assert service.receive("jobs", 1, wait_s=0) == []
    waiting = wait(wait_s=None)
    clock.skip(6.9)
    assert not waiting.done()
    assert bodies_after(clock, waiting, 0.1) == []


def test_above_the_cap_a_receive_is_answered_at_once(service: Service, wait: Waiter) -> None:
    service.most_polls = 2
    waiting = [wait(), wait()]
    assert bodies(wait()) == []
    service.send("jobs", Draft("one"))
    assert bodies(waiting[0]) == ["one"]
    assert not wait().done()


def test_who_waits_at_a_queue_that_is_deleted_is_told(service: Service, wait: Waiter) -> None:
    waiting = wait()
    service.delete_queue("jobs")
    with pytest.raises(Refused, match="QueueNotExist"):
        waiting.result(10)


def test_closing_sends_everybody_away_empty(threads: ThreadPoolExecutor) -> None:
    with serving() as service:
        waiting = [threads.submit(service.receive, "jobs", 1, wait_s=30) for _ in range(3)]
        wait_until(lambda: service.waiting("jobs") == 3, timeout_s=10, what="three to wait", every_s=0.002)
        service.close()
        assert [bodies(one) for one in waiting] == [[], [], []]
        assert service.receive("jobs", 1, wait_s=30) == []


def test_by_the_real_clock_it_wakes_within_a_moment(threads: ThreadPoolExecutor) -> None:
    with serving() as service:
        service.send("jobs", Draft("later", delay_s=1))
        began = time.monotonic()
        assert [one.draft.body for one in service.receive("jobs", 1, wait_s=30)] == ["later"]
        assert 0.9 < time.monotonic() - began < 5
        began = time.monotonic()
        assert service.receive("jobs", 1, wait_s=1) == []
        assert 0.9 < time.monotonic() - began < 5


def test_many_takers_and_senders_give_each_message_to_one(threads: ThreadPoolExecutor) -> None:
    with serving() as service:
        done = threading.Event()

        def take() -> list[str]:
            taken = []
            while not done.is_set():
                for one in service.receive("jobs", 5, wait_s=1):
                    service.delete("jobs", one.handle)
                    taken.append(one.draft.body)
            return taken

        def send(name: int) -> None:
            for number in range(150):
                service.send("jobs", Draft(f"{name}/{number}"))

        takers = [threads.submit(take) for _ in range(4)]
        for sender in [threads.submit(send, name) for name in range(4)]:
            sender.result(30)
        wait_until(lambda: service.audit("jobs")["deleted"] == 600, timeout_s=30, what="all to be taken")
        done.set()
        taken = [body for taker in takers for body in taker.result(30)]
        assert sorted(taken) == sorted(f"{name}/{number}" for name in range(4) for number in range(150))
        assert service.audit("jobs") == {"sent": 600, "deleted": 600, "dead": 0, "expired": 0, "active": 0, "inactive": 0,
                                         "delayed": 0}
