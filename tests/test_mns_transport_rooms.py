"""Room for messages on the MNS transport, its pauses and its options."""

import threading
from typing import Any

import pytest

from routing.mns.options import Options
from routing.mns.patience import Backoff
from routing.mns.rooms import UNDELIVERED, Room, Slot


def test_a_poller_takes_only_what_is_free_and_waits_for_the_rest() -> None:
    room, stopped = Room(3), threading.Event()
    room.join()
    assert room.take(16, stopped) == 3
    slots = [Slot(room) for _ in range(3)]
    slots[0].deliver()
    assert room.free == 0
    taken: list[int] = []
    waiting = threading.Thread(target=lambda: taken.append(room.take(16, stopped)))
    waiting.start()
    slots[0].leave()
    slots[0].leave()
    waiting.join(5)
    assert taken == [1]


def test_pollers_share_the_slots_and_take_turns_when_there_are_too_few() -> None:
    room, stopped = Room(4), threading.Event()
    for _ in range(2):
        room.join()
    assert room.take(16, stopped) == 2
    assert not room.crowded
    room.set_limit(1)
    assert room.crowded


def test_without_a_prefetch_count_only_what_is_not_delivered_takes_room() -> None:
    room, stopped = Room(0), threading.Event()
    room.join()
    assert room.take(100, stopped) == UNDELIVERED
    slot = Slot(room)
    slot.deliver()
    assert room.free == 1
    assert not room.crowded


def test_a_stopped_poller_gets_no_slots() -> None:
    room, stopped, taken = Room(1), threading.Event(), list[int]()
    room.join()
    room.take(1, stopped)
    waiting = threading.Thread(target=lambda: taken.append(room.take(1, stopped)))
    waiting.start()
    stopped.set()
    room.wake()
    waiting.join(5)
    assert taken == [0]
    assert room.free == 0


def test_pauses_double_up_to_a_limit_and_begin_anew() -> None:
    backoff = Backoff()
    pauses = [backoff.pause_s() for _ in range(10)]
    assert all(0.25 * 2 ** number <= pause <= 0.5 * 2 ** number for number, pause in enumerate(pauses[:6]))
    assert 15 <= pauses[-1] <= 30
    backoff.reset()
    assert backoff.pause_s() <= 0.5


@pytest.mark.parametrize(("given", "poll_s"), [
    ({}, 2), ({"close_within_s": 30.0}, 20), ({"wait_time_seconds": 1}, 1), ({"wait_time_seconds": 0}, 0),
    ({"close_within_s": 1.0}, 1)])
def test_a_poll_is_no_longer_than_closing_may_take(given: dict[str, Any], poll_s: int) -> None:
    assert Options.of(given).poll_s == poll_s


def test_bad_options_are_all_named() -> None:
    with pytest.raises(ValueError, match=r"visibility_timeout must be 1 to 43200, not 0; max_receives must be 1 to .*'x'"):
        Options.of({"visibility_timeout": 0, "max_receives": "x", "interval_start": 3})
