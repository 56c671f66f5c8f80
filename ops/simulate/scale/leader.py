"""A round of the leader: how long it takes to gather what so many servers say, and to decide."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from app.job import Service
from app.ledger import Ledger
from app.routing_records import Remembered
from app.settings import Settings
from app.signal_board import SignalBoard
from app.signals import ServerSignals, Signals, Times
from app.store import open_redis
from app.topology import Topology
from ops.simulate.scale.overload import grow
from ops.simulate.scale.redis_cost import register
from routing.gathering import Gathering
from routing.policy import decide

_TIMES = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaderRound:
    """What one round takes, mean."""

    servers: int
    workers: int
    gather_ms: float
    decide_ms: float


def measure(settings: Settings, plan: Topology, *, servers: int) -> LeaderRound:
    """Let so many servers speak once, and gather and decide some times while that is believed."""
    plan = replace(grow(plan, servers), cloud=None)
    with open_redis(settings) as client:
        client.flushall()
        ledger, board = Ledger(client, settings), SignalBoard(client)
        gathering = Gathering(client, settings, plan)
        for server in plan.servers:
            for service in Service:
                register(ledger, server.name, service)
            board.put_server(_signals(server.name, board.now_ms()))
        signals = gathering.gather(plan.rules)
        gather_ms = _mean_ms(lambda: gathering.gather(plan.rules))
    return LeaderRound(servers=servers, workers=servers * len(Service), gather_ms=gather_ms,
                       decide_ms=_decide_ms(plan, signals))


def _decide_ms(plan: Topology, signals: Signals) -> float:
    after, _ = decide(signals, plan.rules, Remembered(), signals.at_ms / 1000)
    return _mean_ms(lambda: decide(signals, plan.rules, after, signals.at_ms / 1000 + 1))


def _mean_ms(act: Callable[[], object]) -> float:
    began = time.perf_counter()
    for _ in range(_TIMES):
        act()
    return 1000 * (time.perf_counter() - began) / _TIMES


def _signals(server: str, at_ms: int) -> ServerSignals:
    some = Times(count=500, mean_s=0.02, p50_s=0.02, p95_s=0.05)
    return ServerSignals(server=server, at_ms=at_ms, cpu_percent=40.0, processors=dict.fromkeys("abcde", 40.0),
                         memory_percent=40.0, calls=some, answers=some, requests=500, attempts=500,
                         workers=tuple(f"{service.value}@{server}" for service in Service))
