"""A server's sampler: what it measures itself, what its gateways and workers say, once a second, through an outage."""

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import redis

from app import topology
from app.ledger import Ledger
from app.registry import ENTRY_LIFE_S
from app.rounds import Rounds
from app.settings import Settings
from app.signal_board import SignalBoard
from app.signals import BOUNDS_S, GatewayReport, Histogram, ServerSignals
from ops import embedded_redis
from ops.embedded_redis import free_port
from ops.waiting import wait_until
from routing.sampling import Sampler


@pytest.fixture
def sampler(settings: Settings, client: redis.Redis) -> Iterator[Sampler]:
    one = Sampler(replace(settings, server="server-1"), topology.load({})[1], who="queue@server-1")
    yield one
    one.join(1)


def told(client: redis.Redis, server: str = "server-1") -> ServerSignals:
    found = SignalBoard(client).servers([server])[server]
    assert found
    return found


def register(ledger: Ledger, name: str, **changes: str | int) -> None:
    ledger.register(name, {
        "server": name.partition("@")[2], "services": name.partition("@")[0], "pid": 1, "host": "here", "processors": "P1",
        "cpus": "0", "slots": 4, "busy": 0, "idle_ms": 0, **changes}, ENTRY_LIFE_S)


def gateway(pid: int, at_ms: int, *, server: str = "server-1", slow: int = 0, requests: int = 0,
            failed: int = 0) -> GatewayReport:
    counts = [0] * (len(BOUNDS_S) + 1)
    counts[40] = slow
    return GatewayReport(server=server, pid=pid, at_ms=at_ms, calls=Histogram(), requests=requests, requests_failed=failed,
                         answers=Histogram(counts=tuple(counts), total_s=slow * 1.4))


def test_a_server_measures_its_machine(sampler: Sampler, client: redis.Redis) -> None:
    sampler.sample()
    assert told(client).cpu_percent is None, "a share takes two looks"

    def measured() -> bool:
        sampler.sample()
        return len(told(client).processors) == 5

    wait_until(measured, timeout_s=10, what="every processor to be measured")
    signals = told(client)
    assert 0 <= (signals.cpu_percent or 0) <= 100
    assert set(signals.processors) == {"P1", "P2", "P3", "P4", "P5"}
    assert 0 < (signals.memory_percent or 0) <= 100
    assert signals.at_ms == pytest.approx(SignalBoard(client).now_ms(), abs=60_000)


def test_a_servers_gateways_are_told_as_one(sampler: Sampler, client: redis.Redis) -> None:
    board = SignalBoard(client)
    sampler.sample()
    assert (told(client).calls, told(client).answers) == (None, None), "no gateway reports"
    for report in (gateway(1, board.now_ms(), slow=3, requests=10, failed=1),
                   gateway(2, board.now_ms(), slow=1, requests=5),
                   gateway(1, board.now_ms(), server="server-2", slow=50, requests=50, failed=50)):
        board.put_gateway(report)
    sampler.sample()

    signals = told(client)
    assert (signals.requests, signals.requests_failed) == (15, 1)
    assert signals.answers
    assert signals.calls
    assert (signals.answers.count, signals.answers.mean_s) == (4, pytest.approx(1.4))
    assert signals.answers.p95_s == pytest.approx(BOUNDS_S[40], rel=0.1)
    assert (signals.calls.count, signals.calls.p95_s) == (0, 0.0)


def test_a_servers_workers_are_told_with_what_they_hold_and_how_their_attempts_ended(
        sampler: Sampler, client: redis.Redis, ledger: Ledger) -> None:
    register(ledger, "model@server-1", attempts=20, attempts_failed=3, held="model")
    register(ledger, "queue@server-1", attempts=5)
    register(ledger, "model@server-2", attempts=100, attempts_failed=100)
    sampler.sample()

    signals = told(client)
    assert (signals.workers, signals.held) == (("model@server-1", "queue@server-1"), ("model",))
    assert (signals.attempts, signals.attempts_failed) == (25, 3)


def test_one_worker_for_all_services_is_sampled_the_same(
        settings: Settings, client: redis.Redis, ledger: Ledger) -> None:
    plan = topology.load({"TANDEM_PROFILE": "simplified"})[1]
    ledger.register("all@server-2", {
        "server": "server-2", "services": "auth,model,chat,cache,queue", "pid": 1, "host": "here", "processors": "P6,P7",
        "cpus": "0", "slots": 4, "busy": 0, "idle_ms": 0, "held": "chat,model"}, ENTRY_LIFE_S)
    one = Sampler(replace(settings, server="server-2"), plan, who="all@server-2")
    one.sample()
    one.join(1)

    assert (told(client, "server-2").workers, told(client, "server-2").held) == (("all@server-2",), ("chat", "model"))


def test_a_sampler_goes_on_after_an_outage_of_redis(tmp_path: Path) -> None:
    port = free_port()
    settings = Settings(redis_url=f"redis://127.0.0.1:{port}/0", data_dir=tmp_path, server="server-1")
    sampler = Sampler(settings, topology.load({})[1], who="queue@server-1")
    with redis.Redis(port=port) as client:
        sampler.start()
        try:
            for which in ("after it was not there at first", "after an outage"):
                server = embedded_redis.start(tmp_path / "redis", fsync="no", port=port)
                try:
                    client.flushall()
                    wait_until(lambda: client.exists("signals:server-1"), timeout_s=20, what=f"a sample {which}")
                finally:
                    server.stop()
        finally:
            sampler.stop()
            sampler.join(10)


# -- the pace


def test_rounds_keep_their_pace_and_survive_one_that_fails() -> None:
    began_s, times = time.monotonic(), list[float]()

    def do() -> None:
        times.append(time.monotonic() - began_s)
        raise ValueError("a bug")

    one = Rounds(do, every_s=0.1, name="testing", who="a test")
    one.start()
    wait_until(lambda: len(times) >= 20, timeout_s=20, what="twenty rounds")
    one.stop()
    one.join(5)

    assert times[19] >= 1.9 - 0.01, "no round comes early, and what a round takes is not added"
    assert times[19] < 6
