"""The local MNS server against a plain model of it: whatever is done, in any order and with restarts in between, both say
the same, and the books balance: sent = deleted + dead + expired + active + inactive + delayed."""

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, multiple, rule

from ops.mns_server.attributes import Attributes, DeadLetters
from ops.mns_server.clock import HandClock
from ops.mns_server.errors import Refused
from ops.mns_server.message import Draft
from ops.mns_server.queue import Twist
from ops.mns_server.service import Service
from ops.mns_server.store import Store

_VISIBILITY_S, _RETENTION_S, _MAX_RECEIVES = 30, 60, 2
_QUEUES = ("jobs", "dead")


@dataclass
class Modelled:
    """A message as the model has it. Times are seconds since the start."""

    queue: str
    body: str
    born_s: int
    priority: int
    order: int
    visible_s: int
    handle: str = ""
    good_until_s: int = 0
    dequeues: int = 0
    touched: int = 0  # when it last changed, in the order of all changes


class Machine(RuleBasedStateMachine):
    """Does things to a service and to the model."""

    handles = Bundle("handles")

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="mns-machine-"))
        self.clock = HandClock(1_700_000_000.0, still=True)
        self.now_s = 0
        self.orders = self.touches = 0
        self.live: list[Modelled] = []
        self.counts = {queue: dict.fromkeys(("sent", "deleted", "dead", "expired"), 0) for queue in _QUEUES}
        self.buries = False
        self._open()
        for queue in _QUEUES:
            self.service.create(queue, Attributes(visibility_s=_VISIBILITY_S, retention_s=_RETENTION_S))

    def _open(self) -> None:
        self.store, memory = Store.open(self.folder / "data.sqlite")
        self.service = Service(self.store, memory=memory, account="1", clock=self.clock)

    def _close(self) -> None:
        self.service.close()
        self.store.close()

    def teardown(self) -> None:
        """Let go of everything."""
        self._close()
        shutil.rmtree(self.folder)

    @initialize(buries=st.booleans())
    def dead_letters(self, buries: bool) -> None:
        """With dead letters, or without."""
        self.buries = buries
        if buries:
            self.service.set_dead_letters("jobs", DeadLetters("dead", _MAX_RECEIVES))

    @rule(target=handles, delay_s=st.sampled_from([None, 0, 1, 29, 100]), priority=st.sampled_from([1, 8, 16]))
    def send(self, delay_s: int | None, priority: int) -> object:
        """Send to jobs."""
        body = f"message {self.orders}"
        delay = delay_s or 0
        sent = self.service.send("jobs", Draft(body, priority=priority, delay_s=delay_s))
        self._arrives(Modelled("jobs", body, self.now_s, priority, 0, self.now_s + delay, sent.handle, self.now_s + delay))
        return ("jobs", sent.handle) if sent.handle else multiple()

    @rule(target=handles, queue=st.sampled_from(_QUEUES), most=st.integers(1, 4), duplicate=st.booleans())
    def receive(self, queue: str, most: int, duplicate: bool) -> object:
        """Receive; both must hand out the same messages in the same order."""
        self._settle()
        due = sorted((one for one in self.live if one.queue == queue and one.visible_s <= self.now_s),
                     key=lambda one: (one.priority, one.order))[:most]
        got = self.service.receive(queue, most, wait_s=0, twist=Twist(duplicate=duplicate))
        assert [one.draft.body for one in got] == [one.body for one in due]
        for one, delivery in zip(due, got, strict=True):
            self._touch(one)
            one.dequeues += 1
            one.handle, one.good_until_s = delivery.handle, self.now_s + _VISIBILITY_S
            one.visible_s = self.now_s if duplicate else one.good_until_s
            assert delivery.dequeues == one.dequeues
        return multiple(*((queue, delivery.handle) for delivery in got))

    @rule(given=handles)
    def delete(self, given: tuple[str, str]) -> None:
        """Delete with any handle there ever was; it works just when the model says so."""
        queue, handle = given
        held = self._held(queue, handle)
        if held is None:
            with pytest.raises(Refused, match="MessageNotExist"):
                self.service.delete(queue, handle)
            return
        self.service.delete(queue, handle)
        self.live.remove(held)
        self.counts[queue]["deleted"] += 1

    @rule(target=handles, given=handles, visibility_s=st.sampled_from([1, 30, 100]))
    def change(self, given: tuple[str, str], visibility_s: int) -> object:
        """Change the visibility with any handle; the same."""
        queue, handle = given
        held = self._held(queue, handle)
        if held is None:
            with pytest.raises(Refused, match="MessageNotExist"):
                self.service.change(queue, handle, visibility_s)
            return multiple()
        changed = self.service.change(queue, handle, visibility_s)
        self._touch(held)
        held.handle, held.visible_s = changed.handle, self.now_s + visibility_s
        held.good_until_s = held.visible_s
        return queue, changed.handle

    @rule(seconds=st.sampled_from([1, 29, 30]))
    def wait(self, seconds: int) -> None:
        """Let time pass."""
        self.clock.skip(seconds)
        self.now_s += seconds
        self._settle()

    @rule()
    def restart(self) -> None:
        """Close it, and open it again on the same data."""
        self._close()
        self._open()

    @invariant()
    def same_books(self) -> None:
        """The audit is the model's, and balances."""
        self._settle()
        for queue in _QUEUES:
            mine = [one for one in self.live if one.queue == queue]
            active = sum(one.visible_s <= self.now_s for one in mine)
            delayed = sum(one.visible_s > self.now_s and not one.dequeues for one in mine)
            expected = {**self.counts[queue], "active": active, "delayed": delayed,
                        "inactive": len(mine) - active - delayed}
            audit = self.service.audit(queue)
            assert audit == expected
            assert audit["sent"] == sum(audit.values()) - audit["sent"]

    def _arrives(self, message: Modelled) -> None:
        self.orders += 1
        message.order = self.orders
        self._touch(message)
        self.live.append(message)
        self.counts[message.queue]["sent"] += 1

    def _touch(self, message: Modelled) -> None:
        self.touches += 1
        message.touched = self.touches

    def _held(self, queue: str, handle: str) -> Modelled | None:
        self._settle()
        return next((one for one in self.live if one.queue == queue and one.handle == handle
                     and self.now_s < one.good_until_s), None)

    def _settle(self) -> None:
        for one in [one for one in self.live if one.born_s + _RETENTION_S <= self.now_s]:
            self.live.remove(one)
            self.counts[one.queue]["expired"] += 1
        due = sorted((one for one in self.live if self.buries and one.queue == "jobs" and one.visible_s <= self.now_s
                      and one.dequeues >= _MAX_RECEIVES), key=lambda one: (one.visible_s, one.touched))
        for one in due:
            self.live.remove(one)
            self.counts["jobs"]["dead"] += 1
            self._arrives(Modelled("dead", one.body, one.born_s, one.priority, 0, one.born_s))


TestMachine = Machine.TestCase
TestMachine.settings = settings(max_examples=60, stateful_step_count=30)
