"""`celery -A workers route set`, `shadow`, `pause`, `audit`: what operators change of routing, and what is kept of it."""

import re

import pytest
import redis

from app import topology
from app.errors import SettingsError
from app.routing_board import RoutingBoard
from app.routing_rules import Rules
from app.settings import Settings
from ops.operator_name import operator_name
from tests.route_command import Command, line
from tests.routing_round import write


@pytest.fixture
def board(client: redis.Redis) -> RoutingBoard:
    return RoutingBoard(client)


@pytest.fixture
def rules() -> Rules:
    return topology.load({})[1].rules


@pytest.fixture
def command(settings: Settings, client: redis.Redis) -> Command:
    return Command(settings)


# -- set, shadow, audit


def test_a_threshold_is_changed_and_it_is_kept_who_did(command: Command) -> None:
    assert command.done("set", "cpu_percent", "alert=85", "normal=75") == (
        "set: cpu_percent alert 85, normal 75; it takes effect with the next round, within a second\n")
    command.done("set", "cpu_percent", "for_s=5")

    shown = command.done("set")
    who = re.escape(operator_name())
    assert re.fullmatch(rf"cpu_percent alert 80 85 {who}, \d\d:\d\d:\d\d", line(shown, "cpu_percent alert"))
    assert line(shown, "cpu_percent hold_s") == "cpu_percent hold_s 60 60 -"
    assert line(shown, "routing target_wait_s") == "routing target_wait_s 5 5 -"
    newest, oldest = command.done("audit").splitlines()
    assert newest.endswith('set cpu_percent: {"alert":85,"normal":75} -> {"alert":85,"normal":75,"for_s":5}')
    assert oldest.endswith(f'{operator_name()}  set cpu_percent: - -> {{"alert":85,"normal":75}}')


def test_other_rules_are_changed_under_routing(board: RoutingBoard, rules: Rules, command: Command) -> None:
    command.done("set", "routing", "target_wait_s=3", "at_cap=shed")

    assert (board.rules(rules).target_wait_s, board.rules(rules).at_cap) == (3, "shed")


@pytest.mark.parametrize(("arguments", "faults"), [
    (("cpu_percent", "alert=60"), ["normal must be below alert"]),
    (("cpu_percent", "alert=85", "heat=1", "for_s=soon"), ["heat is not known here", "for_s must be a number"]),
    (("cpu_percent", "alert=85", "alert=86", "normal"), ["alert is given twice", "'normal' is not of the form key=value"]),
    (("cpu_percent", "alert=inf"), ["alert must be a number"]),
    (("cpu_percent", "alert=1" + 400 * "0"), ["alert must be a number"]),
    (("routing", "target_wait_s=-1", "at_cap=cry"), ["target_wait_s must be a number", "at_cap must be one of"]),
    (("heat", "alert=1"), ["there is no 'heat'; there are: concurrent_users, cpu_percent"])], ids=range(7))
def test_what_is_wrong_is_listed_and_nothing_is_changed(
        board: RoutingBoard, command: Command, arguments: tuple[str, ...], faults: list[str]) -> None:
    said = command.refused("set", *arguments)

    assert said.startswith("Error: nothing was changed; fix this:\n  - ")
    assert [fault for fault in faults if fault not in said] == []
    assert (board.overlay(), board.audit(9)) == ({}, [])


def test_a_name_alone_shows_what_is_in_effect_under_it(command: Command) -> None:
    command.done("set", "cpu_percent", "alert=85")
    head, *rows = command.done("set", "cpu_percent").splitlines()

    assert (head.split()[0], [row.split()[:4] for row in rows[:2]]) == ("RULE", [
        ["cpu_percent", "normal", "70", "70"], ["cpu_percent", "alert", "80", "85"]])
    assert {row.split()[0] for row in rows} == {"cpu_percent"}
    assert "there is no 'heat'; there are: concurrent_users" in command.refused("set", "heat")


def test_a_name_to_change_beside_one_to_reset_needs_values(command: Command) -> None:
    assert command.run("set", "--reset", "cpu_percent", "cpu_percent").exit_code == 2


@pytest.mark.parametrize(("arguments", "fault"), [
    (("cpu_percent", "alert=hot"), "cpu_percent: alert must be a number, 0 or above; got 'hot'"),
    (("cpu_percent", "alert=1" + 308 * "0", "normal=1" + 400 * "0"), "normal must be a number, 0 or above"),
    (("routing", "calm_s=false"), "[routing] calm_s must be a number, 0 or above; got 'false'"),
    (("routing", "cloud_workers_most=65"), "[routing] cloud_workers_most must be at most 64; got 65"),
    (("routing", "cloud_jobs_per_minute=1000000001"), "cloud_jobs_per_minute must be at most 1e+09; got 1000000001")],
    ids=range(5))
def test_one_wrong_number_is_one_fault(command: Command, arguments: tuple[str, ...], fault: str) -> None:
    said = command.refused("set", *arguments)

    assert fault in said
    assert said.count("\n  - ") == 1


def test_a_threshold_given_as_no_number_is_one_fault(rules: Rules) -> None:
    with pytest.raises(SettingsError) as told:
        rules.changed({"routing": {"calm_s": False, "step_s": 10 ** 400}, "cpu_percent": {"alert": 10 ** 400}})

    assert told.value.faults == ["cpu_percent: alert must be a number below 1e308",
                                 "[routing] step_s must be a number below 1e308",
                                 "[routing] calm_s must be a number, 0 or above; got False"]


def test_a_reset_brings_the_topologys_values_back(
        board: RoutingBoard, command: Command) -> None:
    command.done("set", "cpu_percent", "alert=85")
    assert "there is no 'heat'" in command.refused("set", "--reset", "heat")

    assert command.done("set", "--reset", "cpu_percent", "--reset", "routing").splitlines() == [
        "cpu_percent: reset; it takes effect with the next round, within a second", "routing: nothing had been set"]
    assert board.overlay() == {}


def test_the_shadow_is_set_shown_beside_what_is_done_and_forgotten(
        client: redis.Redis, board: RoutingBoard, command: Command) -> None:
    assert "there is no shadow set" in command.done("shadow", "show")
    command.done("shadow", "set", "cpu_percent", "alert=95")
    write(client)
    text = command.done("shadow", "show")

    assert line(text, "cpu_percent alert") == "cpu_percent alert 80 95"
    assert line(text, "level cpu_percent@server-1") == "level cpu_percent@server-1 ALERT warning"
    assert line(text, "standing server-1") == "standing server-1 saturated open"
    assert line(text, "share") == "share 0.5 0.25"
    assert line(text, "sends in this round") == "sends in this round 16 4"
    assert "it would have sent jobs in 40 of 300 rounds and made 2 changes" in text
    assert board.overlay() == {}
    assert "in the shadow set: cpu_percent: reset" in command.done("shadow", "reset")
    assert board.own(shadow=True) == {}
    assert command.done("shadow", "reset") == "there is no shadow set\n"


# -- pause


def test_routing_is_paused_for_a_reason_and_resumed(
        client: redis.Redis, board: RoutingBoard, command: Command) -> None:
    assert command.run("pause").exit_code == 2
    assert "it takes effect when one leads" in command.done("pause", "--why", "repairs")
    assert (board.mode().who, board.mode().why) == (operator_name(), "repairs")
    write(client)
    assert f"PAUSED by {operator_name()} at" in command.done("status")
    again = command.done("pause", "--why", "more repairs")
    assert re.fullmatch(rf"it is paused already, by {re.escape(operator_name())} since \d\d:\d\d:\d\d: repairs; "
                        r"now: more repairs\n", again)
    assert board.mode().why == "more repairs"
    assert command.done("resume") == "resumed; it takes effect with the next round, within a second\n"
    assert not board.mode().paused
    assert command.done("resume") == "it is not paused\n"
    assert len(board.audit(9)) == 3


@pytest.mark.parametrize("command_name", ["pause", "investigate"])
@pytest.mark.parametrize("why", ["", " ", "two\nlines", "\x1b[2J", "\udcff", 501 * "x"], ids=range(6))
def test_a_reason_that_others_could_not_be_shown_is_refused(
        command: Command, client: redis.Redis, command_name: str, why: str) -> None:
    result = command.run(command_name, "--why", why)

    assert (result.exit_code, client.dbsize()) == (2, 0), result.output
    assert "a reason is a line of 1 to 500 printable characters" in result.stderr


def test_behind_sudo_stands_who_used_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SUDO_USER", raising=False)
    direct = operator_name()
    monkeypatch.setenv("SUDO_USER", "ann")
    assert operator_name() == f"ann@{direct.partition('@')[2]}"
    assert direct != operator_name()
