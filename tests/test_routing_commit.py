"""A round of the routing task is written down whole, by the leader only, and once."""

import json
from typing import Any

import msgspec
import pytest
import redis

from app import logs
from app.ledger import Ledger
from app.routing_board import RoutingBoard
from app.routing_records import (
    Alert,
    Change,
    Decision,
    Remembered,
    Shadow,
    Shadowed,
    Shed,
    Shown,
)
from app.signals import Signals
from routing.committing import Committing
from tests.policy_scene import Course, a_server, signals

AT_MS = 1_800_000_000_000
ALERT = Alert(id="cpu_percent@server-1#1", name="cpu_percent", scope="server-1", opened_s=1.0, value=90.0, threshold=80.0,
              action="failover", detail="it is busy")


def a_round(epoch: int, **changes: Any) -> Shown:
    fields: dict[str, Any] = {
        "at_ms": AT_MS, "leader": "queue@server-1", "epoch": epoch, "paused": False, "acting": True,
        "signals": Signals(at_ms=AT_MS, servers={}, queues={}), "remembered": Remembered(share=0.5), "decision": Decision()}
    return Shown(**(fields | changes))


@pytest.fixture
def committing(client: redis.Redis) -> Committing:
    return Committing(client, who="one")


@pytest.fixture
def epoch(ledger: Ledger) -> int:
    return ledger.lead("routing", "one", 60.0)


def keys(client: redis.Redis) -> set[str]:
    return {key.decode() for key in client.scan_iter()} - {"leader:routing", "epoch:routing"}


def test_all_of_a_round_is_written_down(client: redis.Redis, committing: Committing, epoch: int) -> None:
    change = Change(at_s=1.0, what="share", scope="cloud", before="0", after="0.25", why="there is an excess")
    decision = Decision(shed=Shed(lanes=("batch",), why="too long a wait"), changes=(change, change), opened=(ALERT,))
    shown = a_round(epoch, decision=decision,
                    remembered=Remembered(share=0.5, alerts={"cpu_percent@server-1": ALERT}))
    shadowed = Shadowed(overlay={"routing": {"step_s": 1}},
                        shadow=Shadow(remembered=Remembered(), decision=Decision(), rounds=7))

    assert committing.commit(shown, shadowed)
    kept = committing.kept()
    assert (kept.remembered, kept.shadowed) == (shown.remembered, shadowed)
    board = RoutingBoard(client)
    assert [each for _, each in board.history(9)] == [change, change]
    assert [(each.event, each.alert) for _, each in board.alerts(9)] == [("opened", ALERT)]
    assert board.open_alerts() == [ALERT]
    assert msgspec.json.decode(client.get("routing:shown") or b"", type=Shown) == shown
    assert json.loads(client.get("routing:shed") or b"")["lanes"] == ["batch"]
    assert 9_000 < client.pttl("routing:shown") <= 10_000
    assert 4_000 < client.pttl("routing:shed") <= 5_000


def test_what_is_over_is_gone_with_the_next_round(client: redis.Redis, committing: Committing, epoch: int) -> None:
    shed = Decision(shed=Shed(lanes=("batch",)), opened=(ALERT,))
    committing.commit(a_round(epoch, decision=shed, remembered=Remembered(alerts={"a": ALERT})),
                      Shadowed(overlay={}, shadow=Shadow(remembered=Remembered(), decision=Decision())))

    over = msgspec.structs.replace(ALERT, closed_s=9.0)
    committing.commit(a_round(epoch, decision=Decision(closed=(over,))), None)
    assert not client.exists("routing:shed", "routing:shadowed", "alerts:open")
    assert [each.event for _, each in RoutingBoard(client).alerts(9)] == ["closed", "opened"]


def test_nothing_is_refused_by_a_round_that_is_not_acted_on(
        client: redis.Redis, committing: Committing, epoch: int) -> None:
    assert committing.commit(a_round(epoch, acting=False, decision=Decision(shed=Shed(lanes=("batch",)))), None)
    assert not client.exists("routing:shed")


def test_a_leader_of_an_earlier_epoch_writes_nothing(
        client: redis.Redis, ledger: Ledger, committing: Committing, epoch: int) -> None:
    ledger.resign("routing", "one")
    assert ledger.lead("routing", "one", 60.0) == epoch + 1

    assert not committing.commit(a_round(epoch, decision=Decision(opened=(ALERT,))), None)
    assert keys(client) == set()


def test_who_does_not_lead_any_more_writes_nothing(
        client: redis.Redis, ledger: Ledger, committing: Committing, epoch: int) -> None:
    client.delete("leader:routing")  # its lease ran out
    assert not committing.commit(a_round(epoch), None)
    ledger.lead("routing", "other", 60.0)
    assert not committing.commit(a_round(epoch + 1), None), "the epoch of another"

    assert keys(client) == set()


def test_a_round_whose_reply_was_lost_is_written_down_once(
        client: redis.Redis, committing: Committing, epoch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    send = client.evalsha

    def twice(*args: Any) -> Any:
        send(*args)
        return send(*args)

    committing.commit(a_round(epoch), None)  # the script is loaded
    monkeypatch.setattr(client, "evalsha", twice)
    assert committing.commit(a_round(epoch, decision=Decision(opened=(ALERT,))), None)
    assert client.xlen("alerts") == 1


@pytest.mark.parametrize("text", [b"", b"no JSON", b'{"gauges": 7}', b'{"servers":{"server-1":{"standing":"asleep"}}}',
                                  b"[" * 100_000])
def test_what_cannot_be_read_begins_afresh_and_says_so(client: redis.Redis, committing: Committing, text: bytes) -> None:
    client.mset({"routing:state": text, "routing:shadowed": text})
    before = logs.counters["routing_begins_afresh"]

    kept = committing.kept()
    assert (kept.remembered, kept.shadowed) == (Remembered(), None)
    assert logs.counters["routing_begins_afresh"] - before == 2


def test_an_alert_of_a_state_that_cannot_be_read_goes_on_until_it_is_over(
        client: redis.Redis, committing: Committing, epoch: int) -> None:
    down = msgspec.structs.replace(ALERT, id="server-down@server-2#1", name="server-down", scope="server-2")
    committing.commit(a_round(epoch, remembered=Remembered(alerts={"a": ALERT, "b": down})), None)
    client.set("routing:state", b'{"gauges": 7}')

    remembered = committing.kept().remembered
    assert remembered.alerts == {"cpu_percent@server-1": ALERT, "server-down@server-2": down}
    course = Course()
    course.remembered = remembered
    course.go(signals(a_server(cpu_percent=90.0)), seconds=60)
    assert [(alert.id, course.opened()) for alert in course.closed()] == [(down.id, [])]
    course.go(signals(a_server(cpu_percent=30.0)), seconds=61)
    assert [alert.id for alert in course.closed()] == [down.id, ALERT.id]


def test_what_a_newer_version_adds_is_no_trouble(client: redis.Redis, committing: Committing, epoch: int) -> None:
    client.set("routing:state", b'{"share": 0.25, "mood": "good"}')
    assert committing.kept().remembered == Remembered(share=0.25)


def test_a_lead_that_is_given_up_is_taken_at_once_and_only_by_its_holder(ledger: Ledger) -> None:
    first = ledger.lead("routing", "one", 60.0)
    ledger.resign("routing", "other")
    assert ledger.lead("routing", "other", 60.0) == 0
    ledger.resign("routing", "one")
    ledger.resign("routing", "one")

    assert ledger.lead("routing", "other", 60.0) == first + 1


def test_the_streams_keep_the_newest(client: redis.Redis, committing: Committing, epoch: int) -> None:
    change = Change(at_s=1.0, what="share", scope="cloud", before="", after="", why="")
    many = Decision(changes=(change,) * 600)
    for _ in range(20):
        committing.commit(a_round(epoch, decision=many), None)

    assert 10_000 <= client.xlen("routing:history") < 10_300
