"""The couriers of a stack: one leads, each hook goes its own way, and no secret of a hook is ever written down."""

import json
import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace

import pytest
import redis

from app import topology
from app.alert_delivery import AlertDelivery
from app.ledger import Ledger
from app.settings import Settings
from ops.waiting import wait_until
from routing.alerting import AlertCourier
from routing.alerting.post import Post
from tests.alerts import an_alert, write
from tests.receiver import BlackHole, Receiver

TOKEN, SECRET = "t0kent0kent0kent0ken", "SECs3crets3crets3cret"


@contextmanager
def couriers(settings: Settings, *hooks: str, workers: int = 1, timeout_s: float = 5.0) -> Iterator[list[AlertCourier]]:
    """Couriers as so many queue workers run them."""
    _, plan = topology.load({})
    settings = replace(settings, alert_webhooks=" ".join(hooks))
    running = [AlertCourier(settings, plan, who=f"queue@server-{n + 1}", post=Post(timeout_s=timeout_s))
               for n in range(workers)]
    for each in running:
        each.start()
    try:
        yield running
    finally:
        for each in running:
            each.stop()
        for each in running:
            each.join(15)


def now_ms(client: redis.Redis) -> int:
    return AlertDelivery(client).now_ms()


def test_an_alert_is_told_within_seconds_by_one_of_the_workers(client: redis.Redis, settings: Settings) -> None:
    with Receiver() as receiver, couriers(settings, receiver.url(), workers=2):
        write(client, an_alert(opened_ms=now_ms(client)), at_ms=now_ms(client))
        receiver.gets(1)
        wait_until(lambda: AlertDelivery(client).figures()[0].sent == 1, timeout_s=5, what="the delivery to be noted")
        body = json.loads(receiver.received[0].body)

    assert body["stack"] == {"entry": "127.0.0.1:8080", "profile": "parallel", "servers": ["server-1", "server-2"]}
    assert len(receiver.received) == 1


def test_a_hook_that_hangs_does_not_hold_up_the_other(client: redis.Redis, settings: Settings) -> None:
    with ExitStack() as stack:
        hole, receiver = stack.enter_context(BlackHole()), stack.enter_context(Receiver())
        write(client, an_alert(opened_ms=now_ms(client)), at_ms=now_ms(client) - 3000)
        stack.enter_context(couriers(settings, hole.url(), receiver.url(), timeout_s=4.0))
        receiver.gets(1, timeout_s=3)  # the first hook's attempt lasts longer

        assert AlertDelivery(client).figures()[0].retried == 0


def test_who_does_not_lead_tells_nobody(client: redis.Redis, settings: Settings, ledger: Ledger) -> None:
    """Another leads, until it is silent for its lease; then this one tells what there was."""
    leaders: list[bytes | None] = []

    def answering(_: int) -> tuple[int, dict[str, str]]:
        leaders.append(client.hget("leader:alerts", "who"))
        return 204, {}

    ledger.lead("alerts", "queue@elsewhere", 3.0)
    write(client, an_alert(opened_ms=now_ms(client)), at_ms=now_ms(client) - 3000)
    with Receiver(answering) as receiver, couriers(settings, receiver.url()):
        receiver.gets(1)

    assert set(leaders) == {b"queue@server-1"}


def test_a_courier_that_stops_leaves_the_lead_to_another_at_once(client: redis.Redis, settings: Settings) -> None:
    with Receiver() as receiver:
        with couriers(settings, receiver.url()):
            wait_until(lambda: client.hget("leader:alerts", "who"), timeout_s=5, what="the lead to be taken")
        assert client.exists("leader:alerts") == 0


def test_a_redis_that_lost_its_data_learns_again_which_hooks_there_are(client: redis.Redis, settings: Settings) -> None:
    delivery = AlertDelivery(client)
    with Receiver() as receiver, couriers(settings, receiver.url()):
        wait_until(delivery.figures, timeout_s=5, what="the hook to be known")
        client.delete("alerts:delivery")
        [figures] = wait_until(delivery.figures, timeout_s=5, what="the hook to be known again")

    assert figures.where == receiver.url("").rstrip("/")


def test_without_a_hook_nothing_runs(client: redis.Redis, settings: Settings) -> None:
    with couriers(settings):
        pass

    assert client.keys("*") == []


def test_no_secret_of_a_hook_is_in_logs_or_figures(
        client: redis.Redis, settings: Settings, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever goes wrong, and with all logging on."""
    told = {"errcode": 300001, "errmsg": f"token {TOKEN} is not exist"}
    with Receiver(lambda _: (200, {}), body=lambda _: json.dumps(told).encode()) as robot, Receiver() as good:
        with Receiver() as gone:
            pass
        hooks = (f"dingtalk+{robot.url('/robot/send')}?access_token={TOKEN}&secret={SECRET}",
                 gone.url(f"/services/{TOKEN}"), good.url(f"/{TOKEN}?key={SECRET}"))
        with caplog.at_level(logging.DEBUG), couriers(settings, *hooks):
            write(client, an_alert(opened_ms=now_ms(client)), at_ms=now_ms(client))
            for receiver in (robot, good):
                receiver.gets(1)
            delivery = AlertDelivery(client)
            wait_until(lambda: all(each.sent or each.error for each in delivery.figures()), timeout_s=10,
                       what="an attempt at each hook to be noted")

    kept = str([(key, client.type(key), client.dump(key)) for key in client.keys("*")])
    logged = "\n".join(f"{record.getMessage()} {record.__dict__} {record.exc_info}" for record in caplog.records)
    assert "alerts_untold" in logged
    assert "alerts_told" in logged
    for secret in (TOKEN, SECRET):
        assert secret not in logged
        assert secret not in kept
        assert secret not in str(delivery.figures())
    assert [each.where for each in delivery.figures()] == [robot.url(""), gone.url(""), good.url("")]
