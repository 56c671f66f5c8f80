"""What the leader gathers: servers, queues, callers and the cloud, as they stand at one moment."""

from dataclasses import replace

import pytest
import redis

from app import queues, topology
from app.cloud_registry import CloudRegistry
from app.errors import StoreUnavailable
from app.job import Service, State
from app.ledger import CloudLedger, Ledger
from app.registry import ENTRY_LIFE_S
from app.routing_rules import Rules
from app.settings import Settings
from app.signal_board import SignalBoard
from app.signals import CloudSignals, QueueSignals, ServerSignals, Signals
from app.topology import Topology
from ops.embedded_redis import free_port
from routing.gathering import Gathering
from tests.ledger_cloud import begun_job, send
from tests.model_ledger import a_job, a_running_job

RULES = Rules(cloud_jobs_per_minute=10, cloud_price_per_job=0.5)


@pytest.fixture
def plan() -> Topology:
    return topology.load({})[1]


@pytest.fixture
def gathering(client: redis.Redis, settings: Settings, plan: Topology) -> Gathering:
    return Gathering(client, settings, plan)


def register(client: redis.Redis, ledger: Ledger, name: str, services: str, **changes: object) -> None:
    """A worker that has just beaten."""
    ledger.register(name, {
        "server": name.partition("@")[2], "services": services, "pid": 1, "host": "here", "processors": "P1", "cpus": "0",
        "slots": 4, "busy": 0, "idle_ms": 0, "held": "", **changes}, ENTRY_LIFE_S)  # type: ignore[arg-type]


def gathered(gathering: Gathering, service: Service = Service.MODEL) -> QueueSignals:
    return gathering.gather(RULES).queues[service.value]


def test_of_an_idle_tandem_nothing_waits_and_nobody_is_heard(gathering: Gathering) -> None:
    signals = gathering.gather(RULES)

    assert signals.servers == {"server-1": None, "server-2": None}
    assert signals.queues == {service.value: QueueSignals() for service in Service}
    assert (signals.users, signals.cloud) == (0, None)


def test_a_server_is_there_while_it_tells_of_itself(gathering: Gathering, client: redis.Redis) -> None:
    board = SignalBoard(client)
    told = ServerSignals(server="server-2", at_ms=board.now_ms(), cpu_percent=50.0)
    board.put_server(told)

    signals = gathering.gather(RULES)
    assert signals.servers == {"server-1": None, "server-2": told}
    assert 0 <= signals.at_ms - told.at_ms < 60_000


def test_a_queue_is_told_with_its_wait(gathering: Gathering, client: redis.Redis, ledger: Ledger) -> None:
    register(client, ledger, "model@server-1", "model")
    for service in (Service.MODEL, Service.CHAT):
        a_running_job(ledger, service)
    jobs = [ledger.submit(a_job()).job_id for _ in range(13)]
    client.hincrby(f"job:{jobs[0]}", "created_ms", -60_000)
    client.hset("pace", "model", 2000)

    model, chat = gathered(gathering), gathered(gathering, Service.CHAT)
    assert (model.waiting, model.reserved, model.running, model.slots, model.pace_s) == (13, 8, 1, 4, 2.0)
    assert (model.wait_s, 60 <= model.oldest_s < 90) == (11 / 2, True)
    assert (chat.waiting, chat.running, chat.slots, chat.pace_s, chat.wait_s) == (0, 1, 0, None, None)


def test_slots_are_those_of_workers_that_live_and_take_new_jobs(
        gathering: Gathering, client: redis.Redis, ledger: Ledger, settings: Settings) -> None:
    register(client, ledger, "model@server-1", "model", slots=4)
    register(client, ledger, "model@server-2", "model", slots=8, held="model")
    register(client, ledger, "all@server-3", "model,chat", slots=16, held="chat")
    register(client, ledger, "model@server-4", "model", slots=32)
    client.hincrby("worker:model@server-4", "beat_ms", -round(settings.beat_s * 3000) - 1000)

    assert gathered(gathering).slots == 20
    assert gathered(gathering, Service.CHAT).slots == 0


def test_of_a_worker_for_several_services_a_service_has_the_slots_that_the_others_leave(
        gathering: Gathering, client: redis.Redis, ledger: Ledger) -> None:
    register(client, ledger, "all@server-1", "auth,model,chat,cache,queue", slots=3)
    for service in (Service.CHAT, Service.MODEL):
        a_running_job(ledger, service)
    assert gathered(gathering).slots == gathered(gathering, Service.CHAT).slots == 2
    assert gathered(gathering, Service.CACHE).slots == 1

    for _ in range(2):
        a_running_job(ledger, Service.CHAT)
    assert gathered(gathering).slots == 1, "a chat that ends makes room"


def test_the_rate_is_what_ended_at_home_between_two_rounds(
        gathering: Gathering, ledger: Ledger, client: redis.Redis, settings: Settings) -> None:
    away = begun_job(ledger, CloudLedger(client, settings))
    first, second = a_running_job(ledger), a_running_job(ledger)
    before = gathering.gather(RULES)
    assert before.queues["model"].rate is None
    for claim in (away, first, second):
        ledger.settle(claim, State.SUCCEEDED)
    after = gathering.gather(RULES)

    assert after.at_ms > before.at_ms
    assert after.queues["model"].rate == pytest.approx(2000 / (after.at_ms - before.at_ms), rel=1e-3)


# -- the cloud


@pytest.fixture
def with_cloud(client: redis.Redis, settings: Settings, plan: Topology) -> Gathering:
    return Gathering(client, replace(settings, mns_url="mns://127.0.0.1:1"), plan)


def cloud_of(signals: Signals) -> CloudSignals:
    assert signals.cloud
    return signals.cloud


def test_the_cloud_is_told_as_home_knows_it(
        with_cloud: Gathering, ledger: Ledger, client: redis.Redis, settings: Settings) -> None:
    cloud, registry = CloudLedger(client, settings), CloudRegistry(client)
    begun_job(ledger, cloud)
    for _ in range(3):
        ledger.submit(a_job())
    send(cloud, 2)
    cloud.posted(taken=3, failed=1)
    client.hset("pace", "cloud", 1500)
    for name, stopping in (("one", 0), ("two", 1)):
        registry.hear(name, {"processor": "", "slots": 8, "busy": 1, "engine": "scripted", "stopping": stopping,
                             "figures": "{}"}, life_s=30)
    registry.say("queue@server-1 sending", "", for_s=1)

    signals = with_cloud.gather(RULES)
    told = cloud_of(signals)
    assert (told.reachable, told.workers, told.slots, told.sent, told.running, told.pace_s) == (True, 1, 8, 2, 1, 1.5)
    assert (told.posts, told.posts_failed, told.begun, told.lapsed) == (3, 1, 1, 0)
    assert (told.jobs_minute, told.jobs_left) == (3, 7)
    assert (signals.queues["model"].waiting, signals.queues["model"].running) == (1, 0)


def test_a_cloud_of_which_nobody_says_anything_is_neither_reached_nor_not(with_cloud: Gathering) -> None:
    told = cloud_of(with_cloud.gather(RULES))

    assert (told.reachable, told.workers, told.slots, told.pace_s) == (None, 0, 0, None)


def test_without_redis_nothing_is_gathered(settings: Settings, plan: Topology) -> None:
    with redis.Redis(port=free_port()) as nowhere, pytest.raises(StoreUnavailable):
        Gathering(nowhere, settings, plan).gather(RULES)


# -- many jobs


def test_of_more_jobs_than_are_looked_at_a_part_stands_for_all(client: redis.Redis, ledger: Ledger) -> None:
    for service in [Service.MODEL] * 45 + [Service.CHAT] * 15:
        a_running_job(ledger, service)

    exact, drawn = queues.read(client), queues.read(client, drawn=20)
    assert (exact[Service.MODEL].running, exact[Service.CHAT].running) == (45, 15)
    assert drawn[Service.MODEL].running + drawn[Service.CHAT].running == 60
    assert drawn[Service.MODEL].running in range(15, 61, 3), "each of 20 stands for three"
