"""Leases of the MNS transport: made longer in time, ended once, given back, and lost without harm."""

import logging
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from ops.waiting import wait_until
from routing.mns.credentials import CredentialsExpired
from routing.mns.errors import ServiceFailed, Throttled, Unreachable, WrongKey
from routing.mns.figures import Figures
from routing.mns.leases import Lease, Leases, State
from routing.mns.options import LostLease
from routing.mns.rooms import Room, Slot
from routing.mns.stores import FolderStore
from tests.mns_transport import HandClock, ObedientService

VISIBILITY_S, LONGEST_S = 30, 3600.0


class Held:
    """Leases on a service that obeys, with a clock that stands still, and no thread of their own unless told."""

    def __init__(self, folder: Path) -> None:
        self.service, self.clock, self.figures, self.lost = ObedientService(), HandClock(), Figures(), list[LostLease]()
        self.store = FolderStore(folder)
        self.room = Room(10)
        self.leases = Leases(self.service, visibility_s=VISIBILITY_S, longest_s=LONGEST_S, store=self.store,  # type: ignore[arg-type]
                             figures=self.figures, on_lost=self.lost.append, now=self.clock)

    def hold(self, message_id: str = "m", visibility_s: int = VISIBILITY_S) -> Lease:
        """Receive a message and deliver it."""
        return self.leases.add(f"tag-{message_id}", "jobs", self.service.hand_out(message_id), visibility_s=visibility_s,
                              slot=Slot.delivered(self.room))

    def after(self, seconds: float) -> None:
        """Let time pass, then tend."""
        self.clock.now_s += seconds
        self.leases.tend()


@pytest.fixture
def held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Held]:
    """Leases whose thread does nothing: the tests tend."""
    one = Held(tmp_path)
    monkeypatch.setattr(one.leases, "_run", lambda: None)
    monkeypatch.setattr("routing.mns.patience.time.sleep", lambda _: None)
    yield one
    one.leases.stop()


def test_a_lease_is_made_longer_every_third_of_the_visibility_timeout(held: Held) -> None:
    lease = held.hold()
    held.after(9.9)
    assert held.service.requests == []
    held.after(0.2)
    assert held.service.requests == ["extend"]
    assert lease.handle == held.service.good["m"] == "m#2"
    for _ in range(20):
        held.after(10.0)
    assert held.service.requests == ["extend"] * 21
    assert lease.until > held.clock.now_s


def test_a_queue_with_a_short_visibility_of_its_own_is_heeded_at_first(held: Held) -> None:
    held.hold(visibility_s=6)
    held.after(2.0)
    assert held.service.visible_in_s == {"m": VISIBILITY_S}


def test_the_thread_tends_without_being_asked(tmp_path: Path) -> None:
    one = Held(tmp_path)
    one.leases = Leases(one.service, visibility_s=1, longest_s=60, store=None, figures=one.figures)  # type: ignore[arg-type]
    lease = one.hold(visibility_s=1)
    wait_until(lambda: one.figures.read()["extended"] >= 3, timeout_s=10, what="three extensions")
    assert lease.state is State.HELD
    one.leases.stop()


def test_an_acknowledgement_and_an_extension_at_the_same_time_never_use_a_dead_handle(held: Held) -> None:
    rounds = 1000
    for number in range(rounds):
        lease = held.hold(f"m{number}")
        held.clock.now_s += 10.0
        start = threading.Barrier(2)

        def tend(start: threading.Barrier = start) -> None:
            start.wait()
            held.leases.tend()

        tending = threading.Thread(target=tend)
        tending.start()
        start.wait()
        held.leases.finish(lease)
        tending.join()
    assert len(held.service.deleted) == len(set(held.service.deleted)) == rounds
    assert held.figures.read()["deleted"] == rounds
    assert held.figures.read()["lost"] == 0
    assert held.service.good == {}
    assert len(held.leases) == 0
    assert held.room.free == 10


def test_an_acknowledgement_waits_for_an_extension_in_flight_and_uses_its_handle(held: Held) -> None:
    lease = held.hold()
    in_flight, go_on = threading.Event(), threading.Event()

    def stall(request: str) -> None:
        if request == "extend":
            in_flight.set()
            assert go_on.wait(10)

    held.service.before = stall
    held.clock.now_s += 10
    tending = threading.Thread(target=held.leases.tend)
    tending.start()
    assert in_flight.wait(10)
    finishing = threading.Thread(target=held.leases.finish, args=(lease,))
    finishing.start()
    assert held.service.requests == ["extend"]
    go_on.set()
    for thread in (tending, finishing):
        thread.join(10)
    assert held.service.deleted == ["m"]
    assert held.figures.read()["lost"] == 0


def test_a_lease_that_the_service_gave_to_another_is_lost_and_said_once(
        held: Held, caplog: pytest.LogCaptureFixture) -> None:
    lease = held.hold()
    lease.headers = {"id": "the-task"}
    held.service.good["m"] = "m#9"
    held.after(10)
    held.after(100)
    assert lease.state is State.LOST
    assert held.lost == [LostLease("jobs", "m", {"id": "the-task"})]
    assert held.service.requests == ["extend"]
    assert held.room.free == 9  # its task still runs
    with caplog.at_level(logging.WARNING):
        held.leases.finish(lease)
    assert "it was done too late" in caplog.text
    assert held.figures.read()["lost"] == 1
    assert held.room.free == 10
    assert len(held.leases) == 0


def test_a_passing_failure_to_extend_is_tried_again_before_the_lease_ends(held: Held) -> None:
    lease = held.hold()
    held.service.failures = [Unreachable("away"), ServiceFailed("500"), Throttled("429")]
    for _ in range(4):
        held.after(max(10.0 if lease.until - held.clock.now_s > 29 else 3.0, 0))
    assert lease.state is State.HELD
    assert held.figures.read()["extended"] == 1
    assert held.lost == []


def test_a_lease_that_cannot_be_extended_in_time_is_lost(held: Held) -> None:
    lease = held.hold()
    held.service.before = lambda _: (_ for _ in ()).throw(Unreachable("away"))
    held.after(10)
    for _ in range(10):
        held.after(3)
    assert lease.state is State.LOST
    assert [one.message_id for one in held.lost] == ["m"]
    held.service.before = lambda _: None
    held.leases.finish(lease)  # nobody else has taken it, so it can still be deleted
    assert held.service.deleted == ["m"]


def test_what_is_held_too_long_is_no_longer_kept_from_others(held: Held) -> None:
    lease = held.hold()
    while held.clock.now_s < 1000 + LONGEST_S:
        held.after(10)
    extended = held.figures.read()["extended"]
    held.after(20)
    assert lease.state is State.LOST
    assert held.figures.read()["extended"] == extended


def test_an_acknowledgement_during_an_outage_is_made_good_when_it_is_over(held: Held) -> None:
    lease = held.hold()
    held.service.failures = [Unreachable("away"), Unreachable("away")]
    held.leases.finish(lease)
    assert held.room.free == 10  # the slot does not wait for the service
    assert held.service.deleted == []
    held.after(1)
    held.after(2)
    assert held.service.deleted == ["m"]
    assert len(held.leases) == 0
    assert held.figures.read()["lost"] == 0


def test_an_acknowledgement_whose_answer_was_lost_counts_as_done(held: Held, caplog: pytest.LogCaptureFixture) -> None:
    lease = held.hold()
    held.service.lost_answers = [Unreachable("cut")]
    held.leases.finish(lease)
    held.after(1)
    assert held.service.requests == ["delete", "delete"]
    assert held.figures.read() | {"deleted": 1, "lost": 0} == held.figures.read()
    assert len(held.leases) == 0
    assert caplog.text == ""


def test_an_acknowledgement_that_is_refused_for_a_moment_is_made_good(
        held: Held, caplog: pytest.LogCaptureFixture) -> None:
    lease = held.hold()
    held.service.failures = [WrongKey("no"), CredentialsExpired("no")]
    held.leases.finish(lease)
    assert held.room.free == 10
    held.after(1)
    held.after(2)
    assert held.service.deleted == ["m"]
    assert caplog.text.count("cannot be deleted for now; trying again: no") == 1


def test_an_acknowledgement_that_goes_on_being_refused_is_given_up_when_another_may_have_the_message(
        held: Held, caplog: pytest.LogCaptureFixture) -> None:
    lease = held.hold()
    held.service.failures = [WrongKey("no") for _ in range(99)]
    held.leases.finish(lease)
    for _ in range(2 * VISIBILITY_S):
        held.after(1)
    assert len(held.leases) == 0
    assert "could not be deleted; it will be received again: no" in caplog.text


def test_a_message_is_ended_once(held: Held) -> None:
    lease = held.hold()
    for end in (held.leases.finish, held.leases.finish, held.leases.give_back):
        end(lease)
    assert held.service.requests == ["delete"]
    assert held.room.free == 10


def test_the_body_in_the_store_goes_after_the_message_and_not_before(held: Held) -> None:
    held.store.put("jobs/body", b"long")
    lease = held.hold()
    lease.object_name = "jobs/body"
    held.service.failures = [ServiceFailed("500")]
    held.leases.finish(lease)
    assert held.store.get("jobs/body") == b"long"
    held.after(1)
    assert not any(path.is_file() for path in held.store._folder.rglob("*"))


def test_the_body_of_a_message_that_another_has_stays(held: Held) -> None:
    held.store.put("jobs/body", b"long")
    lease = held.hold()
    lease.object_name = "jobs/body"
    held.service.good["m"] = "m#9"
    held.leases.finish(lease)
    assert held.store.get("jobs/body") == b"long"


def test_a_message_given_back_can_be_received_at_once_and_is_not_extended(held: Held) -> None:
    lease = held.hold()
    held.leases.give_back(lease)
    assert held.service.visible_in_s == {"m": 1}  # 0 is not allowed
    held.after(100)
    assert held.service.requests == ["extend"]
    assert held.room.free == 10
    assert held.figures.read()["released"] == 1


@pytest.mark.parametrize("failure", [Throttled("429"), ServiceFailed("500"), Unreachable("cut")])
def test_giving_back_outlives_a_passing_failure(failure: Exception, held: Held) -> None:
    held.service.failures = [failure, failure]  # type: ignore[list-item]
    held.leases.give_back(held.hold())
    assert held.service.visible_in_s == {"m": 1}


def test_closing_gives_back_what_is_held_and_deletes_what_is_done(held: Held) -> None:
    done = held.hold("done")
    held.service.failures = [Unreachable("away")]
    held.leases.finish(done)
    for number in range(20):
        held.hold(f"m{number}")
    held.leases.close(held.leases.of(held.room), until=held.clock.now_s + 5)
    assert held.service.deleted == ["done"]
    assert held.service.visible_in_s == {f"m{number}": 1 for number in range(20)}
    assert len(held.leases) == 0


def test_closing_takes_no_longer_than_it_may(held: Held, caplog: pytest.LogCaptureFixture) -> None:
    for number in range(20):
        held.hold(f"m{number}")

    held.service.before = lambda _: setattr(held.clock, "now_s", held.clock.now_s + 2)
    with caplog.at_level(logging.WARNING):
        held.leases.close(held.leases.of(held.room), until=held.clock.now_s + 5)
    assert len(held.service.requests) < 20
    assert "messages were not given back" in caplog.text
    assert len(held.leases) == 0
    assert held.room.free == 10


def test_the_messages_of_one_channel_are_told_from_those_of_another(held: Held) -> None:
    mine = held.hold("mine")
    held.leases.add("other", "jobs", held.service.hand_out("other"), visibility_s=30, slot=Slot(Room()))
    assert held.leases.of(held.room) == [mine]
