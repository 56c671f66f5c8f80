"""The routing task: who leads, and what failures and deaths do."""

import json
import os
import signal
import subprocess
import sys
import time

import msgspec
import pytest
import redis

from app import logs
from app.errors import StoreUnavailable
from app.investigations import Investigations
from app.ledger import Ledger
from app.routing_board import RoutingBoard
from app.routing_records import Decision, Remembered, Shown
from app.settings import Settings
from ops.waiting import wait_until
from routing.task import Routing
from tests.model_ledger import a_job
from tests.routing_task import HOLD, PLAN, SLOW, Policy, Told, enter, task

_CHILD = """
import os, sys, time
from pathlib import Path
from app.settings import Settings
from app.topology import load
from routing.task import Routing
one = Routing(Settings(redis_url=sys.argv[1], data_dir=Path(sys.argv[2])), load({}, embedded=False)[1],
              who="queue@server-1", tell=lambda *_: None)
one.start()
time.sleep(60)
"""


def shown(client: redis.Redis) -> Shown | None:
    return RoutingBoard(client).shown()


# -- who leads


def test_one_leads_and_the_others_look(settings: Settings, client: redis.Redis) -> None:
    with task(settings) as one, task(settings, who="queue@server-2") as other:
        first, nothing, second = one.round(), other.round(), one.round()

        assert first
        assert second
        assert nothing is None
        assert (first.leader, first.epoch, second.epoch, first.acting) == ("queue@server-1", 1, 1, True)
        assert shown(client) == second


def test_a_process_of_the_same_worker_leads_in_an_epoch_of_its_own(
        settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    with task(settings) as one:
        one.round()
        monkeypatch.setattr(os, "getpid", lambda: 1)
        with task(settings) as again:
            assert again.round() is None
            one.resign()
            found = again.round()
            assert found
            assert found.epoch == 2


def test_what_was_remembered_goes_on_with_another_leader(settings: Settings) -> None:
    policy = Policy(remembered=Remembered(share=0.5))
    with task(settings, decide=policy) as one:
        one.round()
    with task(settings, who="queue@server-2", decide=policy) as other:
        other.round()

    assert policy.before == [Remembered(), Remembered(share=0.5)]


def test_a_leader_that_stops_is_followed_at_once(settings: Settings, client: redis.Redis) -> None:
    one = Routing(settings, PLAN, who="queue@server-1", tell=Told(), decide=Policy())
    one.start()
    wait_until(lambda: shown(client), timeout_s=10, what="a round")
    with task(settings, who="queue@server-2") as other:
        one.stop()
        one.join(10)
        assert other.round(), "nobody has to wait for the end of the lease"


def test_when_the_leader_is_killed_another_acts_within_5_s(settings: Settings, client: redis.Redis) -> None:
    child = subprocess.Popen([sys.executable, "-c", _CHILD, settings.redis_url, str(settings.data_dir)])
    told = Told()
    enter(Ledger(client, settings), "model@server-1")
    other = Routing(settings, PLAN, who="queue@server-2", tell=told, decide=Policy(HOLD))
    try:
        wait_until(lambda: shown(client), timeout_s=30, what="the first leader's round")
        other.start()
        os.kill(child.pid, signal.SIGKILL)
        killed_s = time.monotonic()
        wait_until(lambda: told.words, timeout_s=10, what="the second leader to act")
        assert time.monotonic() - killed_s < 5
    finally:
        child.kill()
        child.wait()
        other.stop()
        other.join(10)


def test_a_leader_whose_lead_is_taken_while_it_decides_writes_and_does_nothing(
        settings: Settings, client: redis.Redis, ledger: Ledger) -> None:
    told = Told()
    enter(ledger, "model@server-1")

    def slow(*_: object) -> tuple[Remembered, Decision]:
        client.delete("leader:routing")
        ledger.lead("routing", "another", 60.0)
        return Remembered(share=1.0), HOLD

    before = logs.counters["routing_lead_lost"]
    with task(settings, decide=slow, tell=told) as one:
        assert one.round() is None

    assert (told.words, client.exists("routing:state", "routing:shown")) == ([], 0)
    assert logs.counters["routing_lead_lost"] - before == 1
    client.delete("leader:routing")


class Killed(BaseException):
    """The process ends here."""


def test_what_a_leader_wrote_down_and_did_not_do_the_next_one_does(
        settings: Settings, client: redis.Redis, ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    enter(ledger, "model@server-1")
    alert = msgspec.structs.replace(SLOW, opened_s=time.time())
    policy, told = Policy(), Told()
    policy.decision = Decision(hold=HOLD.hold, opened=(alert,), investigate=(alert.id,))
    policy.remembered = Remembered(alerts={"response_s@server-1": alert}, hold=HOLD.hold)

    def die(*_: object) -> None:
        raise Killed

    monkeypatch.setattr(Routing, "_act", die)
    with task(settings, decide=policy, tell=told) as one, pytest.raises(Killed):
        one.round()
    monkeypatch.undo()
    assert (told.words, Investigations(client).pending("server-1")) == ([], [])

    kept = RoutingBoard(client).open_alerts()[0]
    policy.decision, policy.remembered = HOLD, Remembered(alerts={"response_s@server-1": kept}, hold=HOLD.hold)
    with task(settings, who="queue@server-2", decide=policy, tell=told) as other:
        other.round()
    assert told.take() == {"model@server-1": (["model"], None)}
    assert Investigations(client).pending("server-1") == [kept.investigation]


# -- failures


@pytest.mark.parametrize("broken", [OSError("no broker"), RuntimeError("a bug")])
def test_an_act_that_fails_keeps_neither_the_others_nor_the_next_round_from_being_done(
        ledger: Ledger, routing: Routing, policy: Policy, told: Told, broken: Exception) -> None:
    enter(ledger, "model@server-1")
    told.broken = broken
    before = logs.counters["routing_act_failed"]
    policy.decision = msgspec.structs.replace(HOLD, recall=1)
    assert routing.round()
    assert logs.counters["routing_act_failed"] - before == 1
    told.broken = None
    assert routing.round()

    assert told.take() == {"model@server-1": (["model"], None)}


def test_without_redis_there_is_no_round_and_afterwards_there_is(
        settings: Settings, routing: Routing, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: object) -> None:
        raise redis.exceptions.ConnectionError("away")

    monkeypatch.setattr(redis.Redis, "execute_command", away)
    with pytest.raises(StoreUnavailable):
        routing.round()
    monkeypatch.undo()
    assert routing.round()


# -- the real policy


def test_with_the_real_policy_a_silent_server_is_told_of_within_seconds(
        client: redis.Redis, ledger: Ledger, settings: Settings) -> None:
    ledger.submit(a_job())
    one = Routing(settings, PLAN, who="queue@server-1", tell=Told())
    one.start()
    try:
        wait_until(lambda: {alert.name for alert in RoutingBoard(client).open_alerts()} >= {"server-down"}, timeout_s=20,
                   what="an alert that a server is down")
        found = shown(client)
        assert found
        assert json.loads(client.get("routing:state") or b"")["servers"]["server-1"]["standing"] == "down"
    finally:
        one.stop()
        one.join(10)
