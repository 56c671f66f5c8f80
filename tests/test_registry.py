"""The slots that the ledger counts, by which it keeps the services' Celery queues short."""

import pytest
import redis

from app.job import Service
from app.registry import Registry, WorkerEntry


def entry(name: str, slots: int, *, held: tuple[Service, ...] = ()) -> WorkerEntry:
    return WorkerEntry(name=name, server=name.partition("@")[2], services=(Service.MODEL, Service.CHAT), pid=1, host="here",
                       processors=("P2",), cpus=(0,), slots=slots, busy=0, idle_ms=0, beat_ms=0, figures={}, held=held)


ONE, OTHER = entry("model@server-1", 16), entry("model@server-2", 8)


@pytest.mark.parametrize(("counted", "living", "set_"), [
    ([], [ONE], False),
    ([ONE], [ONE], True),
    ([ONE], [ONE, OTHER], False),
    ([ONE, OTHER], [ONE, OTHER], True),
    ([ONE, OTHER], [ONE, entry("model@server-2", 8, held=(Service.CHAT,))], False),
    ([ONE], [entry("model@server-1", 16, held=(Service.CHAT, Service.MODEL))], True),
], ids=["none of one", "one", "one of two", "two", "what is held counts no more", "where all is held it stays as it was"])
def test_windows_are_set_once_the_slots_of_all_that_take_what_is_new_are_counted(
        client: redis.Redis, counted: list[WorkerEntry], living: list[WorkerEntry], *, set_: bool) -> None:
    registry = Registry(client)
    registry.set_windows(counted)

    assert registry.windows_are_set(living) is set_


def test_a_queue_is_twice_as_long_as_the_slots_that_take_what_is_new(client: redis.Redis) -> None:
    Registry(client).set_windows([ONE, OTHER, entry("model@server-3", 4, held=(Service.CHAT,))])

    assert client.hgetall("slots") == {b"model": b"28", b"chat": b"24"}
    assert client.hgetall("windows") == {b"model": b"56", b"chat": b"48"}
