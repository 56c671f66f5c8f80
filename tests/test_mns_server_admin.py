"""The local MNS server's admin port, and the answers of its data plane that no SDK looks at."""

import socket
import urllib.error
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from ops.mns_server import HandClock, LocalMns
from ops.mns_server.attributes import Attributes
from ops.mns_server.message import Draft
from ops.waiting import wait_until
from tests.mns_admin import ask
from tests.mns_suite.client import Service, document

_NOTHING = {"sent": 0, "deleted": 0, "dead": 0, "expired": 0, "active": 0, "inactive": 0, "delayed": 0}


@pytest.fixture
def clock() -> HandClock:
    """A clock that can be put forward."""
    return HandClock(still=True)


@pytest.fixture
def mns(clock: HandClock) -> Iterator[LocalMns]:
    """A server with the queues jobs and dead."""
    with LocalMns.running(clock=clock, objects=False) as one:
        one.service.create("jobs", Attributes())
        one.service.create("dead", Attributes())
        yield one


@pytest.fixture
def service(mns: LocalMns) -> Service:
    """A plain client of it."""
    return Service(mns.endpoint, "test-id", "test-secret")


def status_of(port: int, path: str, body: Any = None, **more: str) -> tuple[int, str]:
    """Return the status of an error, and what it says."""
    with pytest.raises(urllib.error.HTTPError) as caught:
        ask(port, path, body, **more)
    with caught.value as error:
        return error.code, error.read().decode()


def test_the_audit_is_of_one_queue_or_of_all(mns: LocalMns) -> None:
    mns.service.send("jobs", Draft("one"))
    mns.service.send("dead", Draft("two", delay_s=9))
    assert ask(mns.admin_port, "/audit?queue=jobs") == {**_NOTHING, "sent": 1, "active": 1} == mns.audit("jobs")
    assert ask(mns.admin_port, "/audit") == {**_NOTHING, "sent": 2, "active": 1, "delayed": 1} == mns.audit()
    assert ask(mns.admin_port, "/audit?queue=unknown") == _NOTHING


def test_the_queues_are_shown_as_they_are_set_with_who_waits_and_how_old_they_are(mns: LocalMns, clock: HandClock) -> None:
    mns.service.send("jobs", Draft("one"))
    clock.skip(12)
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(mns.service.receive, "dead", 1, wait_s=30)
        wait_until(lambda: ask(mns.admin_port, "/queues")[0]["waiting"] == 1, timeout_s=10, what="a receive to wait")
        dead, jobs = ask(mns.admin_port, "/queues")
        mns.service.send("dead", Draft("two"))
        assert len(waiting.result(10)) == 1
    assert (dead["name"], jobs["name"], jobs["oldest_age_s"], dead["oldest_age_s"]) == ("dead", "jobs", 12.0, 0.0)
    assert (jobs["attributes"]["VisibilityTimeout"], jobs["audit"]["active"], jobs["dlq"]) == ("30", 1, None)


def test_dead_letters_are_set_and_taken_away(mns: LocalMns, clock: HandClock) -> None:
    ask(mns.admin_port, "/queues/jobs/dlq", {"target": "dead", "max_receives": 1})
    assert ask(mns.admin_port, "/queues")[1]["dlq"] == {"target": "dead", "max_receives": 1}
    mns.service.send("jobs", Draft("poison"))
    mns.service.receive("jobs", 1)
    clock.skip(30)
    assert (mns.audit("jobs")["dead"], mns.audit("dead")["active"]) == (1, 1)
    ask(mns.admin_port, "/queues/jobs/dlq", method="DELETE")
    assert ask(mns.admin_port, "/queues")[1]["dlq"] is None


def test_faults_come_and_go(mns: LocalMns, service: Service) -> None:
    assert ask(mns.admin_port, "/faults") == []
    ask(mns.admin_port, "/faults", {"operation": "ListQueue", "kind": "status", "status": 503, "code": "Busy", "times": 1})
    assert service.send(service.request("GET", "/queues")).error == "Busy"
    (shown,) = ask(mns.admin_port, "/faults")
    assert (shown["operation"], shown["hits"]) == ("ListQueue", 1)
    ask(mns.admin_port, "/faults", method="DELETE")
    assert ask(mns.admin_port, "/faults") == []


def test_requests_are_counted_by_operation(mns: LocalMns, service: Service) -> None:
    for target in ("/queues/jobs/messages?waitseconds=0", "/queues/jobs/messages?numOfMessages=2&waitseconds=0",
                   "/queues/jobs/messages?peekonly=true", "/queues/jobs"):
        service.send(service.request("GET", target))
    assert ask(mns.admin_port, "/requests") == {"ReceiveMessage": 1, "BatchReceiveMessage": 1, "PeekMessage": 1,
                                                "GetQueueAttributes": 1} == mns.requests()


def test_settings_are_shown_and_changed_and_a_wrong_one_changes_nothing(mns: LocalMns, service: Service) -> None:
    before = {"counters": "zero", "most_polls": None, "clock_skew_s": 0.0}
    assert ask(mns.admin_port, "/settings") == before
    for wrong in ({"counters": "one"}, {"most_polls": -1}, {"most_polls": 1, "unknown": 1}, {"clock_skew_s": "x"},
                  {"counters": "real", "clock_skew_s": None}, []):
        assert status_of(mns.admin_port, "/settings", wrong)[0] == 400
    assert ask(mns.admin_port, "/settings") == before
    changed = ask(mns.admin_port, "/settings", {"counters": "real", "most_polls": 0, "clock_skew_s": 1000, "seed": 3})
    assert changed == {"counters": "real", "most_polls": 0, "clock_skew_s": 1000.0}
    assert service.send(service.request("GET", "/queues")).error == "TimeExpired"
    ask(mns.admin_port, "/settings", {"clock_skew_s": 0})
    answer = service.send(service.request("GET", "/queues/jobs/messages?waitseconds=30"))  # no wait is allowed
    assert answer.error == "MessageNotExist"


def test_the_keys_can_be_exchanged(mns: LocalMns, service: Service) -> None:
    ask(mns.admin_port, "/keys", [{"access_key_id": "STS.2", "access_key_secret": "new", "security_token": "t"}])
    assert service.send(service.request("GET", "/queues")).error == "InvalidAccessKeyId"
    fresh = Service(mns.endpoint, "STS.2", "new", "t")
    assert fresh.send(fresh.request("GET", "/queues")).status == 200
    code, says = status_of(mns.admin_port, "/keys", [{"access_key_id": "STS.3", "access_key_secret": ["hidden"]}])
    assert code == 400
    assert "hidden" not in says
    assert fresh.send(fresh.request("GET", "/queues")).status == 200


@pytest.mark.parametrize(("path", "body", "method", "status"), [
    ("/nonsense", None, "GET", 404), ("/", None, "GET", 404), ("/audit", {}, "POST", 404),
    ("/queues/jobs", None, "GET", 404),
    ("/faults", {"kind": "nonsense"}, "POST", 400), ("/faults", [], "POST", 400), ("/faults", None, "POST", 400),
    ("/queues/jobs/dlq", {"target": "dead"}, "POST", 400),
    ("/queues/jobs/dlq", {"target": "jobs", "max_receives": 1}, "POST", 400),
    ("/queues/jobs/dlq", {"target": "dead", "max_receives": 0}, "POST", 400),
    ("/queues/none/dlq", {"target": "dead", "max_receives": 1}, "POST", 404), ("/queues/none/dlq", None, "DELETE", 404),
])
def test_what_cannot_be_is_refused_with_a_reason(mns: LocalMns, path: str, body: Any, method: str, status: int) -> None:
    code, says = status_of(mns.admin_port, path, body, method=method)
    assert code == status
    assert '"error"' in says


def test_no_web_page_may_use_it(mns: LocalMns) -> None:
    assert status_of(mns.admin_port, "/faults", {"kind": "status"}, Origin="http://example.org")[0] == 403
    assert mns.faults.report() == []


def test_answers_have_the_services_headers(service: Service) -> None:
    for target, status in (("/queues", 200), ("/queues/none", 404)):
        answer = service.send(service.request("GET", target))
        assert answer.status == status
        assert answer.headers["server"] == "AliyunMQS"
        assert answer.headers["content-type"] == "text/xml;charset=utf-8"
        assert answer.headers["x-mns-version"] == "2015-06-06"
        assert len(bytes.fromhex(answer.headers["x-mns-request-id"])) == 12
        assert answer.headers["date"].endswith("GMT")


def test_one_connection_serves_many_requests_and_closes_when_asked_to(service: Service) -> None:
    connection = service.connect()
    connection.connect()
    kept = connection.sock
    for _ in range(3):
        message = document("Message", MessageBody="x")
        answer = service.request("POST", "/queues/jobs/messages", body=message).over(connection)
        assert (answer.status, answer.headers["connection"]) == (201, "keep-alive")
        assert service.request("DELETE", "/queues/none").over(connection).status == 204
        assert connection.sock is kept
    last = service.request("GET", "/queues").saying(connection="close").over(connection)
    assert last.headers["connection"] == "close"
    connection.close()


@pytest.mark.parametrize("control", ["\n", "\r", "\0", "\x7f"])
def test_no_control_character_gets_through_a_header_into_an_answer(mns: LocalMns, control: str) -> None:
    with socket.create_connection(("127.0.0.1", mns.port), timeout=10) as connection:
        connection.sendall(f"GET /queues HTTP/1.1\r\nHost: a{control}X-Made-Up: b\r\n\r\n".encode())
        answer = connection.makefile("rb").read()
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"X-Made-Up" not in answer


def test_an_operation_that_breaks_is_the_services_own_500(mns: LocalMns, service: Service,
                                                          monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("broken on purpose")

    monkeypatch.setattr(mns.service, "look", broken)
    answer = service.send(service.request("GET", "/queues/jobs"))
    assert (answer.status, answer.error) == (500, "InternalError")
    assert b"on purpose" not in answer.body
