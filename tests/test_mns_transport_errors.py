"""How the MNS transport tells errors apart, and what it does and does not repeat."""

import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from kombu import Producer
from mns.mns_exception import MNSClientNetworkException, MNSClientParameterException, MNSServerException

from ops.mns_server import Fault, LocalMns
from routing.mns.errors import (
    BadRequest,
    ClockSkew,
    Gone,
    MnsError,
    NotAllowed,
    QueueMissing,
    ServiceFailed,
    Throttled,
    Transient,
    WrongKey,
    of_status,
    translate,
)
from routing.mns.service import Service
from tests.mns_transport import KEY, connect, sdk


@pytest.fixture
def mns() -> Iterator[LocalMns]:
    """A local server."""
    with LocalMns.running(keys=[KEY], objects=False) as one:
        yield one


def server(code: str) -> MNSServerException:
    """The SDK's exception."""
    return MNSServerException(code, "what the service says", "5F0A", "http://host")


@pytest.mark.parametrize(("code", "status", "kind"), [
    ("InvalidAccessKeyId", 403, WrongKey), ("SignatureDoesNotMatch", 403, WrongKey), ("TimeExpired", 408, ClockSkew),
    ("AccessDenied", 403, NotAllowed), ("QueueNotExist", 404, QueueMissing), ("MessageNotExist", 404, Gone),
    ("ReceiptHandleError", 400, Gone), ("TooManyRequests", 429, Throttled), ("QpsLimitExceeded", 400, Throttled),
    ("InternalError", 500, ServiceFailed), ("QueueDeletedRecently", 400, ServiceFailed), ("MalformedXML", 400, BadRequest),
    ("InvalidArgument", 400, BadRequest), ("NeverHeardOf", 400, BadRequest), ("NeverHeardOf", 503, ServiceFailed),
    ("NeverHeardOf", 429, Throttled), ("NeverHeardOf", 403, NotAllowed)])
def test_the_services_codes_are_told_apart(code: str, status: int, kind: type[MnsError]) -> None:
    error = translate(server(code), doing="send to queue jobs", status=status)
    assert type(error) is kind
    assert error.code == code
    assert str(error).startswith(f"send to queue jobs: what the service says ({code}, request 5F0A); ")


@pytest.mark.parametrize(("exc", "kind"), [
    (MNSClientNetworkException("RespDataDamaged", "<html>"), ServiceFailed), (KeyError("location"), ServiceFailed),
    (MNSClientParameterException("TypeInvalid", "no str"), BadRequest), (Throttled("ours"), Throttled)])
def test_what_the_sdk_itself_raises_is_told_apart(exc: Exception, kind: type[MnsError]) -> None:
    assert type(translate(exc, doing="x")) is kind


@pytest.mark.parametrize(("status", "kind"), [(429, Throttled), (502, ServiceFailed), (503, ServiceFailed),
                                              (404, BadRequest), (408, ServiceFailed), (301, BadRequest)])
def test_an_answer_that_is_not_of_mns_is_told_by_its_status(status: int, kind: type[MnsError]) -> None:
    error = of_status(status, "<html><h1>Bad Gateway</h1></html>", doing="x")
    assert type(error) is kind
    assert "Bad Gateway" in str(error)
    assert "<" not in str(error)


def test_a_lost_answer_to_a_send_is_an_error_and_no_second_message(mns: LocalMns) -> None:
    with connect(mns) as connection:
        service = sdk(connection)
        connection.transport.link.queues.get("jobs")
        mns.faults.add(Fault(operation="SendMessage", kind="drop_after", times=1))
        with pytest.raises(Transient):
            service.send("jobs", "eA==")
        assert mns.audit("jobs")["sent"] == 1


def test_throttled_sends_are_repeated_and_others_are_not(mns: LocalMns) -> None:
    with connect(mns) as connection:
        sdk(connection)
        mns.faults.add(Fault(operation="SendMessage", kind="status", status=429, code="TooManyRequests", times=2))
        Producer(connection.default_channel).publish("x", routing_key="jobs")
        assert mns.requests()["SendMessage"] == 3
        mns.faults.add(Fault(operation="SendMessage", kind="status", status=500, times=1))
        with pytest.raises(ServiceFailed):
            Producer(connection.default_channel).publish("x", routing_key="jobs")
        assert mns.audit("jobs")["sent"] == 1


@pytest.mark.parametrize("ask", [lambda service: service.extend("jobs", "x-y", 5),
                                 lambda service: service.delete("jobs", "x-y")], ids=["extend", "delete"])
def test_a_handle_that_is_no_good_is_told_as_gone(ask: Callable[[Service], Any], mns: LocalMns) -> None:
    with connect(mns) as connection:
        service = sdk(connection)
        connection.transport.link.queues.get("jobs")
        with pytest.raises(Gone):
            ask(service)


def test_a_queue_made_otherwise_is_used_as_it_is_with_a_warning(mns: LocalMns, caplog: pytest.LogCaptureFixture) -> None:
    with connect(mns, visibility_timeout=10) as connection, caplog.at_level(logging.WARNING):
        sdk(connection).create("jobs", visibility_s=77, message_bytes=2048, retention_s=3600)
        assert connection.transport.link.queues.get("jobs").visibility_s == 77
        assert "exists with a visibility timeout of 77 s and messages of 2048 bytes, kept for 3600 s" in caplog.text
        with pytest.raises(MnsError, match="does not fit"):
            Producer(connection).publish("".join(map(str, range(2000))), routing_key="jobs")
