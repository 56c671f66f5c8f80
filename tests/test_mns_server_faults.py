"""Faults on purpose, on the local MNS server: what each kind does to a request, whom it hits, that a seed repeats it."""

import http.client
import time
from collections.abc import Iterator
from typing import Any

import pytest

from ops.mns_server import Fault, LocalMns
from ops.mns_server.attributes import Attributes
from ops.mns_server.faults import Faults, fault_of
from ops.mns_server.message import Draft
from tests.mns_suite.client import Answer, Service, document


@pytest.fixture(scope="module")
def mns() -> Iterator[LocalMns]:
    """A server."""
    with LocalMns.running(objects=False, seed=7) as one:
        yield one


@pytest.fixture
def client(mns: LocalMns, request: pytest.FixtureRequest) -> Iterator["Client"]:
    """A client of a queue of this test's own; no fault outlives it."""
    yield Client(mns)
    mns.faults.clear()


class Client:
    """Sends plain signed requests, each on a connection of its own and none twice, to one fresh queue."""

    def __init__(self, mns: LocalMns) -> None:
        self.mns = mns
        self.service = Service(mns.endpoint, "test-id", "test-secret")
        self.queue = f"faults-{mns.requests().get('CreateQueue', 0)}-{time.monotonic_ns()}"
        mns.service.create(self.queue, Attributes())

    def say(self, method: str, query: str = "", body: bytes = b"") -> Answer:
        """Ask for something about the queue's messages."""
        return self.service.send(self.service.request(method, f"/queues/{self.queue}/messages{query}", body=body))

    def send(self, text: str = "one") -> Answer:
        """Send a message."""
        return self.say("POST", body=document("Message", MessageBody=text))

    def take(self, most: int = 1) -> Answer:
        """Receive up to `most`, without waiting."""
        return self.say("GET", f"?numOfMessages={most}&waitseconds=0")

    def fill(self, count: int) -> None:
        """Put messages there, named by their number, past every fault."""
        for number in range(count):
            self.mns.service.send(self.queue, Draft(f"{number:02}"))

    @property
    def sent(self) -> int:
        """How many messages the queue has taken."""
        return self.mns.audit(self.queue)["sent"]


def test_a_status_is_answered_and_nothing_is_done(mns: LocalMns, client: Client) -> None:
    mns.faults.add(Fault("SendMessage", kind="status", status=429, code="TooManyRequests"))
    answer = client.send()
    assert (answer.status, answer.error, client.sent) == (429, "TooManyRequests", 0)


def test_a_proxys_page_is_answered_and_nothing_is_done(mns: LocalMns, client: Client) -> None:
    mns.faults.add(Fault("SendMessage", kind="html502"))
    answer = client.send()
    assert (answer.status, answer.headers["content-type"], client.sent) == (502, "text/html", 0)
    assert b"<html>" in answer.body
    assert "x-mns-request-id" not in answer.headers


@pytest.mark.parametrize(("kind", "stored"), [("drop_before", 0), ("drop_after", 1)])
def test_a_connection_is_dropped_before_or_after_it_is_done(mns: LocalMns, client: Client, kind: str, stored: int) -> None:
    mns.faults.add(fault_of({"operation": "SendMessage", "kind": kind}))
    with pytest.raises(http.client.RemoteDisconnected):
        client.send()
    assert client.sent == stored


def test_latency_only_takes_time(mns: LocalMns, client: Client) -> None:
    mns.faults.add(Fault("SendMessage", kind="latency", seconds=0.2))
    began = time.monotonic()
    assert client.send().status == 201
    assert time.monotonic() - began >= 0.2
    assert client.sent == 1


def test_a_duplicate_of_a_send_is_a_second_message(mns: LocalMns, client: Client) -> None:
    mns.faults.add(Fault("SendMessage", kind="duplicate"))
    assert client.send().status == 201
    assert client.sent == 2


def test_a_duplicate_of_a_receive_hands_the_same_message_out_again(mns: LocalMns, client: Client) -> None:
    client.fill(1)
    mns.faults.add(Fault("ReceiveMessage", kind="duplicate", times=1))
    first, second = client.take().texts(), client.take().texts()
    assert (first["MessageId"], first["DequeueCount"]) == (second["MessageId"], "1")
    assert second["DequeueCount"] == "2"
    assert client.take().error == "MessageNotExist"


def test_a_short_batch_hands_out_fewer_and_at_least_one(mns: LocalMns, client: Client) -> None:
    client.fill(30)
    mns.faults.add(Fault("ReceiveMessage", kind="short_batch"))
    counts = [client.take(5).body.count(b"<MessageId>") for _ in range(5)]
    assert set(counts) <= {1, 2, 3, 4}
    assert client.say("GET", "?waitseconds=0").status == 200  # one is not made none


def test_a_disorder_shakes_a_batch(mns: LocalMns, client: Client) -> None:
    client.fill(16)
    mns.faults.add(Fault("BatchReceiveMessage", kind="reorder"))
    body = client.take(16).body
    places = [body.index(f"<MessageBody>{number:02}<".encode()) for number in range(16)]
    assert places != sorted(places)


def test_a_fault_hits_as_often_as_told_and_counts(mns: LocalMns, client: Client) -> None:
    mns.faults.add(Fault("SendMessage", kind="status", times=2))
    assert [client.send().status for _ in range(4)] == [500, 500, 201, 201]
    assert mns.faults.report()[0]["hits"] == 2


def test_a_fault_hits_its_queue_only(mns: LocalMns, client: Client) -> None:
    other = Client(mns)
    mns.faults.add(Fault(queue=other.queue))
    assert (client.send().status, other.send().status) == (201, 500)


def test_whoever_is_not_let_in_meets_no_fault(mns: LocalMns, client: Client) -> None:
    mns.faults.add(Fault(kind="drop_before"))
    stranger = Service(mns.endpoint, "test-id", "wrong")
    assert stranger.send(stranger.request("GET", "/queues")).error == "SignatureDoesNotMatch"


def test_a_delay_and_a_failure_come_together_and_of_two_failures_the_first(mns: LocalMns, client: Client) -> None:
    mns.faults.add(Fault(kind="latency", seconds=0.1))
    mns.faults.add(Fault(kind="status", status=503, code="First"))
    mns.faults.add(Fault(kind="html502"))
    began = time.monotonic()
    answer = client.send()
    assert (answer.status, answer.error) == (503, "First")
    assert time.monotonic() - began >= 0.1


@pytest.mark.parametrize(("rule", "operation", "is_hit"), [
    ("*", "CreateQueue", True), ("SendMessage", "SendMessage", True), ("SendMessage", "BatchSendMessage", True),
    ("BatchSendMessage", "SendMessage", False), ("BatchSendMessage", "BatchSendMessage", True),
    ("ReceiveMessage", "PeekMessage", False),
])
def test_a_name_stands_for_its_batch_form_too(rule: str, operation: str, is_hit: bool) -> None:
    assert Fault(rule).is_for(operation, "q") is is_hit


def test_a_pattern_names_queues() -> None:
    assert Fault(queue="a-*").is_for("SendMessage", "a-1")
    assert not Fault(queue="a-*").is_for("SendMessage", "b-1")


def test_the_same_seed_throws_the_same_dice() -> None:
    def thrown(seed: int) -> list[bool]:
        faults = Faults(seed)
        faults.add(Fault(probability=0.3))
        return [faults.strike("SendMessage", "q").decisive is not None for _ in range(200)]

    assert thrown(1) == thrown(1) != thrown(2)
    assert 30 <= sum(thrown(1)) <= 90


@pytest.mark.parametrize("document", [{"kind": "nonsense"}, {"probability": 1.5}, {"probability": -1}, {"unknown": 1}])
def test_a_fault_that_cannot_be_is_refused(document: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="a fault"):
        fault_of(document)
