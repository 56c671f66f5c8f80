"""The MNS transport over a long time: many slow leases, delays longer than a queue keeps messages, a worker's long end."""

import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from kombu import Connection, Consumer, Message, Producer, Queue

from ops.mns_server import Fault, LocalMns
from ops.mns_server.attributes import Attributes
from ops.mns_server.clock import HandClock as ServerClock
from ops.waiting import wait_until
from routing.mns import install
from routing.mns.crew import at_once
from routing.mns.errors import BadRequest, NotAllowed
from routing.mns.figures import Figures
from routing.mns.inbox import Inbox
from routing.mns.leases import Leases
from routing.mns.rooms import Room, Slot
from tests.mns_transport import KEY, HandClock, ObedientService, connect

DAY_S = 86400


@pytest.fixture
def clock() -> ServerClock:
    """The local server's clock."""
    return ServerClock()


@pytest.fixture
def mns(clock: ServerClock) -> Iterator[LocalMns]:
    """A local server whose messages age when the test says so."""
    with LocalMns.running(keys=[KEY], clock=clock, objects=False) as one:
        yield one


# Slow answers


def test_leases_are_made_longer_several_at_once_so_that_slow_answers_do_not_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    service, clock, figures, together = ObedientService(), HandClock(), Figures(), threading.Barrier(8)
    leases = Leases(service, visibility_s=30, longest_s=60, store=None, figures=figures, now=clock)  # type: ignore[arg-type]
    monkeypatch.setattr(leases, "_run", lambda: None)
    for number in range(8):
        leases.add(str(number), "jobs", service.hand_out(str(number)), visibility_s=30, slot=Slot(Room()))
    service.before = lambda _: together.wait(10) and None
    clock.now_s += 11
    leases.tend()
    assert figures.read()["extended"] == 8


def test_where_no_thread_can_be_started_one_does_all_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't create new thread at interpreter shutdown")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    done = list[int]()
    assert at_once(done.append, range(5)) == []
    assert done == [0, 1, 2, 3, 4]
    assert at_once(done.append, range(5, 8), go_on=lambda: len(done) < 6) == [7, 6]


# A worker that was told to stop, whose last tasks still run


def test_other_threads_of_a_stopping_worker_wait_for_messages_as_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("celery.worker.state.should_stop", 0)
    waited_s = list[float]()

    def wait() -> None:
        began = time.monotonic()
        with pytest.raises(TimeoutError):
            Inbox().get(0.5)
        waited_s.append(time.monotonic() - began)

    thread = threading.Thread(target=wait)
    thread.start()
    thread.join()
    assert waited_s[0] >= 0.5
    wait()
    assert waited_s[1] < 0.5  # the main thread, in which Celery looks at its signals


# Trouble with receiving


def test_trouble_with_receiving_does_not_cost_the_messages_whose_tasks_still_run(mns: LocalMns) -> None:
    held = list[Message]()
    with connect(mns, outage_s=0) as connection:
        Producer(connection).publish("x", routing_key="jobs")
        with Consumer(connection, [Queue("jobs")], callbacks=[lambda _, message: held.append(message)]):
            connection.drain_events(timeout=10)
            mns.faults.add(Fault(operation="ReceiveMessage", kind="status", status=403, code="AccessDenied"))
            wait_until(lambda: mns.faults.report()[0]["hits"] >= 3, timeout_s=10, what="refusals")
            with pytest.raises(TimeoutError):
                connection.drain_events(timeout=0.1)
            held[0].ack()
            with pytest.raises(NotAllowed):
                connection.drain_events(timeout=10)
    assert mns.audit("jobs")["deleted"] == 1


# Delays and how long messages are kept


def far(days: float) -> dict[str, object]:
    """The headers of a Celery task that is to run in so many days."""
    return {"task": "t", "id": "1", "eta": (datetime.now(UTC) + timedelta(days=days)).isoformat()}


@pytest.mark.parametrize("retention_s", [4 * DAY_S, None], ids=["made by hand", "made by the transport"])
def test_a_message_with_a_far_eta_is_delayed_so_that_it_is_not_dropped_before(
        retention_s: int | None, mns: LocalMns, clock: ServerClock) -> None:
    if retention_s:
        mns.service.create("jobs", Attributes(retention_s=retention_s))
    with connect(mns) as connection:
        Producer(connection).publish("x", routing_key="jobs", headers=far(30))
    clock.skip((retention_s or 7 * DAY_S) / 2 + 1)
    audit = mns.audit("jobs")
    assert (audit["active"], audit["expired"]) == (1, 0)


def test_a_long_body_is_put_anew_when_its_message_is_delayed_further(
        mns: LocalMns, clock: ServerClock, tmp_path: Path) -> None:
    with connect(mns, store=f"file://{tmp_path}/bodies", compress_above=10**9) as connection:
        Producer(connection).publish("x" * 100_000, routing_key="jobs", headers=far(30))
        body = next(tmp_path.rglob("*.body"))
        (old := body.with_name("old")).hardlink_to(body)
        clock.skip(4 * DAY_S)
        with Consumer(connection, [Queue("jobs")], callbacks=[lambda *_: None]):
            wait_until(lambda: mns.audit("jobs")["deleted"] == 1, timeout_s=10, what="the message to be sent on")
        assert mns.audit("jobs")["delayed"] == 1
        assert not body.samefile(old)  # written a second time, so that its age is that of the second message
        assert body.read_bytes() == old.read_bytes()


# Another server


def test_a_server_that_answers_200_but_is_not_mns_is_refused(mns: LocalMns) -> None:
    install()
    with Connection(f"mns://127.0.0.1:{mns.admin_port}", userid=KEY[0], password=KEY[1]) as connection, \
            pytest.raises(BadRequest, match=r"HTTP 200 and no answer of MNS .*; is this the address of an MNS endpoint"):
        connection.connect()
