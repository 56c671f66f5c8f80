"""What kombu promises of a transport, on `mns://` against the local server: publishing, consuming, settling, queues.

The behaviours are those that kombu's own tests of its transports look at; `tests/mns_kombu_public.py` runs those
themselves.
"""

import json
import socket
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import monotonic
from urllib.parse import quote

import pytest
from kombu import Connection, Exchange, Producer, Queue

from ops.mns_server import LocalMns
from routing.mns.errors import MnsError, TooLarge
from tests.mns_kombu import KEY, connect, consuming, settled_down


@pytest.fixture(scope="module")
def mns() -> Iterator[LocalMns]:
    """A local server."""
    with LocalMns.running(keys=[KEY]) as one:
        yield one


@pytest.fixture
def connection(mns: LocalMns) -> Iterator[Connection]:
    """A connection."""
    with connect(mns) as one:
        yield one


@pytest.fixture
def queue() -> Queue:
    """A queue on the anonymous exchange, of this test's own."""
    name = f"test-{uuid.uuid4().hex[:10]}"
    return Queue(name, routing_key=name)


def publish(connection: Connection, queue: Queue, *bodies: object, **properties: object) -> None:
    """Publish to a queue by its name."""
    with connection.channel() as channel:
        for body in bodies:
            Producer(channel).publish(body, routing_key=queue.name, declare=[queue], **properties)


def test_a_connection_opens_closes_and_opens_again(connection: Connection) -> None:
    for _ in range(2):
        connection.connect()
        assert connection.connected
        connection.close()
        assert not connection.connected
    assert connection.default_channel


def test_the_address_is_shown_without_the_secret(connection: Connection) -> None:
    for shown in (connection.as_uri(), repr(connection), str(connection)):
        assert KEY[0] in shown
        assert KEY[1] not in shown
        assert quote(KEY[1], safe="") not in shown


def test_a_message_is_delivered_as_it_was_published_and_gone_when_acknowledged(
        mns: LocalMns, connection: Connection, queue: Queue) -> None:
    publish(connection, queue, {"hello": "wörld 你好"}, headers={"k": [1, None, "v"]}, correlation_id="c-1",
            content_encoding="utf-8")
    with consuming(connection, queue) as inbox:
        [message] = inbox.get()
        assert message.payload == {"hello": "wörld 你好"}
        assert message.headers["k"] == [1, None, "v"]
        assert (message.content_type, message.properties["correlation_id"]) == ("application/json", "c-1")
        assert (message.delivery_info["exchange"], message.delivery_info["routing_key"]) == ("", queue.name)
        json.dumps(message.delivery_info)  # what is not JSON there breaks restoring (celery/kombu#1108)
        assert mns.audit(queue.name)["inactive"] == 1
        message.ack()
        assert message.acknowledged
        settled_down(mns, queue.name, sent=1, deleted=1, active=0, inactive=0)


@pytest.mark.parametrize(("body", "serializer"), [
    ("plain text", "raw"), (b"\x00\xff\x01 bytes", "raw"), ({1: (2, 3)}, "pickle"), ("a\u2028b\u0000c", "json"),
    ("x" * 30_000, "json"), ("你" * 15_000, "json")], ids=["text", "bytes", "pickle", "odd", "ascii", "chinese"])
def test_bodies_of_all_kinds_come_back(connection: Connection, queue: Queue, body: object, serializer: str) -> None:
    publish(connection, queue, body, serializer=serializer)
    with consuming(connection, queue) as inbox:
        [message] = inbox.get()
        assert message.payload == body
        message.ack()


def test_an_empty_queue_times_out(connection: Connection, queue: Queue) -> None:
    with consuming(connection, queue):
        began = monotonic()
        with pytest.raises(socket.timeout):
            connection.drain_events(timeout=0.5)
        assert 0.4 < monotonic() - began < 1.5


def test_a_requeued_message_comes_again_and_is_no_copy(mns: LocalMns, connection: Connection, queue: Queue) -> None:
    publish(connection, queue, {"n": 1})
    with consuming(connection, queue) as inbox:
        [first] = inbox.get()
        first.requeue()
        [again] = inbox.get()
        assert again.payload == {"n": 1}
        again.reject(requeue=True)
        [third] = inbox.get()
        third.ack()
        settled_down(mns, queue.name, sent=1, deleted=1, active=0, inactive=0)


def test_a_rejected_message_is_gone(mns: LocalMns, connection: Connection, queue: Queue) -> None:
    publish(connection, queue, {"n": 1})
    with consuming(connection, queue) as inbox:
        [message] = inbox.get()
        message.reject()
        assert inbox.none_comes()
    settled_down(mns, queue.name, sent=1, deleted=1, active=0, inactive=0)


def test_without_acknowledgement_a_message_is_gone_once_delivered(
        mns: LocalMns, connection: Connection, queue: Queue) -> None:
    publish(connection, queue, {"n": 1})
    with consuming(connection, queue, no_ack=True) as inbox:
        inbox.get()
        settled_down(mns, queue.name, sent=1, deleted=1, active=0, inactive=0)


def test_no_more_are_delivered_than_the_prefetch_allows(mns: LocalMns, connection: Connection, queue: Queue) -> None:
    publish(connection, queue, *range(5))
    with consuming(connection, queue, prefetch=2) as inbox:
        held = inbox.get(count=2)
        assert inbox.none_comes()
        audit = mns.audit(queue.name)
        assert (audit["inactive"], audit["active"]) == (2, 3)  # the rest is for other consumers
        held[0].ack()
        inbox.get()
        assert inbox.none_comes(0.3)
        held[1].reject(requeue=True)
        inbox.get()


def test_what_was_not_settled_is_given_back_when_the_connection_closes(mns: LocalMns, queue: Queue) -> None:
    with connect(mns) as leaving:
        publish(leaving, queue, *range(6))
        with consuming(leaving, queue, prefetch=3) as inbox:
            [first, *_] = inbox.get(count=3)
            first.ack()
    settled_down(mns, queue.name, sent=6, deleted=1, active=5, inactive=0)  # no copies, nothing held for 30 s
    with connect(mns) as coming, consuming(coming, queue) as inbox:
        for message in inbox.get(count=5):
            message.ack()


def test_a_cancelled_consumer_gets_nothing_more(mns: LocalMns, connection: Connection, queue: Queue) -> None:
    with consuming(connection, queue):
        pass
    publish(connection, queue, {"n": 1})
    assert settled_down(mns, queue.name, active=1)["inactive"] == 0


def test_purging_tells_how_many_went(mns: LocalMns, connection: Connection, queue: Queue) -> None:
    publish(connection, queue, *range(20))
    with connection.channel() as channel:
        assert queue(channel).purge() == 20
        assert queue(channel).purge() == 0
    settled_down(mns, queue.name, sent=20, deleted=20)


def test_a_deleted_queue_can_be_declared_anew(connection: Connection, queue: Queue) -> None:
    publish(connection, queue, {"n": 1})
    with connection.channel() as channel:
        queue(channel).delete()
    publish(connection, queue, {"n": 2})
    with consuming(connection, queue) as inbox:
        [message] = inbox.get()
        assert message.payload == {"n": 2}
        message.ack()


def test_a_passive_declaration_finds_only_what_is_there(connection: Connection, queue: Queue) -> None:
    with connection.channel() as channel, pytest.raises(connection.channel_errors):
        queue(channel).queue_declare(passive=True)
    publish(connection, queue, {"n": 1})
    with connection.channel() as channel:
        assert queue(channel).queue_declare(passive=True).queue == queue.name


def test_a_message_with_a_time_waits_on_the_server(mns: LocalMns, connection: Connection, queue: Queue) -> None:
    due = datetime.now(UTC) + timedelta(seconds=2)
    publish(connection, queue, {"n": 1}, headers={"eta": due.isoformat()})
    with consuming(connection, queue) as inbox:
        assert mns.audit(queue.name)["delayed"] == 1
        [message] = inbox.get()
        assert abs((datetime.now(UTC) - due).total_seconds()) < 2
        message.ack()


def test_messages_of_many_queues_come_to_one_consumer(mns: LocalMns, connection: Connection, queue: Queue) -> None:
    many = [Queue(f"{queue.name}-{number}", routing_key=f"{queue.name}-{number}") for number in range(8)]
    for number, one in enumerate(many):
        publish(connection, one, {"n": number})
    with consuming(connection, *many) as inbox:
        for message in inbox.get(count=8):
            message.ack()
        assert sorted(body["n"] for body in inbox.bodies) == list(range(8))
    for one in many:
        settled_down(mns, one.name, deleted=1, inactive=0)


def test_names_that_mns_does_not_allow_are_translated_and_kept_apart(connection: Connection, queue: Queue) -> None:
    ends = (".a_b", ".a-b", "-a.b", "-a-b", "-ä b", "-" + "long" * 40, "-" + "long" * 41)
    names = [queue.name + end for end in ends]
    for name in names:
        publish(connection, Queue(name, routing_key=name), {"to": name})
    for name in reversed(names):  # were two the same queue, it would bring the other's message first
        with consuming(connection, Queue(name, routing_key=name)) as inbox:
            [message] = inbox.get()
            assert (message.payload["to"], message.delivery_info["routing_key"]) == (name, name)
            message.ack()


def test_a_direct_exchange_routes_by_key(mns: LocalMns, connection: Connection, queue: Queue) -> None:
    exchange = Exchange(f"{queue.name}-direct", type="direct")
    left, right = (Queue(f"{queue.name}-{key}", exchange=exchange, routing_key=key) for key in ("left", "right"))
    with connection.channel() as channel:
        producer = Producer(channel, exchange=exchange)
        for key in ("left", "right", "left"):
            producer.publish({"for": key}, routing_key=key, declare=[left, right])
    assert (mns.audit(left.name)["active"], mns.audit(right.name)["active"]) == (2, 1)


@pytest.mark.parametrize("kind", ["fanout", "topic"])
def test_an_exchange_that_mns_cannot_do_is_refused_by_name(connection: Connection, queue: Queue, kind: str) -> None:
    exchange = Exchange(f"{queue.name}-{kind}", type=kind)
    with connection.channel() as channel, pytest.raises(connection.channel_errors, match=kind):
        Producer(channel, exchange=exchange).publish({"n": 1}, declare=[Queue(queue.name, exchange=exchange)])


def test_a_message_to_an_exchange_that_nobody_declared_is_not_dropped_in_silence(connection: Connection) -> None:
    with connection.channel() as channel, pytest.raises(MnsError):
        Producer(channel).publish({"n": 1}, exchange="nobody-declared-this", routing_key="x")


def test_with_priorities_the_more_urgent_come_first(mns: LocalMns, queue: Queue) -> None:
    with connect(mns, priorities=True) as connection:
        for priority in (0, 9, 5, 3):
            publish(connection, queue, {"n": priority}, priority=priority)
        with consuming(connection, queue) as inbox:
            for message in inbox.get(count=4):
                message.ack()
            assert [body["n"] for body in inbox.bodies] == [9, 5, 3, 0]


def test_a_simple_queue_puts_and_gets(mns: LocalMns, connection: Connection, queue: Queue) -> None:
    with connection.SimpleQueue(queue.name) as simple:
        simple.put({"hello": "world"}, headers={"k1": "v1"})
        message = simple.get(timeout=10)
        assert (message.payload, message.headers) == ({"hello": "world"}, {"k1": "v1"})
        assert (message.content_type, message.content_encoding) == ("application/json", "utf-8")
        message.ack()
        with pytest.raises(simple.Empty):
            simple.get(timeout=0.3)
        with pytest.raises(simple.Empty):
            simple.get_nowait()
    settled_down(mns, queue.name, sent=1, deleted=1)


def test_a_simple_buffer_puts_and_gets(connection: Connection, queue: Queue) -> None:
    with connection.SimpleBuffer(queue.name) as simple:
        simple.put({"hello": "buffer"})
        assert simple.get(timeout=10).payload == {"hello": "buffer"}


def test_a_body_that_does_not_fit_is_refused_without_a_store_and_travels_with_one(
        mns: LocalMns, connection: Connection, queue: Queue, tmp_path: Path) -> None:
    body = {"prompt": "".join(chr(0x4E00 + number * 7919 % 20_000) for number in range(60_000))}
    with pytest.raises(TooLarge):
        publish(connection, queue, body)
    assert mns.audit(queue.name)["sent"] == 0
    with connect(mns, store=tmp_path.as_uri()) as storing:
        publish(storing, queue, body)
        with consuming(storing, queue) as inbox:
            [message] = inbox.get()
            assert message.payload == body
            assert any(path.is_file() for path in tmp_path.rglob("*"))
            message.ack()
            settled_down(mns, queue.name, deleted=1)
            inbox.until(lambda: not any(path.is_file() for path in tmp_path.rglob("*")), what="the object to be deleted")
