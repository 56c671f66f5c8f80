"""How the MNS transport asks for messages: only with room, never in a hurry, through trouble, and not a moment too long."""

import gc
import logging
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator

import pytest
from kombu import Connection, Consumer, Message, Producer, Queue

from ops.mns_server import Fault, LocalMns
from ops.waiting import wait_until
from routing.mns.errors import NotAllowed, ServiceFailed
from tests.mns_transport import KEY, connect


@pytest.fixture
def mns() -> Iterator[LocalMns]:
    """A local server."""
    with LocalMns.running(keys=[KEY], objects=False) as one:
        yield one


def publish(connection: Connection, queue: str, count: int) -> None:
    """Publish numbers to a queue."""
    producer = Producer(connection.default_channel)
    for number in range(count):
        producer.publish(number, routing_key=queue)


def consume(connection: Connection, *queues: str, prefetch: int = 0) -> tuple[Consumer, list[Message]]:
    """Begin to consume; what comes is kept."""
    messages: list[Message] = []
    consumer = Consumer(connection.channel(), [Queue(name, routing_key=name) for name in queues],
                        on_message=messages.append)
    consumer.qos(prefetch_count=prefetch)
    consumer.consume()
    return consumer, messages


def drain(connection: Connection, messages: list[Message], count: int) -> None:
    """Deliver until there are so many messages."""
    until = time.monotonic() + 20
    while len(messages) < count:
        assert time.monotonic() < until, f"{len(messages)} of {count} messages came"
        try:
            connection.drain_events(timeout=0.2)
        except TimeoutError:
            continue


def receives(mns: LocalMns) -> int:
    """How many receives the server has been asked."""
    return sum(count for name, count in mns.requests().items() if "Receive" in name)


# Requests


def test_a_full_prefetch_sends_no_requests_and_a_free_slot_is_filled_at_once(mns: LocalMns) -> None:
    with connect(mns, wait_time_seconds=1) as connection:
        publish(connection, "jobs", 5)
        _, messages = consume(connection, "jobs", prefetch=2)
        drain(connection, messages, 2)
        before = receives(mns)
        with pytest.raises(TimeoutError):
            connection.drain_events(timeout=1.5)  # more than a poll's time
        assert receives(mns) == before
        messages[0].ack()
        drain(connection, messages, 3)
        assert mns.audit("jobs")["inactive"] == 2


def test_an_idle_queue_is_asked_once_for_each_long_poll(mns: LocalMns) -> None:
    with connect(mns, wait_time_seconds=1) as connection:
        consume(connection, "jobs")
        with pytest.raises(TimeoutError):
            connection.drain_events(timeout=2.0)
        assert receives(mns) <= 3


def test_a_poll_that_the_service_cuts_short_is_not_repeated_at_once(mns: LocalMns) -> None:
    mns.service.most_polls = 0  # each empty poll is answered at once
    with connect(mns, wait_time_seconds=1) as connection:
        consume(connection, "jobs")
        with pytest.raises(TimeoutError):
            connection.drain_events(timeout=2.0)
        assert receives(mns) <= 3


def test_one_consumer_gets_from_many_queues_with_fewer_slots_than_queues(mns: LocalMns) -> None:
    names = [f"jobs-{number}" for number in range(6)]
    with connect(mns) as connection:
        for name in names:
            publish(connection, name, 3)
        _, messages = consume(connection, *names, prefetch=2)
        for count in range(1, 19):
            drain(connection, messages, count)
            messages[-1].ack()
        assert Counter(message.delivery_info["routing_key"] for message in messages) == dict.fromkeys(names, 3)


# Trouble


def test_trouble_that_passes_is_said_once_and_waited_out(mns: LocalMns, caplog: pytest.LogCaptureFixture) -> None:
    with connect(mns) as connection, caplog.at_level(logging.INFO, logger="routing.mns"):
        publish(connection, "jobs", 1)
        mns.faults.add(Fault(operation="ReceiveMessage", kind="status", status=429, code="TooManyRequests", times=2))
        _, messages = consume(connection, "jobs")
        drain(connection, messages, 1)
        assert caplog.text.count("cannot receive from queue jobs for now") == 1
        assert caplog.text.count("receiving from queue jobs again") == 1
        assert connection.transport.figures.read()["throttled"] == 2


def test_an_outage_that_lasts_is_told_to_who_drains(mns: LocalMns) -> None:
    mns.faults.add(Fault(operation="ReceiveMessage", kind="status", status=500))
    with connect(mns, outage_s=0.6) as connection:
        began = time.monotonic()
        consume(connection, "jobs")
        with pytest.raises(ServiceFailed):
            connection.drain_events(timeout=20)
        assert time.monotonic() - began >= 0.6
        mns.faults.clear()


def test_a_refusal_is_said_at_once_and_told_to_who_drains_when_it_lasts(
        mns: LocalMns, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr("routing.mns.pollers._REFUSED_S", 0.6)
    with connect(mns) as connection:
        publish(connection, "jobs", 1)
        mns.faults.add(Fault(operation="ReceiveMessage", kind="status", status=403, code="AccessDenied"))
        began = time.monotonic()
        _, messages = consume(connection, "jobs")
        with pytest.raises(connection.connection_errors) as told:
            connection.drain_events(timeout=20)
        assert isinstance(told.value, NotAllowed)
        assert caplog.text.count("cannot receive from queue jobs for now") == 1
        assert time.monotonic() - began >= 0.6
        mns.faults.clear()
        drain(connection, messages, 1)  # who goes on nevertheless gets messages once it is put right


def test_a_queue_that_was_deleted_is_made_anew(mns: LocalMns) -> None:
    with connect(mns) as connection, connect(mns) as other:
        _, messages = consume(connection, "jobs")
        other.default_channel.queue_delete("jobs")
        wait_until(lambda: mns.requests().get("CreateQueue", 0) >= 2, timeout_s=10, what="the queue to be made again")
        publish(other, "jobs", 1)
        drain(connection, messages, 1)


# The end


def test_what_comes_with_a_poll_in_flight_at_the_end_is_given_back(mns: LocalMns) -> None:
    connection = connect(mns, wait_time_seconds=2)
    with connect(mns) as other:
        consume(connection, "jobs")
        wait_until(lambda: receives(mns) == 1, timeout_s=10, what="a poll")
        closing = threading.Thread(target=connection.close)
        closing.start()
        publish(other, "jobs", 3)
        closing.join(10)
        assert receives(mns) == 1
        wait_until(lambda: mns.audit("jobs")["active"] == 3, timeout_s=5, what="the messages to be there for others")


def test_closing_gives_back_what_was_not_delivered_and_what_was_not_acknowledged(mns: LocalMns) -> None:
    with connect(mns) as connection:
        publish(connection, "jobs", 10)
        _, messages = consume(connection, "jobs", prefetch=8)
        drain(connection, messages, 3)
        wait_until(lambda: mns.audit("jobs")["inactive"] == 8, timeout_s=5, what="the prefetch to be full")
        messages[0].ack()
        began = time.monotonic()
    assert time.monotonic() - began < 4
    wait_until(lambda: mns.audit("jobs")["active"] == 9, timeout_s=5, what="nothing to be held")
    assert connection.transport_options is not None
    assert mns.audit("jobs") | {"sent": 10, "deleted": 1, "inactive": 0} == mns.audit("jobs")


def test_a_cancelled_consumer_gives_back_what_it_was_not_given(mns: LocalMns) -> None:
    with connect(mns) as connection:
        publish(connection, "jobs", 4)
        consumer, messages = consume(connection, "jobs")
        wait_until(lambda: mns.audit("jobs")["inactive"] == 4, timeout_s=5, what="the messages to be received")
        consumer.cancel()
        wait_until(lambda: mns.audit("jobs")["active"] == 4, timeout_s=5, what="the messages to be given back")
        assert messages == []


def test_closing_ends_while_the_service_is_away(mns: LocalMns) -> None:
    connection = connect(mns, close_within_s=1.0)
    publish(connection, "jobs", 4)
    _, messages = consume(connection, "jobs")
    drain(connection, messages, 4)
    mns.faults.add(Fault(kind="latency", seconds=3.0))
    began = time.monotonic()
    connection.close()
    assert time.monotonic() - began < 2.5
    mns.faults.clear()


def test_no_thread_is_left_when_a_connection_is_closed(mns: LocalMns) -> None:
    with connect(mns) as connection:
        publish(connection, "jobs", 1)
        _, messages = consume(connection, "jobs", "more")
        drain(connection, messages, 1)
    wait_until(lambda: not [thread.name for thread in threading.enumerate() if thread.name.startswith("mns-poll-")
                            or thread.name == "mns-leases"], timeout_s=5, what="the threads to end")
    gc.collect()


_FORGETFUL = """
import sys, time
from kombu import Connection, Consumer, Queue
from routing.mns import install
install()
connection = Connection(sys.argv[1], transport_options={"visibility_timeout": 60})
messages = []
consumer = Consumer(connection.channel(), [Queue("jobs", routing_key="jobs")], on_message=messages.append)
consumer.consume()
while not messages:
    connection.drain_events()
print("holding", flush=True)
"""


def test_a_process_that_ends_without_closing_gives_back_what_it_holds(mns: LocalMns) -> None:
    with connect(mns) as connection:
        publish(connection, "jobs", 3)
        address = mns.url.replace("://", f"://{KEY[0]}:a%2Bsecret%2Fof%3Dthe%3Atests@")
        done = subprocess.run([sys.executable, "-c", _FORGETFUL, address], env=dict(os.environ), check=False, timeout=60,
                              capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "holding\n", "")
    wait_until(lambda: mns.audit("jobs")["active"] == 3, timeout_s=5, what="the messages to be given back")
