"""What becomes of reports that cannot be read, meant or recorded: they are put aside, and hold up no other."""

from collections.abc import Callable
from typing import Any

import pytest
import redis
from kombu import Producer

from app.job import State
from app.ledger import Claim, Ledger
from app.settings import Settings
from ops.mns_server import LocalMns
from ops.waiting import wait_until
from routing.cloud import broker, words
from tests.cloud_home.at_work import SOON_S, hearing, sent, settled, wait_for
from tests.cloud_home.stand_in import StandIn, take


def dead(settings: Settings) -> str:
    return broker.dead_queue(broker.results_queue(settings))


# a task, its arguments, and what is said of them
NO_REPORTS: list[tuple[str, dict[str, Any], str]] = [
    ("cloud.run", {"report": {}}, "task 'cloud.run'"),
    ("cloud.report", {}, "cannot be read"),
    ("cloud.report", {"report": {"worker": "cloud@a"}}, "cannot be read"),
    ("cloud.report", {"report": {"worker": {"name": "a b", "processor": "", "slots": 1, "busy": 0, "engine": ""}}},
     "not the name of a worker"),
    ("cloud.report", {"report": {"worker": {"name": "a", "processor": "", "slots": 1, "busy": 0, "engine": "\ud800"}}},
     "cannot be written")]

# a change to a word, and what is said of it
NO_WORDS: list[tuple[dict[str, Any], str]] = [
    ({"job": "1"}, "not the id of one"), ({"ticket": "a b"}, "its ticket is none"),
    ({"run": "other"}, "its run is not one of its ticket"), ({"start": -1}, "before its beginning"),
    ({"voice": "shouting"}, "in no voice"), ({"start": "x"}, "Expected `int`"), ({"text": "\ud800"}, "surrogate"),
    ({"start": 2**70}, "more than any run can")]


def test_what_is_no_report_is_put_aside_with_the_reason(
        client: redis.Redis, settings: Settings, worker: StandIn, mns: LocalMns) -> None:
    with hearing(settings):
        for task, arguments, _ in NO_REPORTS:
            worker.send_raw(task, arguments)
        found = [take(settings, dead(settings)) for _ in NO_REPORTS]
        wait_until(lambda: settled(mns, settings), timeout_s=SOON_S, what="the reports to be acknowledged")

    for _, arguments, says in NO_REPORTS:
        assert [message for message in found if message.payload[1] == arguments and says in message.headers["reason"]]


def test_a_word_that_cannot_be_meant_is_put_aside_and_the_others_are_recorded(
        client: redis.Redis, settings: Settings, ledger: Ledger, worker: StandIn) -> None:
    bad, good = ([sent(client, settings) for _ in NO_WORDS] for _ in range(2))
    with hearing(settings):
        for number, (change, _) in enumerate(NO_WORDS):
            report = words.body("report", worker.report(bad[number].said(0, "so"), *good[number].ended()))
            report["report"]["words"][0] |= change
            worker.send_raw(broker.REPORT_TASK, report)
        reasons = [take(settings, dead(settings)).headers["reason"] for _ in NO_WORDS]

    for _, says in NO_WORDS:
        assert len([why for why in reasons if says in why]) == 1, (says, reasons)
    assert {ledger.read(run.job).state for run in bad} == {State.QUEUED}
    assert {ledger.read(run.job).state for run in good} == {State.SUCCEEDED}


def test_words_of_a_newer_version_are_passed_over(
        client: redis.Redis, settings: Settings, ledger: Ledger, worker: StandIn, mns: LocalMns,
        counted: Callable[[str], int]) -> None:
    run = sent(client, settings)
    report = words.body("report", worker.report(run.began(), *run.ended()))
    report["report"]["words"][0] |= {"word": "sang", "tune": "c"}
    report["report"]["words"][1] |= {"mood": "merry"}
    report["report"]["words"].append({"word": ["sang", "danced"]})
    report["report"]["worker"] |= {"planet": "earth"}
    with hearing(settings):
        worker.send_raw(broker.REPORT_TASK, report)
        wait_for(ledger, run, State.SUCCEEDED)
        wait_until(lambda: settled(mns, settings), timeout_s=SOON_S, what="the report to be acknowledged")

    assert counted("cloud_word_unknown") == 2
    assert counted("cloud_report_put_aside") == 0


def test_what_cannot_be_decompressed_or_recorded_is_put_aside_at_once_and_takes_no_other_along(
        client: redis.Redis, settings: Settings, ledger: Ledger, worker: StandIn, mns: LocalMns,
        counted: Callable[[str], int]) -> None:
    run, failing = sent(client, settings), sent(client, settings)

    def fail(claim: Claim, *_: bytes) -> None:
        if claim.id == failing.job:
            raise ZeroDivisionError("a bug of ours")

    with broker.connected(settings) as connection:
        Producer(connection.channel(), auto_declare=False).publish(
            b"not compressed", exchange="", routing_key=broker.results_queue(settings), content_type="application/json",
            content_encoding="utf-8", headers={"task": broker.REPORT_TASK, "compression": "application/x-gzip"})
    worker.send(*failing.ended())
    worker.send(*run.ended())
    with hearing(settings, recorded=fail):
        wait_until(lambda: settled(mns, settings), timeout_s=SOON_S, what="the reports to be acknowledged")
    reasons = sorted(take(settings, dead(settings)).headers["reason"] for _ in range(2))

    assert ["ZeroDivisionError" in reasons[0], "cannot be read" in reasons[1]] == [True, True], reasons
    assert ledger.read(run.job).state is State.SUCCEEDED
    assert (counted("cloud_report_put_aside"), counted("cloud_hearing_failed")) == (2, 0)


def test_a_ticket_is_named_in_no_reason(
        client: redis.Redis, settings: Settings, worker: StandIn, caplog: pytest.LogCaptureFixture) -> None:
    run = sent(client, settings)
    report = words.body("report", worker.report(run.said(0, "so", voice="shouting")))
    with hearing(settings):
        worker.send_raw(broker.REPORT_TASK, report)
        reason = take(settings, dead(settings)).headers["reason"]

    assert run.job in reason
    assert run.ticket not in reason
    assert run.ticket not in caplog.text


def test_while_redis_is_full_reports_wait_and_none_is_put_aside(
        client: redis.Redis, settings: Settings, ledger: Ledger, worker: StandIn, mns: LocalMns,
        counted: Callable[[str], int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("routing.cloud.hearing._MOST_REFUSALS", 2)
    monkeypatch.setattr("routing.cloud.hearing._PAUSE_S", 0.05)
    run = sent(client, settings)
    worker.send(*run.ended())
    client.config_set("maxmemory", "1mb")
    try:
        with hearing(settings):
            wait_until(lambda: counted("ledger_unreachable") > 3, timeout_s=SOON_S, what="Redis to have refused it often")
            client.config_set("maxmemory", "0")
            wait_until(lambda: settled(mns, settings), timeout_s=SOON_S, what="the report to be acknowledged")
    finally:
        client.config_set("maxmemory", "0")

    assert ledger.read(run.job).state is State.SUCCEEDED
    assert counted("cloud_report_put_aside") == 0
