"""Alerts reach each hook: grouped, paced, at least once under one id, and each told once as opened and once as closed.

Time is the tests' own; Redis and the receivers are real.
"""

import re
from collections.abc import Callable
from typing import Any

import redis

from routing.alerting.post import Post
from tests.alerts import STACK, START_MS, Walk, an_alert, bodies, json_hook, told, write
from tests.receiver import Receiver

# -- what is told


def test_an_alert_is_told_with_its_cause_and_what_is_done_about_it(
        client: redis.Redis, receiver: Receiver, post: Post) -> None:
    write(client, an_alert(investigation="cpu_percent-server-1-7"), at_ms=START_MS)

    Walk(client, json_hook(receiver.url()), post).until(START_MS + 5000)

    (body,) = bodies(receiver)
    assert body["alerts"] == [{
        "event": "opened", "id": f"cpu_percent@server-1#{START_MS}", "name": "cpu_percent", "scope": "server-1",
        "value": 91.25, "threshold": 80.0, "action": "new jobs go elsewhere", "detail": "91.25 % for 10 s",
        "opened_at": "2025-11-24T16:00:00.000Z", "closed_at": None, "investigation": "cpu_percent-server-1-7"}]
    assert body["stack"] == STACK
    assert (body["at"], body["gap"]) == ("2025-11-24T16:00:03.000Z", False)
    assert body["text"].splitlines() == [
        "Tandem: cpu_percent on server-1 opened",
        "cpu_percent on server-1 opened; value 91.25, threshold 80; 91.25 % for 10 s; action: new jobs go elsewhere; "
        "report: cpu_percent-server-1-7"]
    (got,) = receiver.received
    assert got.id == body["id"]
    assert re.fullmatch(r"[!-~]{1,256}", got.id)
    assert got.headers["content-type"] == "application/json; charset=utf-8"


def test_an_alert_that_was_over_before_its_message_went_is_told_once(
        client: redis.Redis, receiver: Receiver, post: Post) -> None:
    write(client, an_alert(investigation="report"), at_ms=START_MS)
    write(client, an_alert(closed_ms=START_MS + 2400), at_ms=START_MS + 2400)

    Walk(client, json_hook(receiver.url()), post).until(START_MS + 10_000)

    (body,) = bodies(receiver)
    (alert,) = body["alerts"]
    assert (alert["event"], alert["investigation"]) == ("opened and closed", "report")
    assert "opened and closed after 2 s" in body["text"]


def test_an_alert_is_told_as_closed_once_however_often_that_is_said(
        client: redis.Redis, receiver: Receiver, post: Post) -> None:
    walk = Walk(client, json_hook(receiver.url()), post)
    write(client, an_alert(), at_ms=START_MS)
    walk.until(START_MS + 20_000)
    for at_ms in (START_MS + 20_000, START_MS + 20_001, START_MS + 90_000, START_MS + 200_000):
        write(client, an_alert(closed_ms=START_MS + 20_000), at_ms=at_ms)
        walk.until(at_ms + 5000)

    assert told(receiver) == [("opened", an_alert().id), ("closed", an_alert().id)]
    assert "closed after 20 s" in bodies(receiver)[1]["text"]


def test_a_new_hook_is_told_of_the_last_minutes_and_not_of_what_was_long_ago(
        client: redis.Redis, receiver: Receiver, post: Post) -> None:
    old, recent = an_alert(opened_ms=START_MS - 400_000), an_alert(opened_ms=START_MS - 60_000)
    for alert in (old, recent):
        write(client, alert, at_ms=round(alert.opened_s * 1000))

    Walk(client, json_hook(receiver.url()), post).until(START_MS + 5000)

    assert told(receiver) == [("opened", recent.id)]


def test_an_event_that_cannot_be_read_is_passed_by(client: redis.Redis, receiver: Receiver, post: Post) -> None:
    client.xadd("alerts", {"event": b"{"}, id=f"{START_MS}-0")
    client.xadd("alerts", {"other": b"x"}, id=f"{START_MS}-1")
    write(client, an_alert(), at_ms=START_MS + 1)

    Walk(client, json_hook(receiver.url()), post).until(START_MS + 5000)

    assert told(receiver) == [("opened", an_alert().id)]


def test_a_message_says_so_where_alerts_before_it_may_be_missing(
        client: redis.Redis, receiver: Receiver, post: Post) -> None:
    walk = Walk(client, json_hook(receiver.url()), post)
    write(client, an_alert(), at_ms=START_MS)
    walk.until(START_MS + 5000)
    client.xtrim("alerts", maxlen=0, approximate=False)
    write(client, an_alert("memory_percent"), at_ms=START_MS + 10_000)
    walk.until(START_MS + 20_000)

    assert [body["gap"] for body in bodies(receiver)] == [False, True]
    assert "may be missing" in bodies(receiver)[1]["text"]


# -- no storm


def test_a_storm_of_a_thousand_events_in_a_minute_makes_seven_messages_that_tell_all(
        client: redis.Redis, receiver: Receiver, post: Post) -> None:
    for n in range(500):
        opened_ms = START_MS + 120 * n
        write(client, an_alert(opened_ms=opened_ms), at_ms=opened_ms)
        write(client, an_alert(opened_ms=opened_ms, closed_ms=opened_ms + 50), at_ms=opened_ms + 50)

    walk = Walk(client, json_hook(receiver.url()), post)
    # the stream has them all from the start; each round is to see only what had come by then
    walk.delivery.entries = _as_of(walk, walk.delivery.entries)  # type: ignore[method-assign]
    walk.until(START_MS + 130_000)

    assert len(receiver.received) <= 7
    assert sorted({alert for _, alert in told(receiver)}) == sorted(
        an_alert(opened_ms=START_MS + 120 * n).id for n in range(500))
    words = [word for event, alert in told(receiver) for word in
             ([f"{part} {alert}" for part in event.split(" and ")])]
    assert len(words) == len(set(words)) == 1000


def _as_of(walk: Walk, entries: Callable[..., Any]) -> Callable[..., Any]:
    def seen(after: str, *, last: str = "+") -> Any:
        return entries(after, last=str(walk.now_ms) if last == "+" else last)

    return seen
