"""Tells the hooks of the setting `alert_webhooks` of alerts: a part of each worker of the queue service; one of them leads.

A thread keeps the lead; another for each hook carries to that hook, so that one that hangs holds up itself only. Two
leaders for a moment do no harm: what both send has the same id.
"""

import logging
import threading
import time
from collections.abc import Callable
from functools import partial

from app import logs
from app.alert_delivery import AlertDelivery
from app.alert_hooks import read_hooks
from app.errors import StoreUnavailable
from app.ledger import Ledger
from app.settings import Settings
from app.store import open_redis
from app.topology import Topology
from routing.alerting.hook_courier import HookCourier
from routing.alerting.post import Post

_LEASE_S = 10.0  # a leader that falls silent is replaced after this long
_RENEW_S = 2.0
_PAUSE_S = 0.5  # after Redis failed


class AlertCourier:
    """The threads; none where no hook is set. `who` is the worker's name."""

    def __init__(self, settings: Settings, plan: Topology, *, who: str, post: Post | None = None) -> None:
        self._who = who
        self._client = client = open_redis(settings)
        self._ledger = Ledger(client, settings)
        self._delivery = AlertDelivery(client)
        self._hooks = read_hooks(settings.alert_webhooks)
        self._stopping = threading.Event()
        self._leads_until_s = 0.0  # monotonic
        stack = {"entry": str(plan.entry), "profile": plan.profile.value, "servers": [each.name for each in plan.servers]}
        couriers = [HookCourier(hook, self._delivery, post or Post(), stack=stack) for hook in self._hooks]
        self._threads = [self._thread(f"tandem-alerts-{hook.index}", partial(self._carry, courier))
                         for hook, courier in zip(self._hooks, couriers, strict=True)]
        if self._hooks:
            self._threads.append(self._thread("tandem-alerts", self._lead))

    def start(self) -> None:
        """Begin."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Begin nothing new."""
        self._stopping.set()

    def join(self, timeout_s: float) -> None:
        """Wait for what `stop` began. A message under way when the time is over goes again, under the same id."""
        end_s = time.monotonic() + timeout_s
        for thread in self._threads:
            thread.join(max(end_s - time.monotonic(), 0.0))
        if self._hooks:
            self._resign()
        self._client.close()

    def _resign(self) -> None:
        """Give up the lead, so that another need not wait for the end of the lease."""
        try:
            self._ledger.resign("alerts", self._who)
        except StoreUnavailable as exc:
            logs.event("alert_courier_failed", worker=self._who, why=str(exc))

    def _thread(self, name: str, duty: Callable[[], float]) -> threading.Thread:
        return threading.Thread(target=self._repeat, args=(duty,), name=name, daemon=True)

    def _repeat(self, duty: Callable[[], float]) -> None:
        """Do a duty, again and again, as often as it says."""
        wait_s = 0.0
        while not self._stopping.wait(wait_s):
            try:
                wait_s = duty()
            except StoreUnavailable as exc:
                logs.event("alert_courier_failed", worker=self._who, why=str(exc))
                wait_s = _PAUSE_S
            except Exception as exc:  # noqa: BLE001 - the thread's outermost loop: without it nobody would be told of alerts
                # without a traceback: it may hold a hook's URL
                logs.event("alert_courier_failed", level=logging.ERROR, worker=self._who, why=self._scrubbed(exc))
                wait_s = _PAUSE_S

    def _lead(self) -> float:
        """Take or keep the lead."""
        began_s = time.monotonic()
        leads = self._ledger.lead("alerts", self._who, _LEASE_S) > 0
        if leads:
            self._delivery.begin(self._hooks)  # again and again: Redis may have lost them
        self._leads_until_s = began_s + _LEASE_S if leads else 0.0
        return _RENEW_S

    def _carry(self, courier: HookCourier) -> float:
        """Make one round, if this is the leader."""
        if time.monotonic() >= self._leads_until_s:
            return _PAUSE_S
        return courier.round(self._delivery.now_ms())

    def _scrubbed(self, exc: Exception) -> str:
        text = f"{type(exc).__name__}: {exc}"
        for hook in self._hooks:
            text = hook.scrubbed(text)
        return text
