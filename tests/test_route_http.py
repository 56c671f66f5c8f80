"""What `/v1/status`, its neighbours and `/metrics` tell operators of routing."""

import shutil
import subprocess
from typing import Any

import msgspec
import pytest
import redis
from prometheus_client.parser import text_string_to_metric_families

from app.accounts import Role
from app.alert_delivery import AlertDelivery
from app.alert_hooks import read_hooks
from app.api import openapi
from app.investigation_records import ServerPart
from app.investigations import Investigations
from app.ledger import Ledger
from app.routing_board import RoutingBoard
from app.routing_records import AlertEvent
from app.settings import Settings
from tests.gateway import Gateway
from tests.routing_round import LEADER, a_round, cpu_alert, now_ms, write
from tests.test_gateway_openapi import faults, told

PATHS = ("/v1/status", "/v1/routing/history", "/v1/alerts")

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


@pytest.fixture
def operator(settings: Settings, client: redis.Redis) -> Gateway:
    return Gateway(settings, client, role=Role.OPERATOR, name="operator")


def answered(operator: Gateway, path: str) -> Any:
    """Return what a path answers, which is as documented."""
    answer = operator.call("GET", path)
    assert answer.status_code == 200, answer.text
    document = openapi.document()
    schema = told(document, path.partition("?")[0], "get", 200, "application/json")
    assert faults(document, schema, answer.json) == []
    return answer.json


def scraped(operator: Gateway) -> Samples:
    return {(sample.name, frozenset(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(operator.call("GET", "/metrics").text)
            for sample in family.samples}


def value(samples: Samples, metric: str, /, **labels: str) -> float | None:
    return samples.get((metric, frozenset(labels.items())))


# -- status, history, alerts


def test_the_status_tells_the_round_as_the_command_does(operator: Gateway, client: redis.Redis, ledger: Ledger) -> None:
    ledger.lead("routing", LEADER, 60)
    write(client)
    routing = answered(operator, "/v1/status")["routing"]

    assert (routing["leader"]["worker"], routing["leader"]["epoch"], routing["leader"]["acting"]) == (LEADER, 7, True)
    assert 0 <= routing["leader"]["for_s"] < 30
    levels = {(each["signal"], each["scope"]): each["level"] for each in routing["signals"]}
    assert levels["cpu_percent", "server-1"] == "alert"
    assert levels["response_s", "server-1"] == "warning"
    assert levels["memory_percent", "server-2"] is None
    assert {each["server"]: (each["standing"], each["why"]) for each in routing["servers"]} == {
        "server-1": ("saturated", ["cpu_percent"]), "server-2": ("open", [])}
    assert routing["servers"][0]["processors"] == {"P1": 12.0, "P2": 99.0}
    assert routing["servers"][0]["calls"] == {"count": 240, "mean_s": 0.4, "p50_s": 0.3, "p95_s": 1.25}
    assert routing["servers"][1]["calls"] is None
    assert (routing["flow"]["share"], routing["flow"]["sent"], routing["flow"]["reason"][:3]) == (0.5, 24, "167")
    assert routing["spend"] == {"money_hour": 3.275, "money_cap": 100.0, "jobs_minute": 48, "jobs_cap": 600}
    assert (routing["breaker"]["state"], routing["shed"]["lanes"]) == ("closed", ["batch"])
    assert [alert["name"] for alert in routing["alerts"]] == ["cpu_percent"]
    assert (routing["shadow"]["rounds_sending"], routing["shadow"]["rounds"]) == (40, 300)


def test_without_a_leader_the_status_says_nothing_of_a_round(operator: Gateway, client: redis.Redis) -> None:
    write(client, a_round(now_ms(client) - 11_000))
    RoutingBoard(client).pause("ann@desk", "repairs")
    routing = answered(operator, "/v1/status")["routing"]

    of_the_round = ("leader", "flow", "spend", "breaker", "shed", "scale", "shadow", "users")
    assert {name: routing[name] for name in of_the_round} == dict.fromkeys(of_the_round)
    assert (routing["signals"], routing["servers"], routing["queues"]) == ([], [], [])
    assert (routing["mode"]["paused"], routing["mode"]["who"], routing["mode"]["why"]) == (True, "ann@desk", "repairs")
    assert len(routing["alerts"]) == 1


def test_a_round_without_a_cloud_has_neither_breaker_nor_spend(operator: Gateway, client: redis.Redis) -> None:
    shown = a_round(now_ms(client))
    write(client, msgspec.structs.replace(shown, signals=msgspec.structs.replace(shown.signals, cloud=None)))
    routing = answered(operator, "/v1/status")["routing"]

    assert (routing["breaker"], routing["spend"], routing["flow"]["sent"]) == (None, None, None)


def test_the_history_is_told_newest_first(operator: Gateway, client: redis.Redis) -> None:
    assert answered(operator, "/v1/routing/history") == {"data": []}
    write(client)

    assert [change["what"] for change in answered(operator, "/v1/routing/history")["data"]] == ["share", "server", "level"]
    (last,) = answered(operator, "/v1/routing/history?limit=1")["data"]
    assert (last["scope"], last["before"], last["after"]) == ("cloud", "0.25", "0.5")


def test_the_alerts_are_told_open_ones_and_events(operator: Gateway, client: redis.Redis) -> None:
    assert answered(operator, "/v1/alerts") == {"open": [], "events": []}
    write(client)
    closed = cpu_alert(1.0, closed_s=60.5)
    client.xadd("alerts", {"event": msgspec.json.encode(AlertEvent(event="closed", alert=closed))})
    found = answered(operator, "/v1/alerts")

    assert [alert["scope"] for alert in found["open"]] == ["server-1"]
    assert [each["event"] for each in found["events"]] == ["closed", "opened"]
    assert found["events"][0]["alert"]["closed_at"] == "1970-01-01T00:01:00.500Z"


def test_the_reports_are_listed_and_read_as_far_as_they_have_come(operator: Gateway, client: redis.Redis) -> None:
    assert answered(operator, "/v1/investigations") == {"data": []}
    kept = Investigations(client)
    by_alert = kept.ask(cpu_alert(now_ms(client) / 1000))
    by_hand = kept.ask_by_hand("ann@desk", "it feels slow")
    kept.contribute(by_alert, "server-1", ServerPart(server="server-1", at_ms=1, took_s=0.5, cpus=2, load=(1.0, 2.0, 3.0)))

    listed = {each["id"]: each for each in answered(operator, "/v1/investigations")["data"]}
    assert {name: each["parts"] for name, each in listed.items()} == {by_alert: ["server-1"], by_hand: []}
    assert (listed[by_hand]["who"], listed[by_hand]["why"], listed[by_hand]["alert"]) == ("ann@desk", "it feels slow", None)
    document = openapi.document()
    answer = operator.call("GET", f"/v1/investigations/{by_alert}")
    schema = told(document, "/v1/investigations/{report_id}", "get", 200, "application/json")
    assert faults(document, schema, answer.json) == []
    assert answer.json["servers"]["server-1"]["load"] == [1.0, 2.0, 3.0]
    assert answer.json["text"].startswith(f"Report {by_alert}\n")
    assert value(scraped(operator), "tandem_investigations_kept") == 2


@pytest.mark.parametrize("report_id", ["none", "%00", "a%20b"])
def test_a_report_that_is_not_there_is_not_found(operator: Gateway, report_id: str) -> None:
    assert operator.call("GET", f"/v1/investigations/{report_id}").status_code == 404


@pytest.mark.parametrize("path", [*PATHS, "/v1/investigations", "/v1/investigations/x"])
def test_they_are_for_operators(operator: Gateway, path: str) -> None:
    assert operator.another("user").call("GET", path).status_code == 403
    assert operator.call("GET", path, headers={"Authorization": ""}).status_code == 401


@pytest.mark.parametrize("path", ["/v1/routing/history", "/v1/alerts", "/v1/investigations"])
@pytest.mark.parametrize("limit", ["0", "101", "x", ""])
def test_a_limit_that_is_none_is_refused(operator: Gateway, path: str, limit: str) -> None:
    assert operator.call("GET", f"{path}?limit={limit}").status_code == 422


# -- metrics


def test_the_metrics_tell_signals_servers_flow_and_spend(operator: Gateway, client: redis.Redis) -> None:
    write(client)
    found = scraped(operator)

    assert value(found, "tandem_signal", signal="cpu_percent", scope="server-1") == 93.5
    assert value(found, "tandem_signal_level", signal="cpu_percent", scope="server-1") == 2
    assert value(found, "tandem_signal_level", signal="response_s", scope="server-1") == 1
    assert value(found, "tandem_signal", signal="concurrent_users", scope="all") == 412
    assert value(found, "tandem_signal_threshold", signal="cpu_percent", scope="server-2", level="alert") == 80
    assert value(found, "tandem_server_standing", server="server-1", standing="saturated") == 1
    assert value(found, "tandem_server_standing", server="server-1", standing="open") == 0
    assert value(found, "tandem_server_held_services", server="server-1") == 1
    assert value(found, "tandem_routing_share") == 0.5
    assert value(found, "tandem_routing_shed_lanes") == 1
    assert value(found, "tandem_cloud_breaker_state", state="closed") == 1
    assert value(found, "tandem_cloud_breaker_state", state="open") == 0
    assert (value(found, "tandem_cloud_money_hour"), value(found, "tandem_cloud_money_hour_cap")) == (3.275, 100)
    assert (value(found, "tandem_cloud_jobs_minute"), value(found, "tandem_cloud_jobs_minute_cap")) == (48, 600)
    assert value(found, "tandem_alerts_open", name="cpu_percent", scope="server-1") == 1
    assert value(found, "tandem_routing_leader_epoch", worker=LEADER) == 7
    assert (value(found, "tandem_routing_acting"), value(found, "tandem_routing_paused")) == (1, 0)
    assert value(found, "tandem_queue_wait_seconds", service="model") == 17.3


def test_what_is_not_known_is_left_out_of_the_metrics(operator: Gateway, client: redis.Redis) -> None:
    write(client)
    found = scraped(operator)
    assert value(found, "tandem_signal", signal="memory_percent", scope="server-2") is None
    assert value(found, "tandem_signal_level", signal="memory_percent", scope="server-2") is None
    assert value(found, "tandem_queue_wait_seconds", service="chat") is None

    write(client, a_round(now_ms(client) - 11_000))
    RoutingBoard(client).pause("ann", "repairs")
    found = scraped(operator)
    of_a_round = [name for name, _ in found if name.startswith(("tandem_signal", "tandem_server", "tandem_cloud_money",
                                                                 "tandem_routing_share", "tandem_routing_leader"))]
    assert of_a_round == []
    assert value(found, "tandem_routing_paused") == 1


def test_the_delivery_of_alerts_is_counted(operator: Gateway, client: redis.Redis) -> None:
    hook, = read_hooks("https://pager.example/alerts?key=hush")
    AlertDelivery(client).begin([hook])
    client.hset("alerts:delivery", mapping={"0 sent": 3, "0 retried": 2, "0 given_up": 1, "0 events": 5})
    found = scraped(operator)

    labels = {"hook": "0", "where": hook.where}
    assert [value(found, "tandem_alert_messages_total", outcome=each, **labels)
            for each in ("sent", "retried", "given_up")] == [3, 2, 1]
    assert value(found, "tandem_alert_events_total", **labels) == 5
    assert "hush" not in operator.call("GET", "/metrics").text


def test_promtool_has_nothing_to_say_of_the_metrics_of_routing(operator: Gateway, client: redis.Redis) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed")
    write(client)
    text = operator.call("GET", "/metrics").text
    checked = subprocess.run([promtool, "check", "metrics"], input=text, capture_output=True, text=True, timeout=30,
                             check=False)

    assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")
