"""What only a server of our own can be asked: hostile bodies and connections, temporary keys, injected faults as the SDK
meets them, counters that read zero, a restart.
"""

import json
import socket
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from mns.mns_exception import MNSClientNetworkException
from mns.queue import Message, QueueMeta

from ops.mns_server import Fault, LocalMns
from tests.mns_suite.client import (
    Queues,
    Service,
    attributes,
    empty,
    refused,
    take,
    take_all,
    took,
)

_KEY = ("local", "the local secret")
_TEMPORARY = ("STS.local", "the temporary secret", "the token")
_LAUGHS = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 10))


@pytest.fixture(scope="module")
def mns() -> Iterator[LocalMns]:
    """A local server with a lasting and a temporary key, whose counters tell the truth."""
    with LocalMns.running(keys=[_KEY, _TEMPORARY], counters="real") as one:
        yield one


@pytest.fixture
def service(mns: LocalMns) -> Iterator[Service]:
    """It, as the suite sees a service; no fault outlives the test."""
    yield Service(mns.endpoint, *_KEY)
    mns.faults.clear()


@pytest.mark.parametrize("body", [
    f'<!DOCTYPE d [<!ENTITY l0 "ha">{_LAUGHS}]><Message><MessageBody>&l9;</MessageBody></Message>',
    '<!DOCTYPE d [<!ENTITY f SYSTEM "file:///etc/passwd">]><Message><MessageBody>&f;</MessageBody></Message>',
    '<!DOCTYPE Message SYSTEM "http://127.0.0.1:1/x.dtd"><Message><MessageBody>x</MessageBody></Message>',
    "<Message>" * 50_000 + "</Message>" * 50_000,
    "<Messages>" + "<Message><MessageBody>x</MessageBody></Message>" * 50_000 + "</Messages>",
    '<?xml version="1.0" encoding="no-such-encoding"?><Message><MessageBody>x</MessageBody></Message>',
], ids=["laughs", "file", "dtd", "deep", "wide", "encoding"])
def test_hostile_xml_is_refused_at_once(queues: Queues, service: Service, body: str) -> None:
    queue = queues.make()
    request = service.request("POST", f"/queues/{queue.queue_name}/messages", body=body.encode())

    def send() -> None:
        answer = service.send(request)
        assert answer.status == 400
        assert answer.error in ("MalformedXML", "InvalidArgument")

    assert took(send) < 5
    assert empty(queue)


@pytest.mark.parametrize("said", [
    b"nonsense\r\n\r\n", b"GET /queues HTTP/9.9\r\n\r\n", b"GET /queues HTTP/1.1\r\nbad header line\r\n\r\n",
    b"POST /queues/q/messages HTTP/1.1\r\nContent-Length: many\r\n\r\n",
    b"POST /queues/q/messages HTTP/1.1\r\nContent-Length: -5\r\n\r\n",
    b"POST /queues/q/messages HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n",
    b"POST /queues/q/messages HTTP/1.1\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n",
    b"POST /queues/q/messages HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"GET /queues HTTP/1.1\r\nx-long: " + b"x" * 200_000 + b"\r\n\r\n",
    b"POST /queues/q/messages HTTP/1.1\r\nContent-Length: 100\r\n\r\nhalf of it",
], ids=["no HTTP", "version", "header", "length no number", "length negative", "length too much", "length of 5000 digits",
        "chunked", "long header", "half a body"])
def test_what_is_no_proper_http_ends_its_own_connection_only(mns: LocalMns, service: Service, said: bytes) -> None:
    with socket.create_connection(("127.0.0.1", mns.port), timeout=10) as connection:
        try:
            connection.sendall(said)
            connection.shutdown(socket.SHUT_WR)
            answer = connection.recv(65_536)
        except OSError:  # it need not read to the end what it has refused
            answer = b""
    assert answer == b"" or answer.startswith(b"HTTP/1.1 4")
    assert service.send(service.request("GET", "/queues")).status == 200


def test_a_temporary_key_needs_its_token(mns: LocalMns) -> None:
    good, none, wrong = (Service(mns.endpoint, *_TEMPORARY[:2], token) for token in ("the token", "", "another"))
    with good.account() as account:
        assert account.list_queue("no-such-prefix") == ([], "")
    for bad in (none, wrong):
        with bad.account() as account, refused("InvalidAccessKeyId"):
            account.list_queue()
        assert bad.send(bad.request("GET", "/queues")).status == 403


def test_the_sdk_sends_a_message_twice_when_the_answer_is_lost(mns: LocalMns, queues: Queues) -> None:
    """Its hidden resend, which our transport takes out: the one reason why it may not be used as it is."""
    queue = queues.make()
    mns.faults.add(Fault(operation="SendMessage", queue=queue.queue_name, kind="drop_after", times=1))
    queue.send_message(Message("one of it"))
    assert {message.message_body for message in take_all(queue, 2)} == {b"one of it"}
    assert mns.audit(queue.queue_name)["sent"] == 2


def test_the_sdk_sees_throttling_and_failures_by_their_codes(mns: LocalMns, queues: Queues) -> None:
    queue = queues.make()
    for status, code in ((429, "TooManyRequests"), (500, "InternalError")):
        mns.faults.add(Fault(operation="SendMessage", kind="status", status=status, code=code, times=1))
        with refused(code):
            queue.send_message(Message("refused"))
    mns.faults.add(Fault(operation="SendMessage", kind="html502", times=1))
    with pytest.raises(MNSClientNetworkException):
        queue.send_message(Message("refused"))
    assert empty(queue)


def test_counters_tell_the_truth_or_read_zero_as_told(mns: LocalMns, queues: Queues) -> None:
    queue = queues.make(vis_timeout=60)
    for delay_s in (0, 0, 0, 60):
        queue.send_message(Message("counted", delay_s))
    take(queue)

    def counters() -> tuple[int, int, int]:
        meta = attributes(queue)
        with pytest.warns(DeprecationWarning, match="_messages"):
            return meta.active_messages, meta.inactive_messages, meta.delay_messages

    assert counters() == (2, 1, 1)
    admin(mns, "POST", "/settings", {"counters": "zero"})
    assert counters() == (0, 0, 0)
    admin(mns, "POST", "/settings", {"counters": "real"})


def test_a_message_received_too_often_goes_to_the_dead_letters(mns: LocalMns, queues: Queues) -> None:
    queue, dead = queues.make(vis_timeout=1), queues.make()
    admin(mns, "POST", f"/queues/{queue.queue_name}/dlq", {"target": dead.queue_name, "max_receives": 2})
    sent = queue.send_message(Message("poison"))
    take(queue)
    take(queue)
    buried = take(dead)
    assert buried.message_body == b"poison"
    assert buried.get_system_properties()["DLQOriginMessageId"].get_raw_value() == sent.message_id
    assert empty(queue)
    audit = mns.audit(queue.queue_name)
    assert (audit["sent"], audit["dead"], audit["active"] + audit["inactive"]) == (1, 1, 0)


def test_a_restart_on_the_same_data_changes_nothing_for_a_client(tmp_path: Path) -> None:
    data = tmp_path / "messages.sqlite"
    with LocalMns.running(keys=[_KEY], data=data) as first, Service(first.endpoint, *_KEY).account() as account:
        queue = account.get_queue("kept")
        queue.create(QueueMeta(vis_timeout=600))
        for body in ("held", "deleted", "active"):
            queue.send_message(Message(body))
        queue.send_message(Message("delayed", 600))
        held, deleted = take(queue), take(queue)
        queue.delete_message(deleted.receipt_handle)
        before = first.audit("kept")
        assert before == {"sent": 4, "deleted": 1, "active": 1, "inactive": 1, "delayed": 1, "dead": 0, "expired": 0}
    with LocalMns.running(keys=[_KEY], data=data) as second, Service(second.endpoint, *_KEY).account() as account:
        queue = account.get_queue("kept")
        assert second.audit("kept") == before
        assert attributes(queue).visibility_timeout == 600
        assert take(queue).message_body == b"active"
        queue.delete_message(held.receipt_handle)
        assert empty(queue)


def admin(mns: LocalMns, method: str, path: str, body: object) -> None:
    """Ask the admin port."""
    request = urllib.request.Request(f"http://127.0.0.1:{mns.admin_port}{path}", method=method,
                                     data=json.dumps(body).encode(), headers={"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=10):
        pass

