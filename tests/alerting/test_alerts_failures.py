"""Hooks that fail, are slow, or refuse: nothing is lost, nothing is told twice under two ids, and no other waits.

Time is the tests' own; Redis and the receivers are real.
"""

from itertools import pairwise
from typing import Any

import pytest
import redis

from app.alert_delivery import AlertDelivery
from app.alert_hooks import AlertHook
from ops.waiting import wait_until
from routing.alerting.outcome import Outcome
from routing.alerting.post import Post
from tests.alerts import START_MS, Walk, an_alert, json_hook, told, write
from tests.receiver import BlackHole, Receiver


def test_a_receiver_that_was_down_for_half_a_minute_is_told_all_of_it_afterwards(
        client: redis.Redis, post: Post) -> None:
    with Receiver() as gone:
        hook = json_hook(gone.url())
    walk = Walk(client, hook, post)
    write(client, an_alert(), at_ms=START_MS)
    walk.until(START_MS + 10_000)
    write(client, an_alert("memory_percent"), at_ms=START_MS + 10_000)
    walk.until(START_MS + 30_000)
    (figures,) = walk.delivery.figures()
    assert (figures.sent, figures.retried, figures.error) == (0, 4, "ConnectError: All connection attempts failed")

    with Receiver(port=int(hook.url.split(":")[2].split("/")[0])) as back:
        walk.until(START_MS + 90_000)

    assert told(back) == [("opened", an_alert().id), ("opened", an_alert("memory_percent").id)]
    (figures,) = walk.delivery.figures()
    assert (figures.sent, figures.given_up, figures.events, figures.error) == (2, 0, 2, "")


def test_a_message_that_went_and_was_not_noted_goes_again_under_its_id_with_what_it_held(
        client: redis.Redis, receiver: Receiver, post: Post) -> None:
    """The worker dies between the receiver's answer and Redis."""
    def dying(*args: Any, **kwargs: Any) -> Outcome:
        post(*args, **kwargs)
        raise KeyboardInterrupt

    hook = json_hook(receiver.url())
    write(client, an_alert(), at_ms=START_MS)
    with pytest.raises(KeyboardInterrupt):
        Walk(client, hook, dying).until(START_MS + 5000)
    write(client, an_alert("memory_percent"), at_ms=START_MS + 4000)

    another = Walk(client, hook, post)
    another.now_ms = START_MS + 5000
    another.until(START_MS + 20_000)

    first, again, new = receiver.received
    assert (first.id, first.body) == (again.id, again.body)
    assert new.id != first.id
    assert told(receiver)[2:] == [("opened", an_alert("memory_percent").id)]


def test_two_couriers_at_once_send_one_message_and_count_it_once(
        client: redis.Redis, receiver: Receiver, post: Post) -> None:
    hook = json_hook(receiver.url())
    other = Walk(client, hook, post)

    def meanwhile(*args: Any, **kwargs: Any) -> Outcome:
        other.now_ms = walk.now_ms
        other.courier.round(other.now_ms)
        return post(*args, **kwargs)

    walk = Walk(client, hook, meanwhile)
    write(client, an_alert(), at_ms=START_MS)
    walk.until(START_MS + 10_000)

    assert len({each.id for each in receiver.received}) == 1
    (figures,) = walk.delivery.figures()
    assert (figures.sent, figures.events) == (1, 1)


def test_a_message_that_is_made_up_stays_as_it_is_whoever_makes_one_up(client: redis.Redis) -> None:
    hook, delivery = json_hook("http://127.0.0.1:9/x"), AlertDelivery(client)
    position = delivery.state(hook, now_ms=START_MS).position

    assert delivery.pack(hook, after=position, last=f"{START_MS}-1", now_ms=START_MS)
    assert not delivery.pack(hook, after=position, last=f"{START_MS}-2", now_ms=START_MS + 1)
    pack = delivery.state(hook, now_ms=START_MS).pack
    assert pack
    assert (pack.last, pack.packed_ms) == (f"{START_MS}-1", START_MS)
    assert delivery.nothing_new(hook, pack, now_ms=START_MS)
    assert not delivery.pack(hook, after=position, last=f"{START_MS}-2", now_ms=START_MS)  # from where it was


def test_a_receiver_that_asks_for_time_gets_it(client: redis.Redis, post: Post) -> None:
    with Receiver(lambda number: (429, {"Retry-After": "40"}) if number == 1 else (204, {})) as receiver:
        walk = Walk(client, json_hook(receiver.url()), post)
        write(client, an_alert(), at_ms=START_MS)
        walk.until(START_MS + 42_000)
        assert len(receiver.received) == 1
        walk.until(START_MS + 46_000)

    assert [each.id for each in receiver.received] == [receiver.received[0].id] * 2


def test_a_message_that_is_refused_is_given_up_and_the_next_is_tried(client: redis.Redis, post: Post) -> None:
    with Receiver(lambda number: (403, {}) if number <= 6 else (204, {})) as receiver:
        walk = Walk(client, json_hook(receiver.url()), post)
        write(client, an_alert(), at_ms=START_MS)
        walk.until(START_MS + 80_000)
        (figures,) = walk.delivery.figures()
        assert (figures.retried, figures.given_up, figures.error) == (5, 1, "answered 403")
        write(client, an_alert("memory_percent"), at_ms=START_MS + 80_000)
        walk.until(START_MS + 90_000)

    assert told(receiver)[6:] == [("opened", an_alert("memory_percent").id)]


def test_a_message_is_tried_for_a_day(client: redis.Redis) -> None:
    tried: list[int] = []

    def failing(_hook: AlertHook, _message: object, *, now_ms: int) -> Outcome:
        tried.append(now_ms)
        return Outcome(error="answered 503")

    walk = Walk(client, json_hook("http://127.0.0.1:9/x"), failing)
    write(client, an_alert(), at_ms=START_MS)
    walk.courier.round(walk.now_ms + 3000)
    while not walk.delivery.figures()[0].given_up:
        state = walk.delivery.state(json_hook("http://127.0.0.1:9/x"), now_ms=0)
        walk.courier.round(max(state.pack.next_ms, START_MS + 3000) if state.pack else 0)

    longest_ms = 300_000 + 1000  # an attempt's own time is real, and counts
    assert 86_400_000 <= tried[-1] - tried[0] <= 86_400_000 + longest_ms
    assert max(b - a for a, b in pairwise(tried)) <= longest_ms


def test_no_redirect_is_followed(client: redis.Redis, receiver: Receiver, post: Post) -> None:
    with Receiver(lambda _: (302, {"Location": receiver.url()})) as elsewhere:
        walk = Walk(client, json_hook(elsewhere.url()), post)
        write(client, an_alert(), at_ms=START_MS)
        walk.until(START_MS + 5000)

    assert receiver.received == []
    assert walk.delivery.figures()[0].error == "answered 302; redirects are not followed"


def test_no_proxy_of_the_environment_is_asked(
        client: redis.Redis, receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    write(client, an_alert(), at_ms=START_MS)

    Walk(client, json_hook(receiver.url()), Post(timeout_s=2.0)).until(START_MS + 5000)

    assert told(receiver) == [("opened", an_alert().id)]


def test_a_receiver_that_never_answers_is_left_after_its_time(client: redis.Redis, post: Post) -> None:
    with BlackHole() as hole:
        walk = Walk(client, json_hook(hole.url()), post)
        write(client, an_alert(), at_ms=START_MS)
        wait_until(lambda: walk.until(walk.now_ms + 1000) or walk.delivery.figures()[0].retried, timeout_s=5,
                   what="the attempt to be given up")

    assert walk.delivery.figures()[0].error == "no answer within 0.4 s"


# -- figures


def test_figures_of_a_hook_that_left_the_setting_are_forgotten(client: redis.Redis, receiver: Receiver, post: Post) -> None:
    write(client, an_alert(), at_ms=START_MS)
    walk = Walk(client, json_hook(receiver.url("/one")), post)
    walk.until(START_MS + 5000)
    one, other = json_hook(receiver.url("/one")), json_hook(receiver.url("/other"), 1)

    walk.delivery.begin([one, other])
    assert [(each.index, each.sent) for each in walk.delivery.figures()] == [(0, 1), (1, 0)]
    walk.delivery.begin([json_hook(receiver.url("/other"))])
    assert [(each.index, each.sent) for each in walk.delivery.figures()] == [(0, 0)]
    assert receiver.url("/one") not in str(client.hgetall("alerts:delivery"))
