"""A robot of DingTalk's gets alerts in its form: signed, within its limits, and with its errors understood."""

import base64
import hashlib
import json
from urllib.parse import parse_qs, urlsplit

import pytest
import redis

from app.alert_delivery import AlertDelivery
from routing.alerting.hook_courier import HookCourier
from routing.alerting.message import DINGTALK_MOST_BYTES, Message, request
from routing.alerting.post import Post
from routing.alerting.telling import Telling
from tests.alerts import START_MS, an_alert, dingtalk_hook, write
from tests.receiver import Receiver

SECRET = "SEC5f2c0b6ad4e19e7f"
TAKEN = b'{"errcode":0,"errmsg":"ok"}'


def a_message(alerts: int = 1, **names: str) -> Message:
    tellings = [Telling(alert=an_alert(scope=f"server-{n}", **names), opened=True, closed=False) for n in range(alerts)]
    return Message(id="alerts-x-1-0", at_ms=START_MS, stack={"entry": "127.0.0.1:8000"}, tellings=tellings)


def hmac_sha256(key: bytes, text: bytes) -> bytes:
    """By RFC 2104, without the library that is under test."""
    key = key.ljust(64, b"\0")
    inner = hashlib.sha256(bytes(each ^ 0x36 for each in key) + text).digest()
    return hashlib.sha256(bytes(each ^ 0x5C for each in key) + inner).digest()


def test_a_request_is_signed_as_dingtalk_documents_it() -> None:
    url, _, _ = request(dingtalk_hook("https://oapi.dingtalk.com/robot/send", secret=SECRET), a_message(), now_ms=START_MS)

    sign = base64.b64encode(hmac_sha256(SECRET.encode(), f"{START_MS}\n{SECRET}".encode())).decode()
    query = parse_qs(urlsplit(url).query, strict_parsing=True)
    assert query == {"access_token": ["0123456789abcdef"], "timestamp": [str(START_MS)], "sign": [sign]}
    assert SECRET not in url
    assert not set("+/").intersection(url.partition("sign=")[2])  # percent-encoded


def test_a_robot_without_a_secret_is_not_signed_for() -> None:
    url, _, _ = request(dingtalk_hook("https://oapi.dingtalk.com/robot/send"), a_message(), now_ms=START_MS)

    assert url == "https://oapi.dingtalk.com/robot/send?access_token=0123456789abcdef"


def test_a_message_is_markdown_with_a_title_and_a_line_for_each_alert() -> None:
    _, headers, body = request(dingtalk_hook("https://x.example/robot/send"), a_message(2), now_ms=START_MS)

    assert headers["content-type"] == "application/json; charset=utf-8"
    sent = json.loads(body)
    assert (set(sent), sent["msgtype"]) == ({"msgtype", "markdown"}, "markdown")
    assert sent["markdown"]["title"] == "Tandem: 2 alerts, 2 opened"
    lines = sent["markdown"]["text"].splitlines()
    assert lines[0] == "#### Tandem: 2 alerts, 2 opened"
    assert [line.partition(";")[0] for line in lines if line.startswith("- ")] == [
        "- cpu_percent on server-0 opened", "- cpu_percent on server-1 opened"]
    assert lines[-1] == "> entry 127.0.0.1:8000; 2025-11-24T16:00:00.000Z; message alerts-x-1-0"


@pytest.mark.parametrize("alerts", [100, 640, 1000])
def test_many_alerts_fit_by_being_told_by_kind_and_none_is_left_out(alerts: int) -> None:
    _, _, body = request(dingtalk_hook("https://x.example/robot/send"), a_message(alerts), now_ms=START_MS)

    assert len(body) <= DINGTALK_MOST_BYTES
    text = json.loads(body)["markdown"]["text"].replace(",", " ").replace(";", " ").split()
    assert {f"server-{n}" for n in range(alerts)} <= set(text)


def test_what_does_not_fit_in_any_form_is_cut_and_says_so() -> None:
    _, _, body = request(dingtalk_hook("https://x.example/robot/send"), a_message(1000, name="ü" * 60), now_ms=START_MS)
    message = a_message(1000)
    wide = [Telling(alert=an_alert(f"signal-{n}", f"a-server-with-a-rather-long-name-{n}"), opened=True, closed=False)
            for n in range(1000)]
    _, _, longer = request(dingtalk_hook("https://x.example/robot/send"),
                           Message(id=message.id, at_ms=START_MS, stack={}, tellings=wide), now_ms=START_MS)

    assert max(len(body), len(longer)) <= DINGTALK_MOST_BYTES
    text = json.loads(longer)["markdown"]["text"]
    assert "route history" in text
    assert text.count("signal-") > 900


def test_an_error_that_comes_with_status_200_is_an_error(client: redis.Redis) -> None:
    """Its token is wrong: the message is refused, and said again until it is given up."""
    answers = {1: b'{"errcode":-1,"errmsg":"busy"}', 2: b'{"errcode":310000,"errmsg":"sign not match"}'}
    with Receiver(lambda _: (200, {}), body=lambda number: answers.get(number, TAKEN)) as robot:
        hook = dingtalk_hook(robot.url("/robot/send"), secret=SECRET)
        delivery = AlertDelivery(client)
        delivery.begin([hook])
        courier = HookCourier(hook, delivery, Post(timeout_s=2.0), stack={}, chance=lambda: 0.5)
        write(client, an_alert(), at_ms=START_MS)
        now_ms, errors = START_MS, []
        while now_ms < START_MS + 20_000:
            now_ms += round(courier.round(now_ms) * 1000)
            errors.append(delivery.figures()[0].error)

    assert [error for error in dict.fromkeys(errors) if error] == [
        "answered errcode -1: busy", "answered errcode 310000: sign not match"]
    assert (len(robot.received), delivery.figures()[0].sent) == (3, 1)
    assert len({each.path.partition("&sign=")[2] for each in robot.received}) == 3  # each with a signature of its own
    assert len({each.body for each in robot.received}) == 1


def test_a_robot_that_was_sent_too_much_is_left_alone_for_ten_minutes() -> None:
    answer = b'{"errcode":130101,"errmsg":"send too fast, exceed 20 times per minute"}'
    with Receiver(lambda _: (200, {}), body=lambda _: answer) as robot:
        outcome = Post(timeout_s=2.0)(dingtalk_hook(robot.url()), a_message(), now_ms=START_MS)

    assert (outcome.delivered, outcome.refused, outcome.retry_after_s) == (False, False, 600.0)


def test_an_answer_that_is_no_robots_is_an_error() -> None:
    with Receiver(lambda _: (200, {}), body=lambda _: b"<html>hello</html>") as page:
        outcome = Post(timeout_s=2.0)(dingtalk_hook(page.url()), a_message(), now_ms=START_MS)

    assert (outcome.delivered, outcome.refused) == (False, True)
    assert "is the URL a robot's?" in outcome.error
