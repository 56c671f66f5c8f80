"""Alerts for tests: as the routing task writes them to their stream, at times of the test's choosing."""

import itertools
import json
from collections.abc import Callable
from typing import Any

import msgspec
import redis

from app.alert_delivery import AlertDelivery
from app.alert_hooks import AlertHook, Form, read_hooks
from app.routing_records import Alert, AlertEvent
from routing.alerting.hook_courier import HookCourier
from routing.alerting.outcome import Outcome
from tests.receiver import Receiver

#: When the tests' time begins, ms.
START_MS = 1_764_000_000_000

_sequence = itertools.count(1)


def an_alert(name: str = "cpu_percent", scope: str = "server-1", *, opened_ms: int = START_MS,
             closed_ms: int | None = None, investigation: str | None = None) -> Alert:
    """An alert, open or closed."""
    return Alert(id=f"{name}@{scope}#{opened_ms}", name=name, scope=scope, opened_s=opened_ms / 1000, value=91.25,
                 threshold=80.0, action="new jobs go elsewhere", detail="91.25 % for 10 s",
                 closed_s=None if closed_ms is None else closed_ms / 1000, investigation=investigation)


def write(client: redis.Redis, alert: Alert, *, at_ms: int) -> None:
    """Write an alert to the stream as one that opened, or closed, at this time."""
    event = AlertEvent(event="opened" if alert.closed_s is None else "closed", alert=alert)
    client.xadd("alerts", {"event": msgspec.json.encode(event)}, id=f"{at_ms}-{next(_sequence)}")


def json_hook(url: str, index: int = 0) -> AlertHook:
    """A hook that gets plain JSON."""
    return AlertHook(index=index, form=Form.JSON, url=url)


def dingtalk_hook(url: str, *, secret: str = "") -> AlertHook:
    """A robot of DingTalk's."""
    (hook,) = read_hooks(f"dingtalk+{url}?access_token=0123456789abcdef" + (f"&secret={secret}" if secret else ""))
    return hook


STACK = {"entry": "127.0.0.1:8000", "servers": ["server-1", "server-2"]}


class Walk:
    """Time that goes on by as much as the courier of a hook says."""

    def __init__(self, client: redis.Redis, hook: AlertHook, post: Callable[..., Outcome]) -> None:
        self.delivery = AlertDelivery(client)
        self.delivery.begin([hook])
        self.courier = HookCourier(hook, self.delivery, post, stack=STACK, chance=lambda: 0.5)
        self.now_ms = START_MS

    def until(self, end_ms: int) -> None:
        """Make rounds until then."""
        while self.now_ms < end_ms:
            self.now_ms += round(self.courier.round(self.now_ms) * 1000)


def bodies(receiver: Receiver) -> list[dict[str, Any]]:
    return [json.loads(each.body) for each in receiver.received]


def told(receiver: Receiver) -> list[tuple[str, str]]:
    """What was told of which alert, in order."""
    return [(each["event"], each["id"]) for body in bodies(receiver) for each in body["alerts"]]
