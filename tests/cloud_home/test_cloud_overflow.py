"""The real policy and the cloud: the excess leaves, within the cap, and comes home; MNS fails, and works again."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import msgspec
import pytest
import redis

from app.cloud_registry import CloudRegistry
from app.job import Route, Service, State
from app.ledger import CloudLedger, Ledger, new_owner
from app.routing_board import RoutingBoard
from app.routing_records import BreakerState, Remembered, Shown
from app.settings import Settings
from app.signal_board import SignalBoard
from app.signals import ServerSignals
from ops import audit
from ops.mns_server import Fault, LocalMns
from ops.waiting import wait_until
from routing.policy import decide
from routing.task import Routing
from tests.cloud_home.stand_in import Run, StandIn
from tests.model_ledger import PLACE, a_job
from tests.routing_task import PLAN, enter, task

SOON_S = 20.0


@pytest.fixture(autouse=True)
def books_balance(client: redis.Redis, ledger: Ledger) -> Iterator[None]:
    yield
    found = audit.take(client, ledger)
    assert found.balanced, found.faults


def waiting(ledger: Ledger, count: int) -> list[str]:
    return [ledger.submit(a_job()).job_id for _ in range(count)]


def away(client: redis.Redis) -> list[str]:
    """Those that were sent and are not begun."""
    return [job_id.decode() for job_id in client.zrange("cloud", 0, -1)]


QUICK = {"routing": {"step_s": 0.2, "calm_s": 0.5, "breaker_open_s": 1.0, "breaker_failures": 2, "breaker_probes": 2}}


class Scene:
    """The real policy over real signals: two idle servers with one slow model worker each, and a cloud worker."""

    def __init__(self, client: redis.Redis, settings: Settings, one: Routing) -> None:
        self.client, self.one = client, one
        self.ledger, self.board = Ledger(client, settings), RoutingBoard(client)
        self.board.set(QUICK, rules=PLAN.rules, who="a test")
        client.hset("pace", mapping={"model": 4000, "cloud": 400})

    def round(self) -> Shown:
        """A round, after all have said how they are."""
        signals = SignalBoard(self.client)
        for name in ("server-1", "server-2"):
            signals.put_server(ServerSignals(server=name, at_ms=signals.now_ms(), cpu_percent=5.0, memory_percent=20.0,
                                             workers=(f"model@{name}",)))
            enter(self.ledger, f"model@{name}", slots=1)
        CloudRegistry(self.client).hear("cloud@a", {
            "processor": "", "slots": 8, "busy": 0, "engine": "scripted", "stopping": 0, "figures": "{}"}, life_s=60)
        CloudRegistry(self.client).say("a test", "", for_s=0.0)
        found = self.one.round()
        assert found
        assert self.one.sending
        self.one.sending.work()
        return found

    def until(self, condition: Any, what: str) -> Shown:
        found: Shown = wait_until(lambda: (now := self.round()) and condition(now) and now, timeout_s=SOON_S, what=what)
        return found


@pytest.fixture
def scene(client: redis.Redis, settings: Settings) -> Iterator[Scene]:
    with task(settings, decide=decide) as one:
        yield Scene(client, settings, one)


def test_the_excess_leaves_within_the_cap_and_comes_home_when_it_is_calm(
        client: redis.Redis, scene: Scene, ledger: Ledger, cloud: CloudLedger) -> None:
    ids = waiting(ledger, 60)
    scene.board.set({"routing": {"cloud_jobs_per_minute": 40}}, rules=PLAN.rules, who="a test")
    scene.until(lambda _: len(away(client)) == 40, "as many to leave as may")
    assert len(away(client)) == 40
    assert cloud.spend(replace(PLAN.rules, cloud_jobs_per_minute=40)).jobs_left == 0
    decision = msgspec.json.decode(ledger.read(away(client)[0]).decision or b"")
    assert decision["rule"] == "overflow"

    for job_id in ids:
        if ledger.read(job_id).route is Route.LOCAL:
            ledger.cancel(job_id)
    scene.until(lambda _: len(away(client)) < 40, "the first to come home")
    while claim := ledger.take(Service.MODEL, PLACE, owner=new_owner()):
        ledger.settle(claim, State.SUCCEEDED)
    for _ in range(200):
        if not away(client):
            break
        scene.round()
        while claim := ledger.take(Service.MODEL, PLACE, owner=new_owner()):
            ledger.settle(claim, State.SUCCEEDED)
    assert away(client) == []
    assert cloud.spend(PLAN.rules).money_hour == 0
    assert ledger.census().live == 0


def test_while_mns_is_down_jobs_are_at_home_and_it_is_said_and_afterwards_it_is_probed_and_used(
        client: redis.Redis, scene: Scene, ledger: Ledger, worker: StandIn, cloud: CloudLedger, mns: LocalMns) -> None:
    waiting(ledger, 60)
    mns.faults.add(Fault(operation="SendMessage", kind="html502"))
    scene.until(lambda now: now.remembered.breaker.state is BreakerState.OPEN, "the breaker to open")
    down = scene.until(lambda now: any(alert.name == "cloud-unreachable" for alert in now.remembered.alerts.values()),
                       "an alert")
    assert [alert.name for alert in scene.board.open_alerts()] == ["cloud-unreachable"]
    scene.until(lambda _: not away(client), "all to be at home")
    assert (ledger.census().waiting[Service.MODEL], down.remembered.share) == (60, 0.0)

    mns.faults.clear()
    scene.until(lambda now: now.decision.probe, "a probe")
    begin(worker, cloud)
    scene.until(lambda now: now.decision.probe, "another probe")
    begin(worker, cloud)
    scene.until(lambda now: now.remembered.breaker.state is BreakerState.CLOSED, "the breaker to close")
    scene.until(lambda _: len(away(client)) > 3, "more to leave")
    assert scene.board.open_alerts() == []


def begin(worker: StandIn, cloud: CloudLedger) -> None:
    """A cloud worker begins the next job that still counts."""
    while True:
        errand = worker.errand()
        if cloud.begin(errand.job, errand.ticket, PLACE, run=Run(errand.job, errand.ticket).run):
            return


def test_a_remembered_round_survives_the_way_through_redis(scene: Scene, client: redis.Redis) -> None:
    shown = scene.round()
    assert msgspec.json.decode(client.get("routing:state") or b"", type=Remembered) == shown.remembered
