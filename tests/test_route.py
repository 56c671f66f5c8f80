"""`celery -A workers route status`, `history`, `alerts`, `investigation`: what operators see of routing."""

import errno
import re

import msgspec
import pytest
import redis

from app.investigation_records import ServerPart
from app.investigations import Investigations
from app.job import new_job_id
from app.ledger import Ledger
from app.routing_board import RoutingBoard
from app.routing_records import AlertEvent, Change, Gauge
from app.settings import Settings
from ops import route as route_module
from ops.operator_name import operator_name
from ops.route import followed
from tests.route_command import Command, line
from tests.routing_round import LEADER, a_round, cpu_alert, now_ms, remembered, write


@pytest.fixture
def board(client: redis.Redis) -> RoutingBoard:
    return RoutingBoard(client)


@pytest.fixture
def command(settings: Settings, client: redis.Redis) -> Command:
    return Command(settings)


# -- status


def test_the_status_shows_the_round_in_a_hundred_columns(
        client: redis.Redis, ledger: Ledger, command: Command) -> None:
    write(client)
    ledger.lead("routing", LEADER, 60)
    text = command.done("status")

    assert max(map(len, text.splitlines())) <= 100
    assert re.fullmatch(r"leader queue@server-2, for \d\.\d s \(epoch 7\)", line(text, "leader"))
    assert line(text, "mode ") == "mode acting"
    assert line(text, "users") == "users 412"
    assert line(text, "server-1") == "server-1 saturated 42 s 93.5 61.25 model cpu_percent"
    assert "cpu_percent server-1 93.5 70 80 ALERT 42 s" in re.sub(r" +", " ", text)
    assert "response_s server-1 1.25 1 2 warning 9.0 s" in re.sub(r" +", " ", text)
    assert line(text, "model ") == "model 230 32 32 6.5 s 12.5 17 s"
    assert line(text, "flow") == "flow 50 % of the excess to the cloud; 16 jobs in this round"
    assert "167 jobs would wait longer than 5 s" in text
    assert line(text, "cloud") == "cloud breaker closed for 15 min; MNS is reached"
    assert "1 worker with 8 slots; 24 jobs sent and not begun, 8 running" in text
    assert line(text, "spend") == "spend this hour 3.275 of 100; this minute 48 of 600 jobs"
    assert "new jobs of batch are refused: the wait ahead is 130 s" in text
    assert line(text, "scale") == "scale pools at their largest; cloud workers wanted: 2"
    assert "cpu_percent of server-1: 93.5 % against 80 %, since" in line(text, "alert")


def test_what_is_not_known_is_called_unknown_and_not_zero(client: redis.Redis, command: Command) -> None:
    write(client)
    text = re.sub(r" +", " ", command.done("status"))

    assert "memory_percent server-2 unknown 75 85 unknown unknown" in text
    assert "error_percent server-2 unknown 1 5 unknown unknown" in text
    assert "server-2 open 15 min 44 unknown - -" in text
    assert "chat 0 3 64 0.0 s unknown unknown" in text


def test_an_alert_whose_value_is_no_longer_known_stays_an_alert(client: redis.Redis, command: Command) -> None:
    at_ms = now_ms(client)
    gauges = {"cpu_percent@server-1": Gauge(level="alert", since_s=at_ms / 1000 - 42)}
    write(client, a_round(at_ms, remembered=remembered(at_ms / 1000, gauges=gauges)))

    assert "cpu_percent server-1 unknown 70 80 ALERT (value unknown) 42 s" in re.sub(r" +", " ", command.done("status"))


def test_while_it_does_not_act_it_is_said_what_it_would_do(client: redis.Redis, command: Command) -> None:
    write(client, a_round(now_ms(client), acting=False))
    text = command.done("status")

    assert line(text, "mode ") == "mode not acting: the setting `routing` is off; nothing is moved"
    assert line(text, "flow") == "flow would, if it were acting: 50 % of the excess to the cloud; 16 jobs in this round"
    assert line(text, "scale").startswith("scale would, if it were acting: pools at their largest; cloud workers")
    assert line(text, "shed") == "shed no lane is refused"


def test_a_small_spend_is_written_with_the_digits_that_count(client: redis.Redis, command: Command) -> None:
    shown = a_round(now_ms(client))
    cloud = msgspec.structs.replace(shown.signals.cloud, money_hour=0.02213)
    write(client, msgspec.structs.replace(shown, signals=msgspec.structs.replace(shown.signals, cloud=cloud)))
    command.done("set", "routing", "cloud_money_per_hour=0.022")

    assert "this hour 0.02213 of 0.022;" in command.done("status")


def test_without_a_cloud_the_status_says_that_there_is_none(client: redis.Redis, command: Command) -> None:
    shown = a_round(now_ms(client))
    write(client, msgspec.structs.replace(shown, signals=msgspec.structs.replace(shown.signals, cloud=None)))
    text = command.done("status")

    assert line(text, "flow").startswith("flow 167 jobs would wait longer than 5 s")
    assert line(text, "cloud") == "cloud there is none"
    assert "spend" not in text


def test_without_a_leader_it_is_said_and_open_alerts_and_the_pause_are_shown_all_the_same(
        client: redis.Redis, board: RoutingBoard, command: Command) -> None:
    assert "no queue worker has led for 10 s" in command.done("status")
    write(client, a_round(now_ms(client) - 11_000))
    board.pause("ann@desk", "repairs")
    text = command.done("status")

    assert "PAUSED by ann@desk at" in text
    assert "cpu_percent of server-1" in line(text, "alert")
    assert "SIGNAL" not in text


def test_the_status_for_programs_has_nulls_for_what_is_not_known(client: redis.Redis, command: Command) -> None:
    write(client)
    found = msgspec.json.decode(command.done("status", "--json"))

    signals = {(each["signal"], each["scope"]): each for each in found["signals"]}
    assert signals["cpu_percent", "server-1"] == {
        "signal": "cpu_percent", "scope": "server-1", "value": 93.5, "normal": 70.0, "alert": 80.0, "level": "alert",
        "for_s": 42.0}
    assert (signals["memory_percent", "server-2"]["value"], signals["memory_percent", "server-2"]["level"]) == (None, None)
    assert (found["spend"], found["leader"]["worker"]) == (
        {"money_hour": 3.275, "money_cap": 100.0, "jobs_minute": 48, "jobs_cap": 600}, LEADER)


def test_the_status_shows_thresholds_and_caps_as_an_operator_set_them(
        client: redis.Redis, command: Command) -> None:
    write(client)
    command.done("set", "cpu_percent", "alert=85", "normal=75")
    command.done("set", "routing", "cloud_money_per_hour=7.5")
    text = re.sub(r" +", " ", command.done("status"))

    assert "cpu_percent server-1 93.5 75 85 ALERT" in text
    assert "this hour 3.275 of 7.5" in text


# -- history, alerts


def test_the_history_is_told_oldest_first(client: redis.Redis, command: Command) -> None:
    assert command.done("history") == "nothing has changed yet\n"
    write(client)

    assert [each.split()[1] for each in command.done("history").splitlines()] == ["level", "server", "share"]
    (last,) = command.done("history", "-n", "1").splitlines()
    assert "0.25 -> 0.5" in last
    assert last.endswith("167 jobs would wait longer than 5 s, after 5 s at 0.25")


def test_who_follows_the_history_is_told_each_change_once(client: redis.Redis, board: RoutingBoard) -> None:
    write(client)
    (last_id, _), *_ = board.history(1)
    turns = iter(("share", "breaker", None))

    def meanwhile(_: float) -> None:
        what = next(turns)
        if what is None:
            raise KeyboardInterrupt
        change = Change(at_s=1.0, what=what, scope="cloud", before="a", after="b", why="because")
        client.xadd("routing:history", {"change": msgspec.json.encode(change)})

    told: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        told.extend(change.what for change in followed(board, last_id, pause=meanwhile))
    assert told == ["share", "breaker"]


def test_open_alerts_are_shown_before_past_ones(client: redis.Redis, command: Command) -> None:
    assert command.done("alerts") == "no alert is open\n"
    write(client)
    over = cpu_alert(1.0, scope="server-2", closed_s=60.0, detail="over")
    client.xadd("alerts", {"event": msgspec.json.encode(AlertEvent(event="closed", alert=over))})

    first, detail, newest, oldest = command.done("alerts").splitlines()
    assert first.startswith("OPEN    cpu_percent of server-1: 93.5 % against 80 %")
    assert "takes nothing new" in detail
    assert "closed  cpu_percent of server-2: over" in newest
    assert "opened  cpu_percent of server-1" in oldest
    assert len(command.done("alerts", "-n", "1").splitlines()) == 3


# -- investigations


def test_a_report_is_asked_for_listed_and_read(client: redis.Redis, command: Command) -> None:
    assert command.done("investigation") == "there is no report; `route investigate` asks for one\n"
    report_id = command.done("investigate", "--why", "it feels slow").split()[-1]
    Investigations(client).contribute(report_id, "server-1", ServerPart(
        server="server-1", at_ms=now_ms(client), took_s=0.5, cpus=2, load=(1.0, 2.0, 3.0)))

    row = line(command.done("investigation"), report_id)
    assert operator_name() in row
    assert row.endswith("server-1 it feels slow")
    assert command.done("investigation", report_id).startswith(f"Report {report_id}\n")
    assert "there is no report of this id" in command.refused("investigation", "nonsense")


# -- without Redis


@pytest.mark.parametrize("arguments", [("status",), ("history",), ("alerts",), ("audit",), ("set",), ("resume",),
                                       ("shadow", "show"), ("explain", new_job_id())], ids=range(8))
def test_without_redis_the_error_is_one_line(arguments: tuple[str, ...]) -> None:
    result = Command(Settings(redis_url="redis://127.0.0.1:1")).run(*arguments)

    assert result.exit_code == 1
    assert [each.startswith("Error: Redis did not do it") for each in result.stderr.splitlines()] == [True]


# -- who looks, and goes


def test_to_stop_following_is_no_fault(monkeypatch: pytest.MonkeyPatch, command: Command) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(route_module, "followed", interrupted)
    result = command.run("history", "--follow")

    assert (result.exit_code, result.output) == (0, "")


def test_a_reader_who_goes_is_no_fault_to_speak_of(monkeypatch: pytest.MonkeyPatch, command: Command) -> None:
    def gone(*_: object) -> None:
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    monkeypatch.setattr(route_module, "show_status", gone)
    assert command.run("status").output == ""
