"""A worker process knows which attempts it is working on, and when it last worked."""

import os
import signal
from dataclasses import replace

import pytest
import redis

from app.job import Service
from app.ledger import Claim, Ledger, new_owner
from app.registry import Registry
from app.settings import Settings
from tests.model_ledger import PLACE, a_job, a_running_job
from workers.node import Node


@pytest.fixture
def node(ledger: Ledger, settings: Settings) -> Node:
    return Node(ledger, replace(settings, stuck_s=0.001), PLACE, services=(Service.MODEL,), processors=("P2",), slots=2)


@pytest.fixture
def killed(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """The signals that the node sends, instead of sending them."""
    sent: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "kill", lambda pid, number: sent.append((pid, number)))
    return sent


def ask_to_restart(client: redis.Redis, node: Node) -> None:
    node.register()
    (entry,) = Registry(client).workers()
    Registry(client).ask_to_restart(entry)


def test_the_end_of_an_earlier_attempt_leaves_the_later_one_at_the_same_job_alone(node: Node, ledger: Ledger) -> None:
    first = node.enter(a_running_job(ledger))
    ledger.release(first.claim, because="drain")
    claim = ledger.claim(first.claim.id, PLACE, owner=new_owner())
    assert isinstance(claim, Claim)
    second = node.enter(claim)

    node.beat()
    assert first.lost.is_set()
    assert not second.lost.is_set()
    node.leave(first)
    assert node.running() == [second]


def test_a_worker_that_is_asked_to_restart_and_idle_ends_itself(
        node: Node, client: redis.Redis, killed: list[tuple[int, int]]) -> None:
    ask_to_restart(client, node)
    node._worked_s -= 1  # idle for longer than it may be
    node.register()

    assert killed == [(os.getpid(), signal.SIGKILL)]


def test_a_worker_that_has_a_job_again_when_it_reads_that_it_should_restart_does_not(
        node: Node, ledger: Ledger, client: redis.Redis, killed: list[tuple[int, int]]) -> None:
    ask_to_restart(client, node)
    running = node.enter(a_running_job(ledger))
    node.beat()
    node.leave(running)
    node.beat()

    assert killed == [], "the note was for the idle worker it had been"


def test_a_worker_that_comes_out_of_a_hold_was_not_idle_meanwhile(node: Node, client: redis.Redis) -> None:
    node._worked_s -= 100
    node.holding.hear(1, [Service.MODEL], 15)
    node.beat()
    assert Registry(client).workers()[0].idle_ms >= 100_000

    node.holding.hear(1, [], 15)
    node.beat()
    assert Registry(client).workers()[0].idle_ms < 50_000


def test_the_idle_time_counts_from_the_end_of_the_last_job(node: Node, ledger: Ledger, client: redis.Redis) -> None:
    running = node.enter(a_running_job(ledger))
    node._worked_s -= 100  # the job took that long
    node.beat()
    assert Registry(client).workers()[0].idle_ms >= 100_000
    node.leave(running)
    node.beat()

    assert Registry(client).workers()[0].idle_ms < 50_000


def test_an_entry_that_cannot_be_read_hides_no_other(node: Node, client: redis.Redis) -> None:
    node.register()
    client.hset("worker:model@server-9", mapping={"server": "server-9"})
    client.zadd("workers", {"model@server-9": 1})

    assert [worker.name for worker in Registry(client).workers()] == [PLACE.worker]


@pytest.mark.parametrize("figures", ["{", '{"free": null}', '{"mode": "ragged"}', b"\xff"])
def test_a_worker_whose_figures_cannot_be_read_is_there_without_them(
        node: Node, client: redis.Redis, figures: str | bytes) -> None:
    node.register(busy=1)
    client.hset(f"worker:{PLACE.worker}", "figures", figures)
    (entry,) = Registry(client).workers()

    assert (entry.name, entry.busy, entry.figures) == (PLACE.worker, 1, {})


def test_a_job_in_hand_is_renewed_with_each_beat(node: Node, ledger: Ledger, client: redis.Redis) -> None:
    ledger.submit(a_job())
    running = node.enter(a_running_job(ledger))
    client.zadd("leases", {running.claim.id: 1})
    node.beat()

    assert (client.zscore("leases", running.claim.id) or 0) > 1
