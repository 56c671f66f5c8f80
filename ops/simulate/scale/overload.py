"""More servers under the same overload, simulated: each size twice, with the caps of the file, and with caps that have
grown with the servers."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from app.routing_records import Decision, Remembered
from app.routing_rules import Rules
from app.signals import Signals
from app.topology import Server, Topology
from ops.simulate.record import Run
from ops.simulate.simulation import simulate
from ops.simulate.trace import Row, Trace
from ops.simulate.world import World
from routing.policy import decide

#: In parts of what home can do: before, in the overload, after; and for how long.
_PARTS = ((0.7, 60), (1.25, 120), (0.4, 60))
_SERVICE_S = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Overload:
    """A run, and what the policy took of it."""

    servers: int
    grown_caps: bool
    run: Run
    round_ms: float  # of the policy, mean
    longest_ms: float


def runs(plan: Topology, sizes: Sequence[int]) -> list[Overload]:
    """Simulate each size."""
    return [_run(grow(plan, servers), grown_caps=grown) for servers in sizes for grown in (False, True)]


def grow(plan: Topology, servers: int) -> Topology:
    """Return the topology with so many servers like its first."""
    return replace(plan, servers=tuple(_copy(plan.servers[0], number) for number in range(1, servers + 1)))


def _copy(server: Server, number: int) -> Server:
    return replace(server, name=f"server-{number}")


def _run(plan: Topology, *, grown_caps: bool) -> Overload:
    servers = len(plan.servers)
    slots = sum(worker.concurrency for server in plan.servers for worker in server.workers if worker.name == "model")
    rows, second = [], 0
    for part, for_s in _PARTS:
        rows.append(Row(second=second, for_s=for_s, jobs=part * slots / _SERVICE_S, users=20 * servers))
        second += for_s
    rules = plan.rules if not grown_caps else replace(
        plan.rules, cloud_jobs_per_minute=plan.rules.cloud_jobs_per_minute * servers // 2,
        cloud_money_per_hour=plan.rules.cloud_money_per_hour * servers / 2)
    times: list[float] = []

    def timed(signals: Signals, rules: Rules, before: Remembered, now_s: float) -> tuple[Remembered, Decision]:
        began = time.perf_counter()
        decided = decide(signals, rules, before, now_s)
        times.append(time.perf_counter() - began)
        return decided

    run = simulate(Trace(name=f"{servers} servers", rows=tuple(rows)), plan, rules=rules, policy=timed,
                   world=World(service_s=_SERVICE_S, cloud_workers=max(servers // 2, 1)))
    return Overload(servers=servers, grown_caps=grown_caps, run=run, round_ms=1000 * sum(times) / len(times),
                    longest_ms=1000 * max(times))
