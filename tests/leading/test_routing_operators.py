"""The routing task does as operators wish: it pauses, follows the rules that they set, and watches a second set."""

import time
from dataclasses import replace

import msgspec
import pytest
import redis

from app.investigations import Investigations
from app.ledger import Ledger
from app.routing_board import RoutingBoard
from app.routing_records import Change, Decision, Remembered, Shed
from app.routing_rules import Rules
from app.settings import Settings
from app.signals import Signals
from routing.task import Routing
from tests.routing_task import HOLD, PLAN, SLOW, Policy, Told, enter, task

# -- a pause, and the setting


def test_a_paused_task_decides_and_alerts_and_moves_nothing(
        client: redis.Redis, ledger: Ledger, routing: Routing, policy: Policy, told: Told) -> None:
    enter(ledger, "model@server-1")
    RoutingBoard(client).pause("ann", "maintenance")
    alert = msgspec.structs.replace(SLOW, opened_s=time.time())
    change = Change(at_s=1.0, what="share", scope="cloud", before="0", after="1", why="")
    policy.decision = msgspec.structs.replace(HOLD, shed=Shed(lanes=("batch",)), grow=True, opened=(alert,),
                                              changes=(change,), investigate=(alert.id,))
    policy.remembered = Remembered(alerts={"response_s@server-1": alert})
    found = routing.round()

    assert found
    assert (found.paused, found.acting, told.words) == (True, False, [])
    assert not client.exists("routing:shed")
    board = RoutingBoard(client)
    assert [each.id for each in board.open_alerts()] == [alert.id]
    assert ([change.what for _, change in board.history(9)], len(board.alerts(9))) == (["share", "mode"], 1)
    assert Investigations(client).pending("server-1"), "a report moves nothing"
    board.resume("ann")
    routing.round()
    assert told.take()
    assert client.exists("routing:shed")


def test_what_was_held_is_let_go_when_it_is_paused(
        client: redis.Redis, ledger: Ledger, routing: Routing, told: Told) -> None:
    enter(ledger, "model@server-1")
    routing.round()
    enter(ledger, "model@server-1", held="model")
    told.take()
    RoutingBoard(client).pause("ann", "maintenance")
    routing.round()

    assert told.take() == {"model@server-1": ([], None)}


def test_with_the_setting_off_everything_is_shown_and_no_word_is_said(
        client: redis.Redis, ledger: Ledger, settings: Settings, policy: Policy, told: Told) -> None:
    enter(ledger, "model@server-1", held="model", slots=2)
    policy.decision = msgspec.structs.replace(HOLD, shed=Shed(lanes=("batch",)))
    with task(replace(settings, routing=False), decide=policy, tell=told) as one:
        found = one.round()

    assert found
    assert (found.paused, found.acting, found.decision, told.words) == (False, False, policy.decision, [])
    assert not client.exists("routing:shed")


@pytest.mark.parametrize("paused", [True, False])
def test_what_is_not_done_is_told_so_and_not_remembered_so(
        client: redis.Redis, settings: Settings, policy: Policy, paused: bool) -> None:
    hot = msgspec.structs.replace(SLOW, id="cpu_percent@server-1#1", name="cpu_percent", action="it is relieved")
    down = msgspec.structs.replace(SLOW, id="server-down@server-1#1", name="server-down", action="its jobs go to others")
    policy.remembered = Remembered(alerts={alert.name: alert for alert in (SLOW, hot, down)})
    policy.decision = Decision(opened=(hot,), closed=(hot,), changes=tuple(
        Change(at_s=1.0, what=what, scope="all", before="", after="", why="why") for what in (
            "level", "hold", "send", "recall", "scale", "shed", "alert")))
    board = RoutingBoard(client)
    if paused:
        board.pause("ann", "maintenance")
    with task(replace(settings, routing=paused), decide=policy) as one:
        for _ in range(3):
            one.round()

    undone = "nothing, as routing does not act; it would be: it is relieved"
    assert {alert.name: alert.action for alert in board.open_alerts()} == {
        "response_s": SLOW.action, "cpu_percent": undone, "server-down": down.action}, "some of it is done all the same"
    assert [event.alert.action for _, event in board.alerts(9)] == 6 * [undone]
    assert [change.why.partition("why")[0] for _, change in reversed(board.history(7))] == [
        "", *5 * ["not done, as routing does not act: "], ""]
    assert policy.before[1:] == 2 * [policy.remembered]


# -- an operator's rules, and the second set


def test_an_operators_rules_hold_from_the_next_round_on(
        client: redis.Redis, routing: Routing, policy: Policy) -> None:
    routing.round()
    RoutingBoard(client).set({"routing": {"target_wait_s": 1.5}}, rules=PLAN.rules, who="ann")
    routing.round()

    assert [rules.target_wait_s for rules in policy.rules] == [PLAN.rules.target_wait_s, 1.5]


def test_the_second_set_is_evaluated_and_not_acted_on(client: redis.Redis, ledger: Ledger, settings: Settings) -> None:
    enter(ledger, "model@server-1")
    told, board = Told(), RoutingBoard(client)

    def strict(signals: Signals, rules: Rules, before: Remembered, now_s: float) -> tuple[Remembered, Decision]:
        if rules.target_wait_s == 1.5:
            send = 7 if before.share < 0.5 else 0
            return Remembered(share=before.share + 0.25), Decision(hold=HOLD.hold, send=send, recall=3, cloud_workers=2)
        return Remembered(), Decision()

    def second() -> tuple[float, int, int, int] | None:
        found = one.round()
        assert found
        return found.shadow and (found.shadow.remembered.share, found.shadow.rounds, found.shadow.rounds_sending,
                                 found.shadow.decision.recall)

    with task(settings, decide=strict, tell=told) as one:
        assert second() is None
        board.set({"routing": {"target_wait_s": 1.5}}, rules=PLAN.rules, who="ann", shadow=True)
        assert [second(), second()] == [(0.25, 1, 1, 3), (0.5, 2, 2, 3)]
        one.resign()
        with task(settings, who="queue@server-2", decide=strict, tell=told) as other:
            found = other.round()
            assert found
            assert found.shadow
            assert (found.shadow.rounds, found.shadow.rounds_sending) == (3, 2), "it goes on with another leader"
        board.set({"routing": {"calm_s": 30.0}}, rules=PLAN.rules, who="ann", shadow=True)
        assert second() == (0.25, 1, 1, 3), "another set begins anew"
        board.unset(["routing"], who="ann", shadow=True)
        assert second() is None
    assert told.words == []
