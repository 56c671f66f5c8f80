"""Messages on the MNS transport: names, how they travel, what is put aside, what waits, and how errors are told apart."""

import base64
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kombu import Connection, Producer

from ops.mns_server import Fault, LocalMns
from ops.waiting import wait_until
from routing.mns import wire
from routing.mns.errors import (
    BadBody,
    MnsError,
)
from routing.mns.names import LONGEST, dead_name, is_dead_name, mns_name
from routing.mns.stores import FolderStore, StoreUnavailable
from tests.mns_transport import KEY, connect, sdk


@pytest.fixture
def mns() -> Iterator[LocalMns]:
    """A local server."""
    with LocalMns.running(keys=[KEY], objects=False) as one:
        yield one


def got(connection: Connection, queue: str) -> Any:
    """Return the next message of a queue, None if there is none; not by a poller."""
    return connection.default_channel.basic_get(queue)


# Names


@settings(max_examples=400)
@given(st.lists(st.text(max_size=130), min_size=2, max_size=6, unique=True), st.sampled_from(["", "tandem-", "a.b/"]))
def test_different_queues_have_different_names_that_mns_allows(names: list[str], prefix: str) -> None:
    made = [mns_name(name, prefix) for name in names]
    made += [dead_name(name) for name in made]
    assert len(set(made)) == len(made)
    for name in made:
        assert 1 <= len(name) <= LONGEST
        assert name[0].isalnum()
        assert name.isascii()
        assert name.replace("-", "").isalnum()


@settings(max_examples=200)
@given(st.from_regex(r"[A-Za-z0-9][A-Za-z0-9-]{0,109}", fullmatch=True))
def test_a_name_that_mns_allows_stays_as_it_is(name: str) -> None:
    assert mns_name(name) == name
    assert dead_name(name) == f"{name}-dead"


@pytest.mark.parametrize("names", [("a.b", "a-b", "a_b", "a:b"), ("x" * 121, "x" * 122), ("-a", "q-a"), ("", "q"),
                                   ("队列", "列队")])
def test_names_that_look_alike_when_made_fit_are_kept_apart(names: tuple[str, ...]) -> None:
    assert len({mns_name(name) for name in names}) == len(names)


def test_a_dead_queue_is_known_by_its_name() -> None:
    for name in ("jobs", "x" * LONGEST):
        assert is_dead_name(dead_name(name))
        assert not is_dead_name(name)


# On the wire


def message(body: Any, **headers: Any) -> dict[str, Any]:
    """A message as kombu's channel makes it."""
    return {"body": body, "headers": headers, "properties": {"delivery_info": {}, "body_encoding": "utf-8"},
            "content-type": "text/plain", "content-encoding": "utf-8"}


@given(st.text(max_size=300))
def test_whatever_text_is_sealed_can_be_opened(text: str) -> None:
    sealed = wire.sealed(message(text), queue="jobs", message_bytes=65536, store=None)
    assert wire.opened(sealed, None) == message(text)


@pytest.mark.parametrize("length", [49151, 49152, 49153])
def test_the_limit_is_that_of_the_body_as_it_is_sent(length: int, tmp_path: Path) -> None:
    empty = len(json.dumps(message(""), ensure_ascii=False))
    sealed = wire.sealed(message("x" * (length - empty)), queue="jobs", message_bytes=65536, store=FolderStore(tmp_path))
    assert len(sealed) <= 65536
    assert (wire.object_of(sealed) is None) == (length <= 49152)
    assert (len(sealed) == 65536) == (length in (49151, 49152))


@pytest.mark.parametrize("body", [
    "%%%", "not base64", base64.b64encode(b"\xff\xfe").decode(), "[1]", "{}", '{"body": 1}', "{not json",
    '{"body": "x", "properties": []}', '{"body": "x", "properties": {"delivery_info": 3}}',
    '{"body": "x", "properties": {}, "headers": [1]}', '{"body": "x", "properties": {"body_encoding": "rot13"}}',
    '{"body": "é", "properties": {"body_encoding": "base64"}}', '{"body": 5, "properties": {"body_encoding": "utf-8"}}',
    '{"body": {"__type__": "uuid", "__value__": 7}, "properties": {}}', "[" * 100_000])
def test_what_is_no_message_of_kombu_is_told_as_that(body: str) -> None:
    with pytest.raises(BadBody):
        wire.opened(body, None)


@given(st.binary(max_size=400) | st.text(max_size=400))
def test_no_body_whatever_raises_anything_else(body: str | bytes) -> None:
    text = base64.b64encode(body).decode() if isinstance(body, bytes) else body
    with pytest.raises(BadBody):
        wire.opened(text, None)


def test_only_long_bodies_that_get_smaller_are_compressed() -> None:
    long, short = message("abc" * 5000), message("abc")
    incompressible = message(base64.b64encode(bytes(range(256)) * 2).decode()[:700])
    for one in (long, short, incompressible):
        wire.compressed(one, 600)
    assert (long["headers"], short["headers"]) == ({"compression": "application/x-gzip"}, {})
    assert len(long["body"]) < 200
    already = message("abc" * 5000, compression="application/x-bz2")
    wire.compressed(already, 600)
    assert already["body"] == "abc" * 5000


NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(("eta", "delay_s"), [
    (None, 0), ("2026-01-01T12:00:05.001+00:00", 6), ("2026-01-01T12:00:05", 5), ("2026-01-01T20:00:10+08:00", 10),
    ("2026-01-01T11:00:00+00:00", 0), ("2026-01-01T12:00:05Z", 5), ("soon", 0), (7, 0)])
def test_a_message_with_an_eta_is_delayed_until_then_and_not_a_moment_less(eta: Any, delay_s: int) -> None:
    assert wire.delay_s(message("x", eta=eta), now=NOON) == delay_s


def test_a_delay_can_be_asked_for_in_seconds() -> None:
    one = message("x", eta="2026-01-01T12:00:05Z")
    one["properties"]["delay_seconds"] = 1.2
    assert wire.delay_s(one, now=NOON) == 2


# What does not go to a consumer


def test_a_message_taken_too_often_is_put_aside_as_it_was_with_the_reason(
        mns: LocalMns, caplog: pytest.LogCaptureFixture) -> None:
    with connect(mns, max_receives=2) as connection:
        Producer(connection).publish({"n": 1}, routing_key="jobs", headers={"k": "v"})
        for _ in range(2):
            taken = wait_until(lambda: got(connection, "jobs"), timeout_s=5, what="the message")
            assert taken.delivery_info["dequeue_count"] <= 2
            taken.requeue()
        wait_until(lambda: got(connection, "jobs") or mns.audit("jobs-dead")["active"], timeout_s=5, what="it to be dead")
        assert mns.audit("jobs") | {"sent": 1, "deleted": 1} == mns.audit("jobs")
        assert "was put aside in queue jobs-dead: taken 2 times and never done" in caplog.text
        assert connection.transport.figures.read()["dead"] == 1
        [dead] = [got(connection, "jobs-dead")]
        assert (dead.payload, dead.headers) == ({"n": 1}, {"k": "v"})
        assert dead.delivery_info["dead"] | {"queue": "jobs", "dequeue-count": "3"} == dead.delivery_info["dead"]
        assert "never done" in dead.delivery_info["dead"]["reason"]
        dead.ack()


def test_what_lies_in_a_dead_queue_can_be_looked_at_any_number_of_times(mns: LocalMns) -> None:
    with connect(mns, max_receives=1) as connection:
        Producer(connection).publish({"n": 1}, routing_key="jobs-dead")
        for _ in range(3):
            wait_until(lambda: got(connection, "jobs-dead"), timeout_s=5, what="the message").requeue()


@pytest.mark.parametrize("body", ["aGVsbG8=", "no base64", "{}",
                                  '{"ref":"jobs/gone","sha256":"' + "0" * 64 + '","size":3}'])
def test_a_body_that_can_never_be_read_is_put_aside(body: str, mns: LocalMns, tmp_path: Path) -> None:
    with connect(mns, store=tmp_path.as_uri()) as connection:
        service = sdk(connection)
        connection.transport.link.send("jobs", body)
        assert got(connection, "jobs") is None
        assert mns.audit("jobs")["deleted"] == mns.audit("jobs-dead")["active"] == 1
        [dead] = service.receive("jobs-dead", 1, wait_s=0)
        assert dead.body == body
        assert dead.properties["queue"] == "jobs"
        assert got(connection, "jobs-dead") is None  # and there it stays


def test_a_body_whose_store_is_away_is_tried_again_later(mns: LocalMns, monkeypatch: pytest.MonkeyPatch) -> None:
    class Away:
        """A store that takes bodies and cannot be reached afterwards."""

        def put(self, name: str, data: bytes) -> None:
            """Lose it."""

        def get(self, name: str) -> bytes:
            """Fail."""
            raise StoreUnavailable(f"cannot be reached for {name}")

        def delete(self, name: str) -> None:
            """Fail."""
            raise StoreUnavailable(f"cannot be reached for {name}")

    monkeypatch.setattr("routing.mns.intake._LATER_S", 1)
    with connect(mns, store=Away(), compress_above=2**30) as connection:
        Producer(connection).publish("x" * 60_000, routing_key="jobs")
        assert got(connection, "jobs") is None
        assert mns.audit("jobs") | {"active": 0, "inactive": 1, "deleted": 0} == mns.audit("jobs")
        wait_until(lambda: mns.audit("jobs")["active"] == 1, timeout_s=5, what="the message to be there again")


def test_a_message_that_cannot_be_put_aside_now_is_not_lost(mns: LocalMns, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("routing.mns.intake._LATER_S", 1)
    with connect(mns) as connection:
        sdk(connection)
        connection.transport.link.send("jobs", "no base64")
        mns.faults.add(Fault(operation="SendMessage", queue="jobs-dead", kind="status", status=403, code="AccessDenied"))
        assert got(connection, "jobs") is None
        mns.faults.clear()
        wait_until(lambda: mns.audit("jobs")["active"] == 1, timeout_s=5, what="the message to be there again")
        assert got(connection, "jobs") is None
        assert mns.audit("jobs-dead")["active"] == 1


def test_a_death_between_the_copy_and_the_deletion_leaves_a_second_copy_and_loses_nothing(
        mns: LocalMns, monkeypatch: pytest.MonkeyPatch) -> None:
    class Killed(BaseException):
        """Nothing of ours runs after it."""

    def die(*_: object) -> None:
        raise Killed

    with connect(mns) as connection, monkeypatch.context() as patched:
        sdk(connection)
        connection.transport.link.send("jobs", "no base64")
        patched.setattr("routing.mns.leases.Leases.finish", die)
        with pytest.raises(Killed):
            got(connection, "jobs")
        assert mns.audit("jobs")["deleted"] == 0
    with connect(mns) as another:
        wait_until(lambda: got(another, "jobs") or mns.audit("jobs")["deleted"], timeout_s=5, what="it to go again")
        assert [one.body for one in sdk(another).receive("jobs-dead", 16, wait_s=0)] == ["no base64"] * 2


def test_a_time_further_off_than_a_delay_may_be_is_reached_in_stages(mns: LocalMns) -> None:
    with connect(mns) as connection:
        far = {"eta": (datetime.now(UTC) + timedelta(days=30)).isoformat()}
        Producer(connection).publish("x", routing_key="jobs", headers=far)
        [(_, delayed)] = [("jobs", mns.audit("jobs")["delayed"])]
        assert delayed == 1
        link = connection.transport.link
        its_week_is_over = wire.sealed(message("x", **far), queue="jobs", message_bytes=65536, store=None)
        link.send("jobs", its_week_is_over)
        assert got(connection, "jobs") is None
        assert mns.audit("jobs") | {"sent": 3, "deleted": 1, "delayed": 2, "active": 0} == mns.audit("jobs")


def test_a_body_in_the_store_goes_with_its_message(mns: LocalMns, tmp_path: Path) -> None:
    with connect(mns, store=tmp_path.as_uri(), compress_above=2**30) as connection:
        producer = Producer(connection)
        for _ in range(3):
            producer.publish("x" * 60_000, routing_key="jobs")
        files = [path for path in tmp_path.rglob("*") if path.is_file()]
        assert len(files) == 3
        got(connection, "jobs").requeue()
        got(connection, "jobs").ack()
        assert sum(path.is_file() for path in tmp_path.rglob("*")) == 2
        wait_until(lambda: mns.audit("jobs")["active"] == 2, timeout_s=5, what="both to be there")
        assert connection.default_channel.queue_purge("jobs") == 2
        assert not any(path.is_file() for path in tmp_path.rglob("*"))


@pytest.mark.parametrize(("fault", "kept"), [
    ({"kind": "status", "status": 403, "code": "AccessDenied"}, 0), ({"kind": "drop_after"}, 1)])
def test_the_body_of_a_message_that_was_not_sent_does_not_stay_unless_it_may_have_been(
        fault: dict[str, Any], kept: int, mns: LocalMns, tmp_path: Path) -> None:
    mns.faults.add(Fault(operation="SendMessage", **fault))
    with connect(mns, store=tmp_path.as_uri(), compress_above=2**30) as connection:
        connection.ensure_connection(max_retries=0)
        with pytest.raises(MnsError):
            Producer(connection).publish("x" * 60_000, routing_key="jobs")
        assert mns.audit()["sent"] == kept
        assert sum(path.is_file() for path in tmp_path.rglob("*")) == kept
        mns.faults.clear()


def test_only_an_empty_queue_goes_if_that_is_asked_for_though_the_services_counts_read_0(mns: LocalMns) -> None:
    with connect(mns) as connection:
        Producer(connection).publish("x", routing_key="jobs")
        connection.default_channel.queue_delete("jobs", if_empty=True)
        assert mns.audit("jobs")["active"] == 1
        got(connection, "jobs").ack()
        connection.default_channel.queue_delete("jobs", if_empty=True)
        assert mns.service.names(most=2) == ([], False)
