"""Carries alerts to one hook: a round looks where the hook stands, makes up a message if it is time, and tries it.

All that is to be remembered lies in Redis (`app.alert_delivery`), so a round that is cut off anywhere is made good by the
next, whoever makes it; a message that went and was not noted goes again under its id.
"""

import logging
import random
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from app import logs
from app.alert_delivery import AlertDelivery, HookState, Pack
from app.alert_hooks import AlertHook
from routing.alerting.message import Message
from routing.alerting.outcome import Outcome
from routing.alerting.pacing import due_ms, is_hopeless, wait_ms
from routing.alerting.telling import fold, words_of

_LOOK_S = 1.0  # how often a hook is looked after at least
_SHORTEST_S = 0.05


class Posting(Protocol):
    """What makes one attempt."""

    def __call__(self, hook: AlertHook, message: Message, *, now_ms: int) -> Outcome:
        """Make it, and return how it went."""
        ...


class HookCourier:
    """One hook's courier. `stack` says in its messages which stack they come from."""

    def __init__(self, hook: AlertHook, delivery: AlertDelivery, post: Posting, *, stack: Mapping[str, Any],
                 chance: Callable[[], float] = random.random) -> None:
        self._hook = hook
        self._delivery = delivery
        self._post = post
        self._stack = stack
        self._chance = chance

    def round(self, now_ms: int) -> float:
        """Do what is due, at most one message; return in how many seconds to look again. Raises `StoreUnavailable`."""
        state = self._delivery.state(self._hook, now_ms=now_ms)
        pack = state.pack
        if pack is None:
            entries = self._delivery.entries(state.position)
            if not entries:
                return _LOOK_S
            if (due := due_ms(entries[0].at_ms, state.told_ms)) > now_ms:
                return _wait_s(due - now_ms)
            self._delivery.pack(self._hook, after=state.position, last=entries[-1].id, now_ms=now_ms)
            return 0.0  # the next round tries whatever is under way now
        if pack.next_ms > now_ms:
            return _wait_s(pack.next_ms - now_ms)
        self._carry(state, pack, now_ms)
        return 0.0

    def _carry(self, state: HookState, pack: Pack, now_ms: int) -> None:
        entries = self._delivery.entries(state.position, last=pack.last)
        events = [entry.event for entry in entries if entry.event is not None]
        tellings = fold(events, self._delivery.told(self._hook, words_of(events)))
        if not tellings:
            self._delivery.nothing_new(self._hook, pack, now_ms=now_ms)
            return
        message = Message(id=pack.id, at_ms=pack.packed_ms, stack=self._stack, tellings=tellings,
                          gap=self._delivery.has_gap(state))
        began_s = time.monotonic()
        outcome = self._post(self._hook, message, now_ms=now_ms)
        now_ms += round((time.monotonic() - began_s) * 1000)
        if outcome.delivered:
            words = [word for telling in tellings for word in telling.words]
            if self._delivery.delivered(self._hook, pack, words=words, now_ms=now_ms):
                logs.event("alerts_told", hook=self._hook.index, where=self._hook.where, message=pack.id,
                           alerts=len(tellings), failures=pack.attempts)
            return
        self._fail(pack, outcome, now_ms)

    def _fail(self, pack: Pack, outcome: Outcome, now_ms: int) -> None:
        failures = pack.attempts + 1
        said: dict[str, Any] = {"hook": self._hook.index, "where": self._hook.where, "message": pack.id,
                                "failures": failures, "why": self._hook.scrubbed(outcome.error)}
        if is_hopeless(outcome, failures=failures, age_ms=now_ms - pack.packed_ms):
            self._delivery.given_up(self._hook, pack, error=outcome.error, now_ms=now_ms)
            logs.event("alerts_given_up", level=logging.ERROR, **said)
            return
        next_ms = now_ms + wait_ms(outcome, failures=failures, chance=self._chance())
        self._delivery.failed(self._hook, pack, next_ms=next_ms, error=outcome.error, now_ms=now_ms)
        logs.event("alerts_untold", level=logging.WARNING, again_s=round((next_ms - now_ms) / 1000, 1), **said)


def _wait_s(left_ms: int) -> float:
    return min(max(left_ms / 1000, _SHORTEST_S), _LOOK_S)
