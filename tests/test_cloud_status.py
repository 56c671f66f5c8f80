"""How the cloud stands, as operators are told by `/v1/status` and `/metrics`, and as it is said in Redis."""

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import redis
from prometheus_client.parser import text_string_to_metric_families

from app.accounts import Role
from app.api import openapi
from app.cloud_registry import CloudRegistry
from app.ledger import Claim, CloudLedger, Ledger, Place
from app.routing_rules import Rules
from app.settings import Settings
from routing.cloud.fleet import GONE_S, Fleet
from routing.cloud.link import Link
from tests.clock import Clock
from tests.cloud_home.stand_in import StandIn, counting
from tests.gateway import Gateway
from tests.model_ledger import a_job
from tests.test_gateway_openapi import faults, told

URL = "mns://127.0.0.1:1"
WHY = "Unreachable: nobody answers"


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return replace(settings, mns_url=URL)


@pytest.fixture
def operator(settings: Settings, client: redis.Redis) -> Gateway:
    return Gateway(settings, client, role=Role.OPERATOR, name="operator")


@pytest.fixture
def registry(client: redis.Redis) -> CloudRegistry:
    return CloudRegistry(client)


@pytest.fixture
def fleet(client: redis.Redis, settings: Settings) -> Fleet:
    return Fleet(client, settings)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def link(registry: CloudRegistry, clock: Clock) -> Link:
    return Link(registry, "queue@server-1 hearing", clock=clock)


@pytest.fixture
def counted() -> Callable[[str], int]:
    return counting()


def cloud_of(operator: Gateway) -> Any:
    answer = operator.call("GET", "/v1/status")
    assert answer.status_code == 200, answer.text
    assert answer.json is not None
    return answer.json["cloud"]


def metrics(operator: Gateway) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    families = text_string_to_metric_families(operator.call("GET", "/metrics").text)
    return {(sample.name, frozenset(sample.labels.items())): sample.value
            for family in families for sample in family.samples}


# -- what operators are told


def test_without_a_cloud_there_is_none(client: redis.Redis, settings: Settings) -> None:
    gateway = Gateway(replace(settings, mns_url=""), client, role=Role.OPERATOR)

    assert cloud_of(gateway) is None
    assert not [name for name, _ in metrics(gateway) if name.startswith("tandem_cloud")]


def test_a_cloud_that_nobody_at_home_speaks_of_may_be_reachable_or_not(operator: Gateway) -> None:
    assert cloud_of(operator) == {"url": URL, "prefix": "tandem", "reachable": None, "links": [], "sent": 0, "running": 0,
                                  "workers": []}


def test_the_status_tells_jobs_workers_and_whether_the_queues_are_reached(
        operator: Gateway, client: redis.Redis, settings: Settings, ledger: Ledger, fleet: Fleet, link: Link,
        clock: Clock) -> None:
    cloud = CloudLedger(client, settings)
    claims = [cloud.send_job(ledger.submit(a_job()).job_id, decision=b"{}", rules=Rules()) for _ in range(3)]
    assert isinstance(claims[0], Claim)
    cloud.begin(claims[0].id, claims[0].owner, Place(worker="cloud@a", server="cloud", processor=""), run="r")
    worker = StandIn(settings)
    worker.busy = 1
    fleet.hear(worker.worker())
    link.down(OSError("nobody answers"))
    clock.now_s += 7
    link.tell()

    found = cloud_of(operator)
    (living,) = found["workers"]
    assert 0 <= living.pop("heard_s") < 5
    assert living == {"name": "cloud@a", "processors": ["P11"], "slots": 4, "busy": 1, "engine": "scripted",
                      "stopping": False, "figures": {"batch": 1}}
    assert (found["sent"], found["running"], found["reachable"]) == (2, 1, False)
    assert found["links"] == [{"thread": "queue@server-1 hearing", "reachable": False, "why": "OSError: nobody answers",
                               "for_s": 7.0}]


def test_the_metrics_tell_the_same(operator: Gateway, settings: Settings, client: redis.Redis, ledger: Ledger, fleet: Fleet,
                                   link: Link) -> None:
    CloudLedger(client, settings).send_job(ledger.submit(a_job()).job_id, decision=b"{}", rules=Rules())
    fleet.hear(StandIn(settings).worker())
    link.up()

    found = metrics(operator)
    of_worker = frozenset({("worker", "cloud@a")})
    assert found["tandem_cloud_reachable", frozenset({("thread", "queue@server-1 hearing")})] == 1
    assert found["tandem_cloud_jobs_sent_total", frozenset()] == 1
    assert found["tandem_cloud_jobs_came_home_total", frozenset()] == 0
    assert found["tandem_cloud_jobs", frozenset({("state", "sent")})] == 1
    assert found["tandem_cloud_jobs", frozenset({("state", "running")})] == 0
    assert (found["tandem_cloud_worker_slots", of_worker], found["tandem_cloud_worker_busy_slots", of_worker]) == (4, 0)
    assert found["tandem_cloud_worker_silent_seconds", of_worker] < 5
    assert found["tandem_cloud_worker_figure", of_worker | {("figure", "batch")}] == 0


@pytest.mark.parametrize("heard", [False, True])
def test_the_status_is_as_documented(operator: Gateway, settings: Settings, fleet: Fleet, link: Link, heard: bool) -> None:
    if heard:
        fleet.hear(StandIn(settings).worker())
        link.down(OSError("nobody answers"))
    document = openapi.document()

    schema = told(document, "/v1/status", "get", 200, "application/json")
    assert faults(document, schema, operator.call("GET", "/v1/status").json) == []


# -- links


def test_an_outage_is_logged_once_and_so_is_its_end(link: Link, counted: Callable[[str], int]) -> None:
    link.up()
    for _ in range(5):
        link.down(OSError("nobody answers"))
    for _ in range(5):
        link.up()

    assert (counted("cloud_unreachable"), counted("cloud_reachable")) == (1, 1)


def test_the_pause_after_a_failure_grows_to_half_a_minute_and_is_short_again_after_a_success(link: Link) -> None:
    pauses = []
    for _ in range(12):
        link.down(OSError("nobody answers"))
        pauses.append(link.pause_s)
    assert 0.75 <= pauses[0] <= 1
    assert all(earlier < later for earlier, later in pairwise(pauses[:5]))
    assert 22.5 <= pauses[-1] <= 30
    for _ in range(1100):  # some nine hours
        link.down(OSError("nobody answers"))
        assert 22.5 <= link.pause_s <= 30
    link.up()
    link.down(OSError("nobody answers"))
    assert link.pause_s <= 1


def test_what_a_thread_no_longer_says_is_not_believed(link: Link, registry: CloudRegistry, client: redis.Redis) -> None:
    link.up()
    assert [found.reachable for found in registry.links()] == [True]
    said = client.hget("cloud:links", "queue@server-1 hearing")
    client.hset("cloud:links", "queue@server-1 hearing", said.replace(b'"said_ms":1', b'"said_ms":'))
    assert registry.links() == []


def test_a_thread_that_ends_is_not_spoken_of(link: Link, registry: CloudRegistry) -> None:
    link.up()
    link.end()
    assert registry.links() == []


def test_a_link_is_said_again_only_when_it_is_time_or_it_changes(link: Link, client: redis.Redis, clock: Clock) -> None:
    link.up()
    client.delete("cloud:links")
    link.up()
    link.tell()
    assert not client.exists("cloud:links")
    link.down(OSError("nobody answers"))
    assert client.exists("cloud:links")
    client.delete("cloud:links")
    clock.now_s += 6
    link.tell()
    assert client.exists("cloud:links")


# -- the fleet


def test_a_worker_is_a_newcomer_when_it_is_heard_first_or_after_a_silence(
        fleet: Fleet, settings: Settings, client: redis.Redis) -> None:
    worker = StandIn(settings).worker()

    assert fleet.hear(worker)
    assert not fleet.hear(worker)
    assert 0 < client.pttl("cloud:worker:cloud@a") <= 20_000
    client.delete("cloud:worker:cloud@a")
    assert (fleet.live(), fleet.known()) == ([], {"cloud@a"})
    assert fleet.hear(worker)
    assert fleet.live() == ["cloud@a"]


def test_a_worker_is_gone_after_an_hour_of_silence(fleet: Fleet, settings: Settings, client: redis.Redis) -> None:
    fleet.hear(StandIn(settings, "cloud@a").worker())
    fleet.hear(StandIn(settings, "cloud@b").worker())
    assert fleet.gone() == []
    client.zincrby("cloud:workers", -1000 * GONE_S, "cloud@a")
    assert fleet.gone() == ["cloud@a"]
    fleet.forget("cloud@a")
    assert (fleet.gone(), fleet.known()) == ([], {"cloud@b"})


def test_an_entry_that_cannot_be_read_is_passed_over(fleet: Fleet, settings: Settings, client: redis.Redis,
                                                     registry: CloudRegistry) -> None:
    fleet.hear(StandIn(settings, "cloud@a").worker())
    fleet.hear(StandIn(settings, "cloud@b").worker())
    client.hset("cloud:worker:cloud@a", "slots", "many")
    client.hset("cloud:links", "queue@server-1 hearing", "{")

    assert (fleet.live(), registry.links()) == (["cloud@b"], [])


def test_stops_to_all_are_remembered_for_some_minutes(fleet: Fleet, client: redis.Redis) -> None:
    fleet.remember(["t1", "t2"])
    client.zincrby("cloud:void", -700_000, "t1")
    assert fleet.remembered() == ["t2"]
    fleet.remember(["t3"])
    assert client.zrange("cloud:void", 0, -1) == [b"t2", b"t3"]
    assert fleet.remembered() == ["t2", "t3"]
