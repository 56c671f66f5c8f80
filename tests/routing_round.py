"""A round of the routing task as its commit leaves it in Redis, for tests of what operators see of it: server-1 is
saturated, an excess leaves for the cloud, an alert is open, and the shadow would have sent less."""

from typing import Any

import msgspec
import redis

from app.routing_records import (
    Alert,
    AlertEvent,
    BreakerState,
    Change,
    CloudBreaker,
    Decision,
    Gauge,
    Level,
    Remembered,
    Scale,
    ServerView,
    Shadow,
    Shed,
    Shown,
    Standing,
)
from app.signals import CloudSignals, QueueSignals, ServerSignals, Signals, Times

LEADER = "queue@server-2"


def now_ms(client: redis.Redis) -> int:
    seconds, micros = client.time()
    return int(seconds) * 1000 + int(micros) // 1000


def cpu_alert(now_s: float, **changes: Any) -> Alert:
    fields: dict[str, Any] = {
        "id": f"cpu_percent@server-1#{round((now_s - 42) * 1000)}", "name": "cpu_percent", "scope": "server-1",
        "opened_s": now_s - 42, "value": 93.5, "threshold": 80.0, "action": "failover",
        "detail": "CPU of server-1 stayed at or above 80 % for 10 s; it takes nothing new while server-2 can",
        "investigation": None}
    return Alert(**(fields | changes))


def signals(at_ms: int) -> Signals:
    times = Times(count=240, mean_s=0.4, p50_s=0.3, p95_s=1.25)
    return Signals(
        at_ms=at_ms, users=412,
        servers={
            "server-1": ServerSignals(
                server="server-1", at_ms=at_ms, cpu_percent=93.5, processors={"P1": 12.0, "P2": 99.0}, memory_percent=61.25,
                calls=times, answers=times, requests=240, requests_failed=1, attempts=80, held=("model",)),
            "server-2": ServerSignals(server="server-2", at_ms=at_ms, cpu_percent=44.0, processors={"P7": 70.0})},
        queues={
            "model": QueueSignals(waiting=230, reserved=32, running=32, slots=32, oldest_s=6.5, rate=12.5, pace_s=2.4,
                                  wait_s=17.3),
            "chat": QueueSignals(running=3, slots=64)},
        cloud=CloudSignals(reachable=True, workers=1, slots=8, sent=24, running=8, pace_s=3.1, posts=4, money_hour=3.275,
                           jobs_minute=48, jobs_left=552, money_left=96.725))


def remembered(now_s: float, **changes: Any) -> Remembered:
    alert = cpu_alert(now_s)
    fields: dict[str, Any] = {
        "gauges": {
            "cpu_percent@server-1": Gauge(level=Level.ALERT, since_s=now_s - 42, value=93.5),
            "memory_percent@server-1": Gauge(since_s=now_s - 900, value=61.25),
            "response_s@server-1": Gauge(level=Level.WARNING, since_s=now_s - 9, value=1.25),
            "error_percent@server-1": Gauge(since_s=now_s - 900, value=0.4),
            "cpu_percent@server-2": Gauge(since_s=now_s - 900, value=44.0),
            "memory_percent@server-2": Gauge(since_s=now_s - 900),
            "concurrent_users@all": Gauge(since_s=now_s - 900, value=412.0)},
        "servers": {
            "server-1": ServerView(standing=Standing.SATURATED, since_s=now_s - 42, why=("cpu_percent",)),
            "server-2": ServerView(since_s=now_s - 900)},
        "breaker": CloudBreaker(state=BreakerState.CLOSED, since_s=now_s - 900), "share": 0.5, "share_since_s": now_s - 4,
        "scale": Scale(grown=True, cloud_workers=2, since_s=now_s - 30), "shed": 1, "shed_since_s": now_s - 3,
        "hold": {"server-1": ("model",)}, "alerts": {"cpu_percent@server-1": alert}}
    return Remembered(**(fields | changes))


def decision(**changes: Any) -> Decision:
    fields: dict[str, Any] = {
        "hold": {"server-1": ("model",)}, "send": 16,
        "shed": Shed(lanes=("batch",), retry_after_s=20, why="the wait ahead is 130 s, above 120 s"), "grow": True,
        "cloud_workers": 2, "why": {"rule": "excess", "wait_s": 17.3, "target_wait_s": 5.0},
        "reason": "167 jobs would wait longer than 5 s: half of them leave for the cloud"}
    return Decision(**(fields | changes))


def a_round(at_ms: int, **changes: Any) -> Shown:
    """Return a round; `changes` are its members."""
    now_s = at_ms / 1000
    calmer = remembered(now_s, gauges={"cpu_percent@server-1": Gauge(level=Level.WARNING, value=93.5)},
                        servers={"server-1": ServerView(), "server-2": ServerView()}, share=0.25)
    fields: dict[str, Any] = {
        "at_ms": at_ms, "leader": LEADER, "epoch": 7, "paused": False, "acting": True, "signals": signals(at_ms),
        "remembered": remembered(now_s), "decision": decision(),
        "shadow": Shadow(remembered=calmer, decision=decision(send=4, hold={}), rounds=300, rounds_sending=40, changes=2)}
    return Shown(**(fields | changes))


def changes(now_s: float) -> list[Change]:
    """What led there, in order."""
    return [
        Change(at_s=now_s - 42, what="level", scope="server-1", before="warning", after="alert",
               why="cpu_percent 93.5 stayed at or above 80 for 10 s"),
        Change(at_s=now_s - 42, what="server", scope="server-1", before="open", after="saturated",
               why="cpu_percent is in alert, and server-2 is open"),
        Change(at_s=now_s - 4, what="share", scope="cloud", before="0.25", after="0.5",
               why="167 jobs would wait longer than 5 s, after 5 s at 0.25")]


def write(client: redis.Redis, shown: Shown | None = None) -> Shown:
    """Leave a round in Redis, with its history and alerts; return it."""
    at_ms = now_ms(client)
    shown = shown or a_round(at_ms)
    client.set("routing:shown", msgspec.json.encode(shown), px=60_000)
    for change in changes(at_ms / 1000):
        client.xadd("routing:history", {"change": msgspec.json.encode(change)})
    for alert in shown.remembered.alerts.values():
        client.hset("alerts:open", alert.id, msgspec.json.encode(alert))
        client.xadd("alerts", {"event": msgspec.json.encode(AlertEvent(event="opened", alert=alert))})
    return shown
