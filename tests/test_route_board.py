"""What operators read of the routing task and tell it, as it is kept in Redis."""

from collections.abc import Callable
from dataclasses import replace
from itertools import count

import msgspec
import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from app import topology
from app.errors import SettingsError, StoreUnavailable
from app.routing_board import RoutingBoard
from app.routing_rules import Rules
from ops.embedded_redis import free_port
from tests.cloud_home.stand_in import counting
from tests.routing_round import a_round, cpu_alert, now_ms, write


@pytest.fixture
def board(client: redis.Redis) -> RoutingBoard:
    return RoutingBoard(client)


@pytest.fixture
def rules() -> Rules:
    _, plan = topology.load({})
    return plan.rules


@pytest.fixture
def counted() -> Callable[[str], int]:
    return counting()


# -- what it says


def test_the_last_round_is_shown_while_a_leader_speaks(client: redis.Redis, board: RoutingBoard) -> None:
    assert board.shown() is None
    assert write(client) == board.shown()
    write(client, a_round(now_ms(client) - 11_000))
    assert board.shown() is None


def test_history_and_alerts_come_newest_first_and_from_where_one_left_off(
        client: redis.Redis, board: RoutingBoard) -> None:
    shown = write(client)

    told = board.history(10)
    assert [(change.what, change.scope) for _, change in told] == [
        ("share", "cloud"), ("server", "server-1"), ("level", "server-1")]
    assert [change.what for _, change in board.history(2)] == ["share", "server"]
    assert board.history(10, after=told[0][0]) == []
    assert [change.what for _, change in board.history(10, after=told[2][0])] == ["share", "server"]
    ((_, event),) = board.alerts(10)
    assert event.event == "opened"
    assert [event.alert] == board.open_alerts() == list(shown.remembered.alerts.values())


def test_records_of_another_version_are_passed_by_with_a_line_in_the_log(
        client: redis.Redis, board: RoutingBoard, counted: Callable[[str], int]) -> None:
    write(client)
    client.set("routing:shown", b'{"at_ms": "soon"}')
    client.xadd("routing:history", {"change": b"{"})
    client.xadd("routing:history", {"something": b"else"})
    client.xadd("alerts", {"event": b"[]"})
    client.hset("alerts:open", "x", b"{}")
    client.xadd("routing:audit", {"who": "ann"})
    client.hset("routing:set", mapping={"cpu_percent": b"[1]", "routing": b'{"target_wait_s": 3}'})

    assert board.shown() is None
    assert (len(board.history(10)), len(board.alerts(10)), len(board.open_alerts()), board.audit(10)) == (3, 1, 1, [])
    assert board.overlay() == {"routing": {"target_wait_s": 3}}
    assert counted("routing_record_unreadable") == 7


def test_open_alerts_come_newest_first(client: redis.Redis, board: RoutingBoard) -> None:
    now_s = now_ms(client) / 1000
    alerts = [cpu_alert(now_s - each, id=f"a#{each}") for each in (3, 1, 2)]
    for alert in alerts:
        client.hset("alerts:open", alert.id, msgspec.json.encode(alert))

    assert [alert.id for alert in board.open_alerts()] == ["a#1", "a#2", "a#3"]


# -- what it is told


def test_what_is_set_is_laid_over_what_was_set_before_and_audited(board: RoutingBoard, rules: Rules) -> None:
    board.set({"cpu_percent": {"alert": 85.0}}, rules=rules, who="ann@desk")
    board.set({"cpu_percent": {"normal": 75.0}, "routing": {"target_wait_s": 3}}, rules=rules, who="ben@desk")

    assert board.overlay() == {"cpu_percent": {"alert": 85.0, "normal": 75.0}, "routing": {"target_wait_s": 3}}
    assert [(each.who, each.what, each.before, each.after) for each in board.audit(9)] == [
        ("ben@desk", "set routing", "null", '{"target_wait_s":3}'),
        ("ben@desk", "set cpu_percent", '{"alert":85.0}', '{"alert":85.0,"normal":75.0}'),
        ("ann@desk", "set cpu_percent", "null", '{"alert":85.0}')]
    effective = board.rules(rules)
    assert (effective.thresholds["cpu_percent"].alert, effective.target_wait_s) == (85.0, 3)
    assert effective.thresholds["memory_percent"] == rules.thresholds["memory_percent"]


def test_a_fault_leaves_all_as_it_was_and_every_fault_is_told(board: RoutingBoard, rules: Rules) -> None:
    board.set({"cpu_percent": {"alert": 85.0}}, rules=rules, who="ann")
    wrong = {"cpu_percent": {"normal": 90.0}, "heat": {"alert": 1}, "routing": {"target_wait_s": -1, "at_cap": "cry"},
             "memory_percent": {"alert": 95.0}}

    with pytest.raises(SettingsError) as told:
        board.set(wrong, rules=rules, who="ann")
    assert len(told.value.faults) == 4
    assert board.overlay() == {"cpu_percent": {"alert": 85.0}}
    assert len(board.audit(9)) == 1


def test_what_is_reset_is_the_topologys_again(board: RoutingBoard, rules: Rules) -> None:
    board.set({"cpu_percent": {"alert": 85.0}, "memory_percent": {"alert": 99.0}}, rules=rules, who="ann")

    assert board.unset(["cpu_percent", "routing"], who="ben") == ["cpu_percent"]
    assert board.overlay() == {"memory_percent": {"alert": 99.0}}
    assert (board.audit(1)[0].before, board.audit(1)[0].after) == ('{"alert":85.0}', "null")
    assert board.unset(["cpu_percent"], who="ben") == []
    assert len(board.audit(9)) == 3


def test_the_shadow_is_laid_over_what_is_set_and_is_nothing_without_a_set_of_its_own(
        board: RoutingBoard, rules: Rules) -> None:
    board.set({"cpu_percent": {"alert": 85.0}}, rules=rules, who="ann")
    assert board.overlay(shadow=True) == {}
    board.set({"cpu_percent": {"normal": 84.0}}, rules=rules, who="ann", shadow=True)

    assert board.overlay(shadow=True) == {"cpu_percent": {"alert": 85.0, "normal": 84.0}}
    assert board.own(shadow=True) == {"cpu_percent": {"normal": 84.0}}
    assert board.overlay() == {"cpu_percent": {"alert": 85.0}}
    assert board.audit(1)[0].what == "shadow cpu_percent"
    with pytest.raises(SettingsError) as told:
        board.set({"cpu_percent": {"alert": 83.0}}, rules=rules, who="ann")
    assert "the shadow set over it: cpu_percent: normal must be below alert" in told.value.faults[0]
    assert board.unset(["cpu_percent"], who="ann", shadow=True) == ["cpu_percent"]
    assert board.overlay(shadow=True) == {}


def test_what_does_not_fit_a_changed_topology_is_left_out_and_said_once(
        board: RoutingBoard, rules: Rules, counted: Callable[[str], int]) -> None:
    board.set({"cpu_percent": {"alert": 75.0}, "routing": {"calm_s": 3}}, rules=rules, who="ann")
    higher = replace(rules, thresholds={**rules.thresholds, "cpu_percent": replace(
        rules.thresholds["cpu_percent"], normal=78.0)})

    for _ in range(3):
        assert board.rules(higher) == replace(higher, calm_s=3)
    assert counted("routing_overlay_refused") == 1


def test_it_is_paused_and_resumed_and_both_are_audited(board: RoutingBoard) -> None:
    assert not board.mode().paused
    board.pause("ann@desk", "the cloud is being moved")
    mode = board.mode()
    assert (mode.paused, mode.who, mode.why) == (True, "ann@desk", "the cloud is being moved")
    assert mode.at_s is not None
    board.resume("ben@desk")

    assert not board.mode().paused
    assert [(each.who, each.before, each.after) for each in board.audit(9)] == [
        ("ben@desk", '"the cloud is being moved"', "null"), ("ann@desk", "null", '"the cloud is being moved"')]


def test_a_pause_frames_what_was_not_done_in_the_history(board: RoutingBoard) -> None:
    board.pause("ann@desk", "repairs")
    board.resume("ben@desk")

    assert [(each.what, each.scope, each.before, each.after, each.why) for _, each in board.history(9)] == [
        ("mode", "all", "paused", "acting", "ben@desk resumed it"),
        ("mode", "all", "acting", "paused", "ann@desk paused it: repairs")]


def test_two_operators_who_change_at_once_lose_nothing_of_each_other(
        board: RoutingBoard, client: redis.Redis, rules: Rules, monkeypatch: pytest.MonkeyPatch) -> None:
    turns, whole = count(), Rules.changed

    def meanwhile(mine: Rules, given: dict[str, dict[str, object]]) -> Rules:
        if next(turns) == 0:
            RoutingBoard(client).set({"memory_percent": {"alert": 90.0}}, rules=rules, who="ben")
        return whole(mine, given)

    monkeypatch.setattr(Rules, "changed", meanwhile)
    board.set({"cpu_percent": {"alert": 85.0}}, rules=rules, who="ann")

    assert board.overlay() == {"cpu_percent": {"alert": 85.0}, "memory_percent": {"alert": 90.0}}
    assert [each.who for each in board.audit(9)] == ["ann", "ben"]


# -- without Redis


@pytest.mark.parametrize("ask", [
    RoutingBoard.shown, RoutingBoard.mode, RoutingBoard.overlay, RoutingBoard.open_alerts,
    lambda board: board.history(1), lambda board: board.alerts(1), lambda board: board.audit(1),
    lambda board: board.pause("ann", "why"), lambda board: board.resume("ann"), lambda board: board.own(shadow=True),
    lambda board: board.set({"cpu_percent": {"alert": 85.0}}, rules=topology.load({})[1].rules, who="ann"),
    lambda board: board.unset(["cpu_percent"], who="ann")], ids=range(12))
def test_without_redis_it_says_so(ask: Callable[[RoutingBoard], object]) -> None:
    with redis.Redis(port=free_port(), retry=Retry(NoBackoff(), 0)) as nobody, pytest.raises(StoreUnavailable):
        ask(RoutingBoard(nobody))
