"""The routing task: once a second it looks at everything, decides, writes down what it decided, and does it.

Every queue worker has one, in a thread; one of them leads, by a short lease. When the leader dies another leads within
5 s, and at once when it stops. A round is written down in one step that only the present leader can do (`committing`), and
is acted on after that. All acts are how things should stand, or are limited by the ledger, so a crash at any line, and even
two leaders that act at once, lose nothing and double nothing.

Promises: an act that fails keeps neither the others from being done nor the next round from happening. While it is paused,
or the setting `routing` is off, everything is measured, decided, shown and alerted, and nothing is moved.
"""

import logging
import os
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import msgspec
import redis
from kombu.exceptions import KombuError

from app import logs
from app.cloud_registry import CloudRegistry
from app.errors import StoreUnavailable
from app.investigations import Investigations
from app.ledger import CloudLedger, Ledger
from app.registry import Registry
from app.rounds import Rounds
from app.routing_board import RoutingBoard
from app.routing_records import Decision, Remembered, Shadow, Shadowed, Shown
from app.routing_rules import Rules
from app.settings import Settings
from app.signals import Signals
from app.store import open_redis
from app.topology import Topology
from routing import policy
from routing.acting_reports import Reports, linked
from routing.acting_scale import Scaling
from routing.acting_words import Tell, Words
from routing.committing import Committing
from routing.gathering import Gathering
from routing.precedence import Precedence
from routing.unacted import unacted

if TYPE_CHECKING:
    from routing.acting_cloud import Sending

_ROUND_S = 1.0
_LEAD_S = 3.0  # a leader that falls silent is replaced after this long, and a round more
_BELIEVED_S = 2.0  # an order to send, from when the lead was kept: nobody sends by the word of a leader who lost it since

Decide = Callable[[Signals, Rules, Remembered, float], tuple[Remembered, Decision]]


class Routing:
    """The task. `who` is the queue worker, `tell` speaks to a worker's remote control; `decide` and `clock` may replace the
    policy and the monotonic clock."""

    def __init__(self, settings: Settings, plan: Topology, *, who: str, tell: Tell, decide: Decide = policy.decide,
                 clock: Callable[[], float] = time.monotonic) -> None:
        self._client = client = open_redis(settings)
        self._settings, self._plan, self._who, self._decide, self._clock = settings, plan, who, decide, clock
        self._name = f"{who} {os.getpid()}"  # another process of the same worker leads in an epoch of its own
        self._ledger = Ledger(client, settings)
        self._cloud = CloudLedger(client, settings)
        self._board = RoutingBoard(client)
        self._registry = Registry(client)
        self._gathering = Gathering(client, settings, plan)
        self._committing = Committing(client, who=self._name)
        self._words = Words(plan, tell, clock=clock)
        self._reports = Reports(Investigations(client))
        self._scaling = Scaling(settings, clock=clock)
        self.sending = _sending(client, settings, clock)
        self._precedence = Precedence(CloudRegistry(client), who) if self.sending else None
        self._epoch = 0
        self._led_s = 0.0  # when the lead was taken or kept last
        self._rounds = Rounds(self.round, every_s=_ROUND_S, name="routing", who=who, ending=self.resign)

    def start(self) -> None:
        """Begin."""
        if self.sending:
            self.sending.start()
        self._rounds.start()

    def stop(self) -> None:
        """End after the present round, and let another lead."""
        if self.sending:
            self.sending.stop()
        self._rounds.stop()

    def join(self, timeout_s: float) -> None:
        """Wait for what `stop` began."""
        end_s = time.monotonic() + timeout_s
        self._rounds.join(timeout_s)
        if self.sending:
            self.sending.join(max(end_s - time.monotonic(), 0.0))
        self.close()

    def close(self) -> None:
        """Give up the connections."""
        if self.sending:
            self.sending.close()
        self._client.close()

    def round(self) -> Shown | None:
        """Do what is to be done now, if this is the leader; return the round, None where another leads. Raises
        `StoreUnavailable`."""
        if not self._leads():
            return None
        mark = self.sending.mark() if self.sending else 0
        rules, paused = self._board.rules(self._plan.rules), self._board.mode().paused
        signals = self._gathering.gather(rules)
        kept = self._committing.kept()
        remembered, decision = linked(*self._decide(signals, rules, kept.remembered, signals.at_ms / 1000))
        shadowed = self._shadowed(kept.shadowed, kept.remembered, signals)
        acting = self._settings.routing and not paused
        told, decision = (remembered, decision) if acting else unacted(remembered, decision, rules)
        shown = Shown(at_ms=signals.at_ms, leader=self._who, epoch=self._epoch, paused=paused, acting=acting,
                      signals=signals, remembered=told, decision=decision, shadow=shadowed.shadow if shadowed else None)
        if not self._committing.commit(shown, shadowed, state=remembered):
            self._lose()
            return None
        self._act(shown, rules, mark)
        return shown

    def resign(self) -> None:
        """Give up the lead. Raises `StoreUnavailable`."""
        self._ledger.resign("routing", self._name)

    # -- who leads

    def _leads(self) -> bool:
        """Take or keep the lead, or leave it to one that reaches MNS."""
        if self._precedence and self._precedence.leaves_it():
            self._leave()
            return False
        self._led_s = self._clock()
        epoch = self._ledger.lead("routing", self._name, _LEAD_S)
        if not epoch:
            self._lose()
            if self._precedence:
                self._precedence.another_leads()
        elif epoch != self._epoch:
            logs.event("routing_leads", who=self._who, epoch=epoch)
            self._epoch = epoch
            self._words.forget()
            self._reports.forget()
        return bool(epoch)

    def _leave(self) -> None:
        if self._epoch:
            logs.event("routing_lead_left", who=self._who, epoch=self._epoch, why="another reaches MNS")
            self._lose()
            self.resign()

    def _lose(self) -> None:
        if self._epoch:
            logs.event("routing_lead_lost", who=self._who, epoch=self._epoch)
            self._epoch = 0
        if self.sending:
            self.sending.halt()

    # -- the second set

    def _shadowed(self, kept: Shadowed | None, remembered: Remembered, signals: Signals) -> Shadowed | None:
        """Return what the second set of an operator's would do; None where there is none."""
        overlay = self._board.overlay(shadow=True)
        if not overlay:
            return None
        before = kept.shadow if kept and kept.overlay == overlay else Shadow(remembered=remembered, decision=Decision())
        rules = self._board.rules(self._plan.rules, shadow=True)
        after, decision = self._decide(signals, rules, before.remembered, signals.at_ms / 1000)
        return Shadowed(overlay=overlay, shadow=Shadow(
            remembered=after, decision=decision, rounds=before.rounds + 1,
            rounds_sending=before.rounds_sending + (decision.send > 0), changes=before.changes + len(decision.changes)))

    # -- what is done

    def _act(self, shown: Shown, rules: Rules, mark: int) -> None:
        decision = shown.decision
        self._try("ask for reports", lambda: self._reports.ask(shown.remembered, at_ms=shown.at_ms))
        if self._settings.routing:
            wished = decision if shown.acting else Decision()  # what was held before a pause is let go
            self._try("tell workers", lambda: self._words.speak(wished, self._registry.workers(), epoch=shown.epoch))
        if not shown.acting:
            if self.sending:
                self.sending.halt()
            return
        self._try("send", lambda: self._send(decision, rules, mark))
        self._try("recall", lambda: self._recall(decision))
        cloud = shown.signals.cloud
        self._try("scale", lambda: self._scaling.want(decision.cloud_workers, live=cloud.workers if cloud else 0,
                                                      every_s=rules.scale_step_s))

    def _send(self, decision: Decision, rules: Rules, mark: int) -> None:
        if self.sending is None:
            return
        from routing.acting_cloud import Order

        self.sending.order(Order(jobs=decision.send, decision=msgspec.json.encode(decision.why), rules=rules,
                                 until_s=self._led_s + _BELIEVED_S), since=mark)

    def _recall(self, decision: Decision) -> None:
        if not decision.recall:
            return
        why: dict[str, Any] = {"rule": "recalled", "detail": decision.reason}
        home: Sequence[str] = self._cloud.recall(most=decision.recall, decision=msgspec.json.encode(why))
        logs.event("jobs_recalled", jobs=len(home), wanted=decision.recall)

    def _try(self, what: str, act: Callable[[], None]) -> None:
        """Do it; where it fails, say so and go on."""
        try:
            act()
        except (StoreUnavailable, KombuError, redis.exceptions.RedisError, OSError) as exc:
            logs.event("routing_act_failed", act=what, why=f"{type(exc).__name__}: {exc}")
        except Exception as exc:  # noqa: BLE001 - the thread's outermost loop: one act must not keep the others from being done
            logs.event("routing_act_failed", level=logging.ERROR, exc_info=True, act=what, why=str(exc))


def _sending(client: redis.Redis, settings: Settings, clock: Callable[[], float]) -> "Sending | None":
    """Return what sends jobs to the cloud; None where there is none, and no need of Alibaba's SDK."""
    if not settings.mns_url:
        return None
    from routing.acting_cloud import Sending

    return Sending(client, settings, clock=clock)
