"""What is void, on its way to the cloud workers: to the one that runs it, to all where that is not known, to newcomers."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
import redis

from app.cloud_registry import CloudRegistry
from app.ledger import Claim, CloudLedger, Ledger
from app.routing_rules import Rules
from app.settings import Settings
from ops.embedded_redis import free_port
from ops.mns_server import Fault, LocalMns
from ops.waiting import wait_until
from routing.cloud.fleet import GONE_S, Fleet
from routing.cloud.home import Home
from routing.cloud.stops import Stops
from tests.cloud_home.stand_in import Run, StandIn
from tests.model_ledger import a_job

SOON_S = 20.0


@pytest.fixture
def workers(settings: Settings, fleet: Fleet) -> Iterator[list[StandIn]]:
    """Two cloud workers that have been heard of."""
    two = [StandIn(settings, "cloud@a"), StandIn(settings, "cloud@b")]
    for one in two:
        fleet.hear(one.worker())
    yield two
    for one in two:
        one.close()


@contextmanager
def telling(settings: Settings, who: str = "queue@server-1") -> Iterator[Stops]:
    """A thread that tells, for as long as the block takes."""
    one = Stops(settings, who=who)
    one.start()
    try:
        yield one
    finally:
        one.stop()
        one.join(10)


def sent(ledger: Ledger, cloud: CloudLedger) -> Run:
    """Submit a job and let the ledger send it; return a run of it."""
    claim = cloud.send_job(ledger.submit(a_job()).job_id, decision=b"{}", rules=Rules())
    assert isinstance(claim, Claim)
    return Run(claim.id, claim.owner)


def all_told(client: redis.Redis) -> bool:
    """Whether nothing is left in the ledger's stream."""
    return bool(client.xlen("void") == 0)


def test_a_ticket_that_nobody_is_known_to_have_used_is_told_to_all_who_live(
        client: redis.Redis, settings: Settings, ledger: Ledger, cloud: CloudLedger, workers: list[StandIn]) -> None:
    runs = [sent(ledger, cloud) for _ in range(3)]
    cloud.recall(job_ids=[run.job for run in runs])
    with telling(settings):
        for worker in workers:
            assert sorted(worker.stops()) == sorted(run.ticket for run in runs)
        wait_until(lambda: all_told(client), timeout_s=SOON_S, what="the ledger to know that all are told")


def test_the_run_of_a_cancelled_job_is_told_to_its_worker_alone(
        client: redis.Redis, settings: Settings, ledger: Ledger, workers: list[StandIn], mns: LocalMns) -> None:
    home = Home(settings, who="queue@server-1")
    home.start()
    run = sent(ledger, CloudLedger(client, settings))
    workers[1].send(run.began())
    wait_until(lambda: ledger.read(run.job).worker == "cloud@b", timeout_s=SOON_S, what="the run to begin")
    ledger.cancel(run.job)
    assert workers[1].stops() == [run.run]
    other = Run(run.job, run.ticket)
    workers[0].send(other.began())
    assert workers[0].stops() == [other.run]
    home.stop()
    home.join(5)

    wait_until(lambda: all_told(client), timeout_s=SOON_S, what="the ledger to know that all are told")
    assert [mns.audit(queue)["sent"] for queue in queues(mns, settings)] == [1, 1]


def test_a_newcomer_is_told_what_it_must_not_run(client: redis.Redis, settings: Settings, ledger: Ledger,
                                                 cloud: CloudLedger, workers: list[StandIn]) -> None:
    runs = [sent(ledger, cloud) for _ in range(2)]
    cloud.recall(job_ids=[run.job for run in runs])
    newcomer = StandIn(settings, "cloud@c")
    home = Home(settings, who="queue@server-1")
    home.start()
    for worker in workers:
        worker.stops()
    newcomer.send()
    assert sorted(newcomer.stops()) == sorted(run.ticket for run in runs)
    home.stop()
    home.join(5)
    newcomer.close()


def test_many_are_told_in_messages_that_mns_takes(settings: Settings, cloud: CloudLedger, workers: list[StandIn],
                                                  client: redis.Redis) -> None:
    tickets = {f"{number:016x}" for number in range(1200)}
    cloud.void([("j", ticket, "cloud@a") for ticket in tickets])
    found: set[str] = set()
    with telling(settings):
        while found != tickets:
            told = workers[0].stops()
            assert 0 < len(told) <= 500
            found |= set(told)
        wait_until(lambda: all_told(client), timeout_s=SOON_S, what="the ledger to know that all are told")


def test_what_concerns_a_worker_that_was_forgotten_is_told_to_nobody(
        client: redis.Redis, settings: Settings, cloud: CloudLedger, mns: LocalMns) -> None:
    cloud.void([("j", "t", "cloud@gone"), ("j", "u", "")])
    with telling(settings):
        wait_until(lambda: all_told(client), timeout_s=SOON_S, what="the stream to be empty")

    assert queues(mns, settings) == []


def test_while_mns_is_away_stops_wait_and_then_are_told_by_whoever_lives(
        client: redis.Redis, settings: Settings, cloud: CloudLedger, workers: list[StandIn], mns: LocalMns,
        counted: Callable[[str], int]) -> None:
    nowhere = replace(settings, mns_url=f"mns://127.0.0.1:{free_port()}")
    cloud.void([("j", "t", "cloud@a")])
    with telling(nowhere) as first:
        (link,) = wait_until(CloudRegistry(client).links, timeout_s=SOON_S, what="the thread to say that it reaches nobody")
        assert (link.who, link.reachable) == ("queue@server-1 stops", False)
        began_s = time.monotonic()
        first.stop()
        first.join(10)
        assert time.monotonic() - began_s < 3
    assert client.xlen("void") == 1
    (entry,) = client.xpending_range("void", "home", "-", "+", 10)
    client.xclaim("void", "home", entry["consumer"], 0, [entry["message_id"]], idle=20_000)
    with telling(settings, "queue@server-2"):
        assert workers[0].stops() == ["t"]
        wait_until(lambda: all_told(client), timeout_s=SOON_S, what="the ledger to know that it is told")

    assert counted("cloud_unreachable") == 1


def test_mns_is_found_to_be_back_also_where_nothing_is_left_to_be_told(
        client: redis.Redis, settings: Settings, fleet: Fleet, cloud: CloudLedger, workers: list[StandIn],
        mns: LocalMns) -> None:
    registry = CloudRegistry(client)
    cloud.void([("j", "t", "cloud@a")])
    mns.faults.add(Fault(status=503, code="ServiceUnavailable"))
    with telling(settings):
        wait_until(lambda: [link.reachable for link in registry.links()] == [False], timeout_s=SOON_S,
                   what="the thread to say that it reaches nobody")
        fleet.forget("cloud@a")  # as when it was silent for long: what was void for it is void for nobody
        mns.faults.clear()
        wait_until(lambda: [link.reachable for link in registry.links()] == [True], timeout_s=SOON_S,
                   what="the thread to find that MNS is back")
    assert all_told(client)


def test_a_worker_whose_queue_may_not_be_made_keeps_nobody_from_being_told(
        client: redis.Redis, settings: Settings, cloud: CloudLedger, workers: list[StandIn],
        counted: Callable[[str], int]) -> None:
    cloud.void([("j", "t", "cloud@b")])
    with telling(settings):
        assert workers[1].stops() == ["t"]
    cloud.void([("j", "u", "cloud@a"), ("j", "u", "cloud@b")])
    with telling(replace(settings, mns_create_queues=False)):
        assert workers[1].stops() == ["u"]
        wait_until(lambda: all_told(client), timeout_s=SOON_S, what="the stream to be empty")

    assert counted("cloud_stops_refused") == 1


def test_the_queue_of_a_worker_that_is_gone_is_deleted(
        client: redis.Redis, settings: Settings, fleet: Fleet, workers: list[StandIn], cloud: CloudLedger,
        mns: LocalMns) -> None:
    cloud.void([("j", "t", "cloud@a"), ("j", "t", "cloud@b")])
    with telling(settings):
        wait_until(lambda: all_told(client), timeout_s=SOON_S, what="the queues to be made")
    assert len(queues(mns, settings)) == 2
    client.zincrby("cloud:workers", -1000 * GONE_S, "cloud@a")
    with telling(settings):
        wait_until(lambda: fleet.known() == {"cloud@b"}, timeout_s=SOON_S, what="the worker to be forgotten")

    assert len(queues(mns, settings)) == 1


@pytest.mark.parametrize("may", [False, True])
def test_a_worker_whose_queue_cannot_be_deleted_is_forgotten_and_so_are_the_others(
        client: redis.Redis, settings: Settings, fleet: Fleet, workers: list[StandIn], cloud: CloudLedger, mns: LocalMns,
        may: bool) -> None:
    cloud.void([("j", "t", "cloud@a"), ("j", "t", "cloud@b")])
    with telling(settings):
        wait_until(lambda: all_told(client), timeout_s=SOON_S, what="the queues to be made")
    for name in ("cloud@a", "cloud@b"):
        client.zincrby("cloud:workers", -1000 * GONE_S, name)
    if may:
        mns.faults.add(Fault(operation="DeleteQueue", status=403, code="AccessDenied"))
    with telling(replace(settings, mns_create_queues=may)):
        wait_until(lambda: not fleet.known(), timeout_s=SOON_S, what="both to be forgotten")

    assert len(queues(mns, settings)) == 2


def test_a_queue_that_was_deleted_a_moment_ago_keeps_nobody_from_being_told(
        client: redis.Redis, settings: Settings, cloud: CloudLedger, workers: list[StandIn], mns: LocalMns,
        counted: Callable[[str], int]) -> None:
    mns.faults.add(Fault(operation="CreateQueue", queue="*cloud-a*", kind="status", status=400,
                         code="QueueDeletedRecently"))
    cloud.void([("j", "t", "cloud@a"), ("j", "t", "cloud@b")])
    with telling(settings):
        assert workers[1].stops() == ["t"]
        wait_until(lambda: all_told(client), timeout_s=SOON_S, what="the stream to be empty")

    assert (counted("cloud_stops_refused"), counted("cloud_unreachable")) == (1, 0)


def queues(mns: LocalMns, settings: Settings) -> list[str]:
    """The names of the queues for stops."""
    return mns.service.names(prefix=f"{settings.mns_prefix}-stops-", most=100)[0]
