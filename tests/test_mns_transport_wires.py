"""The MNS transport's HTTP: kept connections, many threads, TLS with a CA of one's own, and processes that fork."""

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from kombu import Connection, Consumer, Message, Producer, Queue
from kombu.exceptions import OperationalError

from ops.embedded_redis import free_port
from ops.mns_server import Fault, LocalMns
from ops.mns_server.http_server import HttpServer, Response
from ops.waiting import wait_until
from routing.mns import install
from routing.mns.credentials import StaticProvider
from routing.mns.errors import MnsError, ServiceFailed, Throttled, Unreachable
from routing.mns.http import PooledHttp
from routing.mns.service import Service
from tests.mns_tls import tls_before
from tests.mns_transport import KEY, connect


@pytest.fixture
def mns() -> Iterator[LocalMns]:
    """A local server."""
    with LocalMns.running(keys=[KEY], objects=False) as one:
        yield one


@pytest.fixture
def service(mns: LocalMns) -> Iterator[Service]:
    """The service's operations, without kombu."""
    one = Service(f"127.0.0.1:{mns.port}", credentials=StaticProvider(*KEY), connect_timeout_s=2.0)
    one.create("jobs", visibility_s=60, message_bytes=65536, retention_s=604800)
    yield one
    one.http.close()


# Kept connections


def test_many_threads_send_and_receive_at_once_over_connections_of_their_own(service: Service, mns: LocalMns) -> None:
    with ThreadPoolExecutor(9) as threads:
        waiting = threads.submit(service.receive, "jobs", 1, wait_s=20)
        for sending in [threads.submit(service.send, "jobs", "eA==") for _ in range(200)]:
            assert sending.result(20)
        assert len(waiting.result(20)) == 1
    assert mns.audit("jobs")["sent"] == 200


def test_a_connection_is_used_again_and_not_when_the_server_has_closed_it() -> None:
    server = HttpServer(lambda _: Response(200, b"<Queues/>", {"x-mns-request-id": "1"}))
    one = Service(f"127.0.0.1:{server.port}", credentials=StaticProvider(*KEY))
    one.probe()
    kept = one.http._idle[0][0]
    one.probe()
    assert [pair[0] for pair in one.http._idle] == [kept]
    server.close()
    server = HttpServer(lambda _: Response(200, b"<Queues/>", {"x-mns-request-id": "1"}), port=server.port)
    one.probe()
    assert one.http._idle[0][0] is not kept
    server.close()
    one.http.close()


def test_an_answer_is_not_waited_for_longer_than_the_poll_and_some() -> None:
    gone = threading.Event()
    server = HttpServer(lambda _: Response(204 if gone.wait(10) else 500))
    one = Service(f"127.0.0.1:{server.port}", credentials=StaticProvider(*KEY), answer_timeout_s=0.3)
    began = time.monotonic()
    with pytest.raises(Unreachable, match="no answer in time"):
        one.receive("jobs", 1, wait_s=1)
    assert 1.2 <= time.monotonic() - began < 4
    with pytest.raises(Unreachable), one.http.within(0.1):
        one.receive("jobs", 1, wait_s=20)
    assert time.monotonic() - began < 6
    gone.set()
    server.close()
    one.http.close()


def test_a_host_that_does_not_answer_is_given_up_in_time() -> None:
    with socket.socket() as full:  # it listens, and its queue of connections is full
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        waiting = []
        for _ in range(8):
            one = socket.socket()
            one.setblocking(False)
            one.connect_ex(full.getsockname())
            waiting.append(one)
        service = Service(f"127.0.0.1:{full.getsockname()[1]}", credentials=StaticProvider(*KEY), connect_timeout_s=0.3)
        began = time.monotonic()
        with pytest.raises(Unreachable):
            service.probe()
        assert time.monotonic() - began < 3
        for one in waiting:
            one.close()


@pytest.mark.parametrize(("status", "body", "kind"), [
    (502, b"<html><h1>Bad Gateway</h1></html>", ServiceFailed), (429, b"slow down", Throttled),
    (200, b"<html>Welcome</html>", ServiceFailed), (500, b"", ServiceFailed), (200, b"\xff\xfe", ServiceFailed)])
def test_answers_that_make_no_sense_are_errors_of_ours(status: int, body: bytes, kind: type[MnsError]) -> None:
    server = HttpServer(lambda _: Response(status, body, {"x-mns-request-id": "1"}))
    one = Service(f"127.0.0.1:{server.port}", credentials=StaticProvider(*KEY))
    with pytest.raises(kind):
        one.receive("jobs", 1, wait_s=0)
    with pytest.raises(kind):
        one.send("jobs", "eA==")
    server.close()
    one.http.close()


# TLS


def test_mnss_trusts_the_ca_in_the_file_and_no_other_server(mns: LocalMns, tmp_path: Path) -> None:
    install()
    with tls_before(mns.port, tmp_path) as (port, ca_file):
        options = {"visibility_timeout": 60, "wait_time_seconds": 0, "ca_file": str(ca_file)}
        with Connection(f"mnss://127.0.0.1:{port}", userid=KEY[0], password=KEY[1],
                        transport_options=options) as connection:
            with connection.SimpleQueue("jobs") as queue:
                queue.put({"n": 1})
                message = queue.get(timeout=10)
                assert message.payload == {"n": 1}
                message.ack()
            assert mns.audit("jobs")["deleted"] == 1
        with Connection(f"mnss://127.0.0.1:{port}", userid=KEY[0], password=KEY[1]) as connection, \
                pytest.raises(OperationalError, match=r"certificate is not trusted .*set ca_file"):
            connection.ensure_connection(max_retries=0)
        with Connection(f"mns://127.0.0.1:{port}", ssl=True, userid=KEY[0], password=KEY[1],
                        transport_options=options) as connection:
            connection.ensure_connection(max_retries=0)


@pytest.mark.parametrize("nobody", [True, False])
def test_https_to_where_none_is_spoken_ends_in_time(nobody: bool, mns: LocalMns) -> None:
    install()
    port = free_port() if nobody else mns.port
    with Connection(f"mnss://127.0.0.1:{port}", userid=KEY[0], password=KEY[1],
                    transport_options={"connect_timeout_s": 0.3}) as connection, \
            pytest.raises(OperationalError, match="check the network and the endpoint"):
        connection.ensure_connection(max_retries=0)


# Forks


def forked(work: Callable[[], None]) -> int:
    """Do something in a forked process; return how it exited: 0, 1 after an exception, 9 if it hung."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    try:
        _, status = wait_until(lambda: (ended := os.waitpid(child, os.WNOHANG))[0] and ended, timeout_s=15,
                               what="the child to end")
    except TimeoutError:
        os.kill(child, 9)
        os.waitpid(child, 0)
        return 9
    return os.waitstatus_to_exitcode(status)


def test_a_child_publishes_and_closes_and_leaves_its_parents_messages_and_connections_alone(mns: LocalMns) -> None:
    with connect(mns) as connection:
        messages: list[Message] = []
        with connection.channel() as channel, Consumer(channel, [Queue("jobs", routing_key="jobs")],
                                                       on_message=messages.append):
            Producer(connection).publish("parent", routing_key="jobs")
            connection.drain_events(timeout=10)
            idle = [pair[0] for pair in connection.transport.link.service.http._idle]

            def child() -> None:
                Producer(connection).publish("child", routing_key="jobs")
                assert not {pair[0] for pair in connection.transport.link.service.http._idle} & set(idle)
                with pytest.raises(connection.connection_errors, match="forked"):
                    connection.drain_events(timeout=1)
                with pytest.raises(connection.connection_errors, match="forked"):
                    channel.basic_get("jobs")
                connection.close()

            assert forked(child) == 0
            assert mns.audit("jobs")["inactive"] >= 1  # not given back by the child
            messages[0].ack()
            connection.drain_events(timeout=10)
            messages[1].ack()
            assert [message.payload for message in messages] == ["parent", "child"]
        assert mns.audit("jobs") | {"sent": 2, "deleted": 2} == mns.audit("jobs")


def test_a_child_forked_while_threads_hold_every_lock_can_publish(mns: LocalMns) -> None:
    with connect(mns) as connection:
        connection.connect()
        link = connection.transport.link
        held = [link.service.http._lock, link.options.figures._lock, link.inbox._changed, link.leases._changed]
        for lock in held:
            lock.acquire()
        try:
            def child() -> None:
                with connection.channel() as channel:
                    Producer(channel).publish("child", routing_key="jobs")
                connection.close()

            assert forked(child) == 0
        finally:
            for lock in held:
                lock.release()
        assert mns.audit("jobs")["sent"] == 1


def test_a_child_makes_a_connection_of_its_own_and_consumes(mns: LocalMns) -> None:
    with connect(mns) as connection:
        Producer(connection).publish("x", routing_key="jobs")

        def child() -> None:
            with connect(mns) as mine:
                taken = mine.default_channel.basic_get("jobs")
                taken.ack()

        assert forked(child) == 0
        assert mns.audit("jobs")["deleted"] == 1


def test_the_pool_of_a_child_begins_empty() -> None:
    with LocalMns.running(keys=[KEY], objects=False) as mns:
        one = Service(f"127.0.0.1:{mns.port}", credentials=StaticProvider(*KEY))
        one.probe()
        pool: PooledHttp = one.http

        def child() -> None:
            one.probe()
            assert len(pool._idle) == 1
            one.http.close()

        assert forked(child) == 0
        assert len(pool._idle) == 1
        mns.faults.add(Fault(kind="latency", seconds=0.0, times=1))
        one.probe()  # the parent's connection still works
        one.http.close()
        wait_until(lambda: not pool._idle, timeout_s=1, what="the pool to be empty")
