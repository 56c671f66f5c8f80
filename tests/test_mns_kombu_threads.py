"""kombu on `mns://` with many threads, over a fork, and while the service fails."""

import os
import signal
import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from time import monotonic
from typing import Any

import pytest
from kombu import Connection, Producer, Queue
from kombu.mixins import ConsumerMixin

from ops.embedded_redis import free_port
from ops.mns_server import Fault, LocalMns
from ops.waiting import wait_until
from tests.mns_kombu import KEY, OPTIONS, address, connect, consuming, settled_down

_THREADS = 8
_EACH = 20


@pytest.fixture(scope="module")
def mns() -> Iterator[LocalMns]:
    """A local server."""
    with LocalMns.running(keys=[KEY]) as one:
        yield one


@pytest.fixture
def queue(mns: LocalMns) -> Iterator[Queue]:
    """A queue of this test's own; no fault outlives the test."""
    name = f"test-{uuid.uuid4().hex[:10]}"
    yield Queue(name, routing_key=name)
    mns.faults.clear()


def publish(connection: Connection, queue: Queue, *bodies: object, **properties: Any) -> None:
    """Publish to a queue by its name."""
    with connection.channel() as channel:
        for body in bodies:
            Producer(channel).publish(body, routing_key=queue.name, declare=[queue], **properties)


def test_threads_share_one_connection_to_publish(mns: LocalMns, queue: Queue) -> None:
    with connect(mns) as connection, ThreadPoolExecutor(_THREADS) as threads:
        connection.connect()
        list(threads.map(lambda number: publish(connection, queue, *range(number * _EACH, (number + 1) * _EACH)),
                         range(_THREADS)))
        with consuming(connection, queue) as inbox:
            for message in inbox.get(count=_THREADS * _EACH):
                message.ack()
        assert sorted(inbox.bodies) == list(range(_THREADS * _EACH))
    settled_down(mns, queue.name, sent=_THREADS * _EACH, deleted=_THREADS * _EACH)


def test_consumers_in_many_threads_share_the_work_without_doing_it_twice(mns: LocalMns, queue: Queue) -> None:
    seen: list[int] = []
    done = threading.Event()

    def consume() -> None:
        with connect(mns) as connection, consuming(connection, queue, prefetch=4) as inbox:
            while not done.is_set():
                if inbox.none_comes(0.1):
                    continue
                for message in inbox.messages:
                    if not message.acknowledged:
                        seen.append(message.payload)
                        message.ack()
                if len(seen) >= _THREADS * _EACH:
                    done.set()

    consumers = [threading.Thread(target=consume) for _ in range(_THREADS)]
    for one in consumers:
        one.start()
    with connect(mns) as connection:
        publish(connection, queue, *range(_THREADS * _EACH))
    assert done.wait(30)
    for one in consumers:
        one.join()
    assert sorted(seen) == list(range(_THREADS * _EACH))
    settled_down(mns, queue.name, sent=_THREADS * _EACH, deleted=_THREADS * _EACH, inactive=0)


def test_a_long_poll_hears_at_once_and_does_not_spin(mns: LocalMns, queue: Queue) -> None:
    with connect(mns, wait_time_seconds=2) as connection, connect(mns) as sender:
        publish(sender, queue, "first")
        with consuming(connection, queue, prefetch=1) as inbox:
            [first] = inbox.get()
            before = mns.requests()
            assert inbox.none_comes(1.0)  # the prefetch is full: nothing is asked for (kombu#685, celery#3712)
            assert received(mns.requests()) == received(before)
            first.ack()
            assert inbox.none_comes(0.5)
            publish(sender, queue, "second")
            began = monotonic()
            inbox.get()
            assert monotonic() - began < 1
            assert received(mns.requests()) - received(before) <= 3


def received(requests: dict[str, int]) -> int:
    """How many receives there were."""
    return requests.get("BatchReceiveMessage", 0) + requests.get("ReceiveMessage", 0)


def test_messages_are_acknowledged_from_other_threads_than_consume(mns: LocalMns, queue: Queue) -> None:
    with connect(mns) as connection, ThreadPoolExecutor(_THREADS) as threads:
        publish(connection, queue, *range(60))
        with consuming(connection, queue, prefetch=10) as inbox:
            acknowledged = 0
            while acknowledged < 60:
                fresh = list(inbox.messages[acknowledged:]) or inbox.get()
                list(threads.map(lambda message: message.ack(), fresh))
                acknowledged += len(fresh)
        assert sorted(inbox.bodies) == list(range(60))
    settled_down(mns, queue.name, sent=60, deleted=60, inactive=0)


def exit_code(child: int) -> int:
    """Wait for a child process and return its exit code; one that hangs is killed."""
    try:
        _, status = wait_until(lambda: found if (found := os.waitpid(child, os.WNOHANG))[0] else None, timeout_s=20,
                               what="the child to end")
    except TimeoutError:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        raise
    return os.waitstatus_to_exitcode(status)


def test_a_child_of_a_fork_goes_on_without_disturbing_its_parent(mns: LocalMns, queue: Queue) -> None:
    with connect(mns) as connection, consuming(connection, queue) as inbox:
        publish(connection, queue, "before")
        inbox.get()
        child = os.fork()
        if not child:  # nothing of pytest must run here
            status = 1
            try:
                publish(connection, queue, *(f"child {number}" for number in range(_EACH)))
                with connection.clone() as own:
                    publish(own, queue, "child's own")
                status = 0
            finally:
                os._exit(status)
        publish(connection, queue, *(f"parent {number}" for number in range(_EACH)))  # both at once, over no common socket
        assert exit_code(child) == 0
        inbox.get(count=2 * _EACH + 1 - (len(inbox.messages) - 1))
        assert sorted(inbox.bodies) == sorted(["before", "child's own", *(f"child {number}" for number in range(_EACH)),
                                               *(f"parent {number}" for number in range(_EACH))])
        for message in inbox.messages:
            message.ack()  # what the parent held before the fork, it holds still
    settled_down(mns, queue.name, sent=2 * _EACH + 2, deleted=2 * _EACH + 2, inactive=0)


def test_a_dead_address_is_passed_over_for_a_live_one(mns: LocalMns, queue: Queue) -> None:
    with Connection([address(free_port()), address(mns.port)], transport_options=OPTIONS) as connection:
        connection.ensure_connection(max_retries=4, interval_start=0, interval_step=0.05)
        publish(connection, queue, "over the second")
        with consuming(connection, queue) as inbox:
            [message] = inbox.get()
            assert message.payload == "over the second"
            message.ack()


def test_nobody_answers_is_an_error_that_kombu_knows(mns: LocalMns) -> None:
    with Connection(address(free_port()), transport_options=OPTIONS) as connection:
        with pytest.raises(connection.connection_errors) as caught:
            connection.connect()
        assert isinstance(caught.value, connection.recoverable_connection_errors)


def test_a_wrong_key_is_an_error_that_names_itself(mns: LocalMns) -> None:
    wrong = address(mns.port).replace("mns://kombu:", "mns://stranger:")
    with Connection(wrong, transport_options=OPTIONS) as connection, \
            pytest.raises(connection.connection_errors, match="access key"):
        connection.connect()


@pytest.mark.parametrize("fault", [
    {"kind": "status", "status": 500}, {"kind": "status", "status": 429, "code": "TooManyRequests"}, {"kind": "html502"},
    {"kind": "drop_before"}], ids=["500", "429", "html", "drop"])
def test_publishing_with_retry_outlives_a_failing_service(mns: LocalMns, queue: Queue, fault: dict[str, Any]) -> None:
    with connect(mns) as connection:
        publish(connection, queue, "first")
        mns.faults.add(Fault(operation="SendMessage", queue=queue.name, times=2, **fault))
        publish(connection, queue, "second", retry=True,
                retry_policy={"max_retries": 8, "interval_start": 0, "interval_step": 0.1})
        assert mns.audit(queue.name)["active"] >= 2


def test_a_lost_answer_to_an_acknowledgement_deletes_once_and_frees_the_slot(mns: LocalMns, queue: Queue) -> None:
    with connect(mns) as connection:
        publish(connection, queue, 1, 2)
        with consuming(connection, queue, prefetch=1) as inbox:
            [first] = inbox.get()
            mns.faults.add(Fault(operation="DeleteMessage", queue=queue.name, kind="drop_after", times=1))
            first.ack()
            [second] = inbox.get()
            second.ack()
    settled_down(mns, queue.name, sent=2, deleted=2, inactive=0)


def test_a_held_message_stays_held_beyond_its_visibility(mns: LocalMns, queue: Queue) -> None:
    with connect(mns, visibility_timeout=1) as holder, connect(mns) as rival:
        publish(holder, queue, "mine")
        with consuming(holder, queue) as inbox:
            [message] = inbox.get()
            with consuming(rival, queue) as other:
                assert other.none_comes(2.5)
            message.ack()
    settled_down(mns, queue.name, sent=1, deleted=1, active=0)


class _Worker(ConsumerMixin):
    """kombu's own consumer loop, which connects anew after errors."""

    def __init__(self, connection: Connection, queue: Queue) -> None:
        self.connection, self.queue = connection, queue
        self.seen: list[Any] = []
        self.came = threading.Event()

    def get_consumers(self, consumer_class: Any, _channel: Any) -> list[Any]:
        return [consumer_class([self.queue], callbacks=[self.on_message])]

    def on_message(self, body: Any, message: Any) -> None:
        message.ack()
        self.seen.append(body)
        self.came.set()


def test_a_consumer_goes_on_when_its_server_comes_back(queue: Queue) -> None:
    with LocalMns.running(keys=[KEY]) as first:
        port = first.port
        with connect(first, outage_s=1) as connection:
            worker = _Worker(connection, queue)
            loop = threading.Thread(target=worker.run)
            loop.start()
            with connect(first) as sender:
                publish(sender, queue, "before")
            assert worker.came.wait(15)
    worker.came.clear()
    with LocalMns.running(keys=[KEY], port=port) as second:
        with connect(second) as sender:
            publish(sender, queue, "after")
        assert worker.came.wait(30)
        worker.should_stop = True
        loop.join(15)
    assert worker.seen == ["before", "after"]
