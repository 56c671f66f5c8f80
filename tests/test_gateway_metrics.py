"""`/metrics`: what it counts, by which names, and who may see it."""

import os
import re

import pytest
import redis
from prometheus_client.parser import text_string_to_metric_families

from app.accounts import Role
from app.job import Service
from app.ledger import Ledger
from app.settings import Settings
from tests.gateway import Gateway

TOKEN = "a-token-for-the-scraper"


@pytest.fixture
def gateway(settings: Settings, client: redis.Redis) -> Gateway:
    return Gateway(settings, client)


@pytest.fixture
def operator(gateway: Gateway) -> Gateway:
    return gateway.another("operator", Role.OPERATOR)


def scraped(operator: Gateway) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Every sample, by name and labels."""
    answer = operator.call("GET", "/metrics")
    assert answer.status_code == 200, answer.text
    return {(sample.name, frozenset(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(answer.text) for sample in family.samples}


def value(operator: Gateway, name: str, **labels: str) -> float:
    return scraped(operator)[name, frozenset(labels.items())]


def test_jobs_are_counted_by_their_end(gateway: Gateway, operator: Gateway) -> None:
    gateway.submit("a")
    gateway.call("DELETE", f"/v1/jobs/{gateway.submit('b')}")

    assert value(operator, "tandem_jobs_accepted_total") == 2
    assert value(operator, "tandem_jobs_ended_total", state="cancelled") == 1
    assert value(operator, "tandem_jobs_ended_total", state="succeeded") == 0
    assert value(operator, "tandem_books_balanced") == 1


def test_queues_are_told_service_by_service(gateway: Gateway, operator: Gateway, client: redis.Redis) -> None:
    client.hset("windows", "model", 2)
    jobs = [gateway.submit(name) for name in "abc"]
    client.hincrby(f"job:{jobs[1]}", "created_ms", -60_000)

    expectations = {"waiting_jobs": 3, "woken_jobs": 2, "backlog_jobs": 1, "messages": 2, "running_jobs": 0, "held_jobs": 0}
    for name, expected in expectations.items():
        assert value(operator, f"tandem_queue_{name}", service="model") == expected, name
    assert 60 <= value(operator, "tandem_queue_oldest_wait_seconds", service="model") < 90
    assert {service: value(operator, "tandem_queue_waiting_jobs", service=service) for service in Service} == {
        service: 3 if service is Service.MODEL else 0 for service in Service}


def test_workers_tell_their_slots_and_figures(operator: Gateway, ledger: Ledger) -> None:
    ledger.register("cache@server-1", {
        "server": "server-1", "services": "cache", "pid": 1, "host": "h", "processors": "P4", "cpus": "0", "slots": 8,
        "busy": 3, "idle_ms": 0, "figures": '{"cache_hits": 7}'}, 15)

    labels = {"worker": "cache@server-1", "server": "server-1"}
    assert value(operator, "tandem_worker_up", services="cache", **labels) == 1
    assert value(operator, "tandem_worker_slots", services="cache", **labels) == 8
    assert value(operator, "tandem_worker_busy_slots", services="cache", **labels) == 3
    assert value(operator, "tandem_worker_figure", figure="cache_hits", **labels) == 7


def test_requests_are_counted_by_route_and_class_of_status_and_callers_make_no_labels(
        gateway: Gateway, operator: Gateway) -> None:
    gateway.submit()
    for path in ("/v1/jobs/1", "/v1/jobs/2", "/nowhere", "/elsewhere"):
        gateway.call("GET", path)
    gateway.call("BREW", "/v1/jobs")

    name, here = "tandem_gateway_request_duration_seconds", {"gateway": "gateway", "process": str(os.getpid())}
    assert value(operator, f"{name}_count", route="/v1/jobs", method="POST", status="2xx", **here) == 1
    assert value(operator, f"{name}_count", route="/v1/jobs/<job_id>", method="GET", status="4xx", **here) == 2
    assert value(operator, f"{name}_count", route="none", method="none", status="4xx", **here) == 3
    samples = scraped(operator)
    buckets = [found for (sample, labels), found in samples.items()
               if sample == f"{name}_bucket" and {("route", "/v1/jobs"), ("status", "2xx")} <= labels]
    assert buckets == sorted(buckets)
    assert buckets[-1] == 1
    assert 0 < value(operator, f"{name}_sum", route="/v1/jobs", method="POST", status="2xx", **here) < 5


def test_names_and_units_follow_the_convention(gateway: Gateway, operator: Gateway) -> None:
    gateway.submit()
    families = list(text_string_to_metric_families(operator.call("GET", "/metrics").text))

    assert len({family.name for family in families}) == len(families) > 15
    for family in families:
        assert re.fullmatch(r"tandem_[a-z_]+", family.name)
        assert family.documentation
        assert not re.search(r"_(ms|millis\w*|minutes|total|count)$", family.name), "units are base units"
    types = {family.name: family.type for family in families}
    assert types["tandem_jobs_ended"] == "counter"
    assert types["tandem_gateway_request_duration_seconds"] == "histogram"


def test_it_is_for_operators(gateway: Gateway, operator: Gateway) -> None:
    assert gateway.call("GET", "/metrics").status_code == 403
    assert gateway.call("GET", "/metrics", headers={"Authorization": ""}).status_code == 401
    assert operator.call("GET", "/metrics").headers["Content-Type"].startswith("text/plain; version=")


def test_a_scraper_has_a_token_of_its_own_which_opens_nothing_else(client: redis.Redis, settings: Settings) -> None:
    gateway = Gateway(Settings(redis_url=settings.redis_url, data_dir=settings.data_dir, metrics_token=TOKEN), client)

    assert gateway.call("GET", "/metrics", headers={"Authorization": f"Bearer {TOKEN}"}).status_code == 200
    for wrong in (TOKEN[:-1], TOKEN + "x", ""):
        assert gateway.call("GET", "/metrics", headers={"Authorization": f"Bearer {wrong}"}).status_code == 401
    for path in ("/v1/status", "/v1/jobs"):
        assert gateway.call("GET", path, headers={"Authorization": f"Bearer {TOKEN}"}).status_code == 401


def test_a_scraper_that_asks_for_openmetrics_gets_it(operator: Gateway) -> None:
    answer = operator.call("GET", "/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})

    assert answer.headers["Content-Type"].startswith("application/openmetrics-text")
    assert answer.text.endswith("# EOF\n")
