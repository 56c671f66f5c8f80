"""The routing task and the cloud: what it sends, within the caps; what it has back; and what becomes of it all when MNS
fails or hangs, or when somebody else leads."""

import json
import threading
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
import redis

from app.job import Service, State
from app.ledger import CloudLedger, Ledger
from app.routing_board import RoutingBoard
from app.routing_records import Decision
from app.routing_rules import Rules
from app.settings import Settings
from ops import audit
from ops.mns_server import Fault, LocalMns
from ops.waiting import wait_until
from routing.acting_cloud import Order, Sending
from routing.cloud import broker
from routing.cloud.post import Post
from routing.task import Routing
from tests.clock import Clock
from tests.cloud_home.stand_in import Run, StandIn
from tests.model_ledger import PLACE, a_job
from tests.routing_task import PLAN, Policy, task

WHY = {"rule": "overflow", "excess": 30}
SOON_S = 20.0


@pytest.fixture(autouse=True)
def books_balance(client: redis.Redis, ledger: Ledger) -> Iterator[None]:
    yield
    found = audit.take(client, ledger)
    assert found.balanced, found.faults


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def policy() -> Policy:
    return Policy(Decision(send=30, why=WHY))


@pytest.fixture
def routing(settings: Settings, policy: Policy, clock: Clock) -> Iterator[Routing]:
    with task(settings, decide=policy, clock=clock) as one:
        yield one


def waiting(ledger: Ledger, count: int) -> list[str]:
    return [ledger.submit(a_job()).job_id for _ in range(count)]


def away(client: redis.Redis) -> list[str]:
    """Those that were sent and are not begun."""
    return sorted(job_id.decode() for job_id in client.zrange("cloud", 0, -1))


def work(routing: Routing) -> None:
    assert routing.sending
    routing.sending.work()


# -- orders


def test_as_many_leave_as_was_decided_and_each_knows_why(
        client: redis.Redis, settings: Settings, ledger: Ledger, routing: Routing, mns: LocalMns) -> None:
    ids = waiting(ledger, 40)
    routing.round()
    work(routing)

    assert away(client) == sorted(ids[10:])
    assert mns.audit(broker.jobs_queue(settings))["sent"] == 30
    assert msgspec.json.decode(ledger.read(ids[39]).decision or b"") == WHY
    assert ledger.census().counts["posts"] == 30


def test_no_more_leave_than_the_caps_that_an_operator_set_allow(
        client: redis.Redis, ledger: Ledger, routing: Routing) -> None:
    waiting(ledger, 40)
    RoutingBoard(client).set({"routing": {"cloud_jobs_per_minute": 21}}, rules=PLAN.rules, who="ann")
    for _ in range(3):
        routing.round()
        work(routing)

    assert len(away(client)) == 21


def test_the_thread_sends_while_rounds_go_on(
        client: redis.Redis, ledger: Ledger, routing: Routing, policy: Policy) -> None:
    waiting(ledger, 40)
    assert routing.sending
    routing.sending.start()
    routing.round()
    wait_until(lambda: len(away(client)) == 30, timeout_s=SOON_S, what="thirty to leave")
    policy.decision = Decision(send=4, why=WHY)
    routing.round()
    wait_until(lambda: len(away(client)) == 34, timeout_s=SOON_S, what="four more to leave")
    routing.sending.stop()
    routing.sending.join(10)


def an_order(clock: Clock, jobs: int, **changes: Any) -> Order:
    return Order(**({"jobs": jobs, "decision": b"{}", "rules": Rules(), "until_s": clock.now_s + 2} | changes))


@pytest.fixture
def sending(client: redis.Redis, settings: Settings, clock: Clock) -> Iterator[Sending]:
    one = Sending(client, settings, clock=clock)
    yield one
    one.close()


def test_an_order_takes_the_place_of_the_one_before_less_what_has_left_since_it_was_thought_of(
        client: redis.Redis, ledger: Ledger, sending: Sending, clock: Clock) -> None:
    waiting(ledger, 40)
    mark = sending.mark()
    sending.order(an_order(clock, 5), since=mark)
    sending.work()
    sending.order(an_order(clock, 8), since=mark)
    sending.work()
    sending.order(an_order(clock, 30), since=sending.mark())
    sending.order(an_order(clock, 1), since=sending.mark())
    sending.work()

    assert len(away(client)) == 5 + 3 + 1


def test_an_order_that_is_too_old_is_not_carried_out(
        client: redis.Redis, ledger: Ledger, sending: Sending, clock: Clock) -> None:
    waiting(ledger, 3)
    sending.order(an_order(clock, 3), since=0)
    clock.now_s += 2
    sending.work()

    assert away(client) == []


def test_of_an_order_that_grows_too_old_the_rest_stays_at_home(
        client: redis.Redis, ledger: Ledger, sending: Sending, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    waiting(ledger, 30)

    def slow(post: Post, *args: Any, message_id: str, really: Any = Post.send) -> None:
        really(post, *args, message_id=message_id)
        clock.now_s += 0.9

    monkeypatch.setattr(Post, "send", slow)
    sending.order(an_order(clock, 30), since=0)
    sending.work()

    assert len(away(client)) == 3, "in 2.7 s"
    assert ledger.census().waiting[Service.MODEL] == 27
    assert ledger.census().counts["posts"] == 3


def test_after_a_failure_one_job_at_a_time_is_tried(
        settings: Settings, ledger: Ledger, sending: Sending, clock: Clock, mns: LocalMns) -> None:
    waiting(ledger, 60)
    mns.faults.add(Fault(operation="SendMessage", kind="status", status=503, times=2))
    for _ in range(3):
        sending.order(an_order(clock, 20), since=sending.mark())
        sending.work()

    counts = ledger.census().counts
    assert (counts["sent"], counts["recalled"], counts["posts_failed"]) == (16 + 1 + 20, 15, 2)
    assert mns.audit(broker.jobs_queue(settings))["sent"] == 20


def test_when_the_lead_is_lost_nothing_more_leaves(
        client: redis.Redis, ledger: Ledger, routing: Routing) -> None:
    waiting(ledger, 30)
    routing.round()
    client.delete("leader:routing")
    ledger.lead("routing", "another", 60.0)
    assert routing.round() is None
    work(routing)

    assert away(client) == []
    client.delete("leader:routing")


def test_a_pause_stops_what_was_ordered(client: redis.Redis, ledger: Ledger, routing: Routing) -> None:
    waiting(ledger, 30)
    routing.round()
    RoutingBoard(client).pause("ann", "maintenance")
    routing.round()
    work(routing)

    assert away(client) == []


# -- two at once


def test_two_who_both_act_send_each_job_once_and_keep_to_the_cap_together(
        client: redis.Redis, settings: Settings, ledger: Ledger, mns: LocalMns, clock: Clock) -> None:
    waiting(ledger, 60)
    senders = [Sending(client, settings, clock=clock) for _ in range(2)]
    rules = Rules(cloud_jobs_per_minute=45)
    for one in senders:
        one.order(an_order(clock, 40, rules=rules), since=0)
        one.start()
    wait_until(lambda: mns.audit(broker.jobs_queue(settings))["sent"] == 45, timeout_s=SOON_S, what="45 to be sent")
    for one in senders:
        one.stop()
        one.join(10)
        one.close()

    assert len(away(client)) == 45
    assert mns.audit(broker.jobs_queue(settings))["sent"] == 45


def test_while_a_message_of_one_hangs_another_leads_and_nothing_is_lost_or_doubled(
        client: redis.Redis, settings: Settings, ledger: Ledger, cloud: CloudLedger, worker: StandIn, clock: Clock,
        monkeypatch: pytest.MonkeyPatch) -> None:
    ids = waiting(ledger, 3)
    hangs, goes_on = threading.Event(), threading.Event()

    def hanging(post: Post, *args: Any, message_id: str, really: Any = Post.send) -> None:
        if threading.current_thread().name == "tandem-routing-sending" and not hangs.is_set():
            hangs.set()
            assert goes_on.wait(SOON_S)
        really(post, *args, message_id=message_id)

    monkeypatch.setattr(Post, "send", hanging)
    decision = Decision(send=3, why=WHY)
    with task(settings, decide=Policy(decision), clock=clock) as one:
        assert one.sending
        one.sending.start()
        one.round()
        assert hangs.wait(SOON_S)
        assert len(away(client)) == 3, "two of which nobody has told the cloud"
        one.resign()
        clock.now_s += 5
        recall = Decision(recall=3, reason="nothing begins")
        with task(settings, who="queue@server-2", decide=(policy := Policy(recall)), clock=clock) as other:
            other.round()
            assert away(client) == []
            policy.decision = decision
            other.round()
            work(other)
            goes_on.set()
        one.sending.stop()
        one.sending.join(SOON_S)

    assert away(client) == sorted(ids), "what the first had back was not what the second had sent"
    errands = [worker.errand() for _ in range(4)]
    runs = [cloud.begin(errand.job, errand.ticket, PLACE, run=Run(errand.job, errand.ticket).run) for errand in errands]
    begun = [run for run in runs if run]
    assert sorted(run.id for run in begun) == sorted(ids), "of the four errands, one for each job counts"
    for run in begun:
        ledger.settle(run, State.SUCCEEDED)
    assert [ledger.read(job_id).recorded for job_id in ids] == [1, 1, 1]


# -- home again


def test_what_is_recalled_comes_home_and_says_why(
        client: redis.Redis, ledger: Ledger, routing: Routing, policy: Policy) -> None:
    ids = waiting(ledger, 3)
    routing.round()
    work(routing)
    policy.decision = Decision(recall=2, reason="home is calm")
    routing.round()

    assert away(client) == ids[:1]
    assert json.loads(ledger.read(ids[2]).decision or b"") == {"rule": "recalled", "detail": "home is calm"}
