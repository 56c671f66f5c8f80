"""The local MNS server's state machine, at times that the tests choose: states, handles, retention, dead letters."""

import random
from collections.abc import Iterator

import pytest

from ops.mns_server.attributes import Attributes, DeadLetters
from ops.mns_server.clock import HandClock
from ops.mns_server.errors import Refused
from ops.mns_server.journal import Journal
from ops.mns_server.message import Delivery, Draft
from ops.mns_server.queue import Twist
from ops.mns_server.service import Service

_START_S = 1_700_000_000.0


@pytest.fixture
def clock() -> HandClock:
    """A clock that stands still until it is moved."""
    return HandClock(_START_S, still=True)


@pytest.fixture
def service(clock: HandClock) -> Iterator[Service]:
    """Two queues: jobs, whose messages are invisible for 30 s, and dead."""
    one = Service(Journal(), account="1", clock=clock)
    one.create("jobs", Attributes(visibility_s=30, retention_s=600))
    one.create("dead", Attributes(retention_s=600))
    yield one
    one.close()


def send(service: Service, *bodies: str, delay_s: int | None = None, priority: int = 8) -> list[Delivery]:
    """Send messages to jobs."""
    return [service.send("jobs", Draft(body, priority=priority, delay_s=delay_s)) for body in bodies]


def take(service: Service, most: int = 16, queue: str = "jobs", **twist: object) -> list[str]:
    """Receive at once, and return the bodies."""
    return [one.draft.body for one in receive(service, most, queue, **twist)]


def receive(service: Service, most: int = 16, queue: str = "jobs", **twist: object) -> list[Delivery]:
    """Receive at once."""
    return service.receive(queue, most, wait_s=0, twist=Twist(**twist))  # type: ignore[arg-type]


def states(service: Service, queue: str = "jobs") -> tuple[int, int, int]:
    """How many are active, inactive, delayed; and the books balance."""
    audit = service.audit(queue)
    assert audit["sent"] == sum(count for name, count in audit.items() if name != "sent")
    return audit["active"], audit["inactive"], audit["delayed"]


def gone(call: object, *arguments: object) -> bool:
    """Whether the call says MessageNotExist."""
    with pytest.raises(Refused) as caught:
        call(*arguments)  # type: ignore[operator]
    return caught.value.code == "MessageNotExist"


def test_a_message_is_active_then_inactive_then_deleted(service: Service) -> None:
    send(service, "one")
    assert states(service) == (1, 0, 0)
    (taken,) = receive(service)
    assert states(service) == (0, 1, 0)
    assert (taken.dequeues, taken.next_visible_ms) == (1, int(_START_S * 1000) + 30_000)
    assert take(service) == []
    service.delete("jobs", taken.handle)
    assert states(service) == (0, 0, 0)
    assert service.audit("jobs")["deleted"] == 1


def test_a_message_comes_back_when_its_visibility_ends_and_not_a_moment_before(service: Service, clock: HandClock) -> None:
    send(service, "one")
    first = receive(service)[0]
    clock.skip(29.999)
    assert take(service) == []
    clock.skip(0.001)
    assert states(service) == (1, 0, 0)
    second = receive(service)[0]
    assert (second.id, second.dequeues, second.first_dequeued_ms) == (first.id, 2, first.first_dequeued_ms)
    assert second.handle != first.handle


def test_a_handle_is_dead_once_the_visibility_has_ended_though_nobody_else_took_the_message(
        service: Service, clock: HandClock) -> None:
    send(service, "one")
    taken = receive(service)[0]
    clock.skip(30)
    assert gone(service.delete, "jobs", taken.handle)
    assert gone(service.change, "jobs", taken.handle, 10)
    assert take(service) == ["one"]


def test_only_the_latest_handle_is_good(service: Service, clock: HandClock) -> None:
    send(service, "one")
    old = receive(service)[0]
    new = service.change("jobs", old.handle, 100)
    assert gone(service.delete, "jobs", old.handle)
    clock.skip(99)
    assert take(service) == []
    service.delete("jobs", new.handle)
    assert gone(service.delete, "jobs", new.handle)


def test_a_change_counts_from_the_moment_of_the_call(service: Service, clock: HandClock) -> None:
    send(service, "one")
    taken = receive(service)[0]
    clock.skip(20)
    changed = service.change("jobs", taken.handle, 5)
    assert changed.next_visible_ms == int(_START_S * 1000) + 25_000
    clock.skip(5)
    assert take(service) == ["one"]


def test_a_handle_of_one_queue_opens_nothing_in_another(service: Service) -> None:
    send(service, "one")
    taken = receive(service)[0]
    assert gone(service.delete, "dead", taken.handle)
    service.delete("jobs", taken.handle)


def test_a_delayed_message_waits_and_can_be_deleted_before_it_is_due(service: Service, clock: HandClock) -> None:
    kept, dropped = send(service, "kept", "dropped", delay_s=60)
    assert states(service) == (0, 0, 2)
    assert kept.handle
    service.delete("jobs", dropped.handle)
    clock.skip(59.999)
    assert take(service) == []
    clock.skip(0.001)
    assert gone(service.delete, "jobs", kept.handle)
    assert take(service) == ["kept"]


def test_a_messages_delay_comes_before_its_queues_and_0_is_one(service: Service) -> None:
    service.set_attributes("jobs", lambda _: Attributes(delay_s=50))
    assert send(service, "as the queue")[0].handle
    assert not send(service, "at once", delay_s=0)[0].handle
    assert states(service) == (1, 0, 1)


def test_the_more_urgent_come_first_and_then_the_older(service: Service) -> None:
    send(service, "a", "b")
    send(service, "urgent", priority=1)
    send(service, "late", priority=16)
    send(service, "c")
    assert take(service, 3) == ["urgent", "a", "b"]
    assert take(service) == ["c", "late"]


def test_looking_changes_nothing(service: Service, clock: HandClock) -> None:
    send(service, "a", "b", "held")
    send(service, "later", delay_s=10)
    for _ in range(3):
        assert [one.draft.body for one in service.peek("jobs", 2)] == ["a", "b"]
    seen = service.peek("jobs", 1)[0]
    assert (seen.handle, seen.dequeues, seen.first_dequeued_ms) == ("", 0, seen.enqueued_ms)
    assert states(service) == (3, 0, 1)
    assert take(service) == ["a", "b", "held"]
    assert service.peek("jobs", 16) == []


def test_a_message_is_gone_at_the_end_of_the_retention_whatever_its_state(service: Service, clock: HandClock) -> None:
    send(service, "held", "waiting")
    send(service, "delayed", delay_s=3600)
    held = receive(service, 1)[0]
    held = service.change("jobs", held.handle, 3600)
    clock.skip(599.999)
    assert states(service) == (1, 1, 1)
    clock.skip(0.001)
    assert states(service) == (0, 0, 0)
    assert service.audit("jobs")["expired"] == 3
    assert gone(service.delete, "jobs", held.handle)


def test_a_shorter_retention_holds_for_what_is_there_already(service: Service, clock: HandClock) -> None:
    send(service, "old")
    clock.skip(100)
    send(service, "young")
    service.set_attributes("jobs", lambda _: Attributes(retention_s=60))
    assert take(service) == ["young"]


def test_a_message_received_too_often_goes_to_the_dead_letters_with_its_age_and_where_it_came_from(
        service: Service, clock: HandClock) -> None:
    service.set_dead_letters("jobs", DeadLetters("dead", 2))
    sent = send(service, "poison")[0]
    for _ in range(2):
        assert take(service) == ["poison"]
        clock.skip(30)
    assert take(service) == []
    assert states(service) == (0, 0, 0)
    assert service.audit("jobs")["dead"] == 1
    assert service.audit("dead")["sent"] == 1
    (buried,) = receive(service, queue="dead")
    assert (buried.draft.body, buried.enqueued_ms, buried.dequeues) == ("poison", sent.enqueued_ms, 1)
    assert buried.id != sent.id
    assert {one.name: one.value for one in buried.draft.system_properties} == {
        "DLQOriginMessageId": sent.id, "DLQSourceArn": "acs:mns:local:1:/queues/jobs"}


def test_the_last_taker_may_still_delete_what_would_be_dead_next(service: Service, clock: HandClock) -> None:
    service.set_dead_letters("jobs", DeadLetters("dead", 1))
    send(service, "one")
    taken = receive(service)[0]
    clock.skip(29)
    service.delete("jobs", taken.handle)
    clock.skip(10)
    assert service.audit("dead")["sent"] == 0


def test_without_their_queue_the_dead_stay_where_they_are(service: Service, clock: HandClock) -> None:
    service.set_dead_letters("jobs", DeadLetters("dead", 1))
    service.delete_queue("dead")
    send(service, "one")
    take(service)
    clock.skip(30)
    assert take(service) == ["one"]


def test_queues_may_be_each_others_dead_letters(service: Service, clock: HandClock) -> None:
    service.set_dead_letters("jobs", DeadLetters("dead", 1))
    service.set_dead_letters("dead", DeadLetters("jobs", 1))
    send(service, "to and fro")
    for queue in ("jobs", "dead", "jobs", "dead"):
        service.audit()
        assert take(service, queue=queue) == ["to and fro"]
        clock.skip(30)
    assert states(service) == (1, 0, 0)
    assert states(service, "dead") == (0, 0, 0)


@pytest.mark.parametrize(("target", "code"), [("jobs", "InvalidArgument"), ("missing", "QueueNotExist")])
def test_dead_letters_need_another_queue_that_is_there(service: Service, target: str, code: str) -> None:
    with pytest.raises(Refused) as caught:
        service.set_dead_letters("jobs", DeadLetters(target, 1))
    assert caught.value.code == code


def test_an_injected_duplicate_can_be_received_again_and_the_last_to_do_so_holds_it(service: Service) -> None:
    send(service, "one")
    first, second = receive(service, duplicate=True)[0], receive(service)[0]
    assert first.id == second.id
    assert gone(service.delete, "jobs", first.handle)
    service.delete("jobs", second.handle)
    assert states(service) == (0, 0, 0)


def test_an_injected_duplicate_that_its_first_taker_deletes_is_gone(service: Service) -> None:
    send(service, "one")
    taken = receive(service, duplicate=True)[0]
    service.delete("jobs", taken.handle)
    assert take(service) == []


def test_an_injected_disorder_loses_nothing(service: Service) -> None:
    bodies = [f"{number:03}" for number in range(100)]
    send(service, *bodies)
    dice, taken = random.Random(1), []
    while got := take(service, 7, reorder=dice):
        taken += got
    assert taken != bodies
    assert sorted(taken) == bodies


def test_a_queue_like_the_one_there_is_is_no_new_one_and_another_is_refused(service: Service) -> None:
    assert service.create("new", Attributes()) is True
    assert service.create("new", Attributes()) is False
    with pytest.raises(Refused, match="QueueAlreadyExist"):
        service.create("new", Attributes(visibility_s=31))


def test_deleting_a_queue_deletes_its_messages_and_a_new_one_of_its_name_goes_on_counting(service: Service) -> None:
    send(service, "a", "b")
    service.delete_queue("jobs")
    service.delete_queue("jobs")
    with pytest.raises(Refused, match="QueueNotExist"):
        send(service, "c")
    assert service.audit("jobs") == {"sent": 2, "deleted": 2, "dead": 0, "expired": 0, "active": 0, "inactive": 0,
                                     "delayed": 0}
    service.create("jobs", Attributes())
    assert take(service) == []
    send(service, "d")
    assert states(service) == (1, 0, 0)


@pytest.mark.parametrize(("body", "fits"), [("", False), ("x" * 1024, True), ("x" * 1025, False), ("é" * 512, True),
                                            ("é" * 513, False)])
def test_a_body_is_measured_in_bytes(service: Service, body: str, fits: bool) -> None:
    service.create("small", Attributes(max_message_bytes=1024))
    if fits:
        service.send("small", Draft(body))
    else:
        with pytest.raises(Refused, match="1024 bytes"):
            service.send("small", Draft(body))


def test_names_are_listed_in_order_and_in_pages(service: Service) -> None:
    for name in ("b-2", "b-1", "a", "b-3"):
        service.create(name, Attributes())
    assert service.names(prefix="b-", most=2) == (["b-1", "b-2"], True)
    assert service.names(prefix="b-", after="b-2", most=2) == (["b-3"], False)
    assert service.names(most=10) == (["a", "b-1", "b-2", "b-3", "dead", "jobs"], False)


def test_a_queue_through_which_many_messages_went_keeps_nothing_of_them(service: Service) -> None:
    for _ in range(2000):
        send(service, "x")
        service.delete("jobs", receive(service)[0].handle)
    queue = service._queues["jobs"]
    assert len(queue._active) + len(queue._coming) + len(queue._born) < 300
