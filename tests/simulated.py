"""A small home and cloud to simulate, and a policy of a few lines for tests of the modelled world alone."""

from pathlib import Path
from typing import Any

from app.job import Service
from app.routing_records import Decision, Remembered
from app.routing_rules import Action, Rules, Threshold
from app.signals import Signals
from app.topology import Address, CloudSpec, Profile, Server, Topology, WorkerSpec
from ops.simulate import Policy, Run, World, parse, simulate

#: The traces that come along.
TRACES = Path(__file__).parent.parent / "ops" / "simulate" / "traces"

SERVERS = ("server-1", "server-2")
SLOTS, MOST, CLOUD_SLOTS = 4, 8, 4

#: Every job runs one second and costs a thousand tokens, so that sums can be done in the head.
EVEN = World(service_s=1.0, spread=0.0, tokens=1000.0, worst_tokens=1.0, cloud_post_s=0.0, cloud_start_s=0.1)


def thresholds() -> dict[str, Threshold]:
    """Return those of topology.toml, with times that a short trace can wait for."""
    return {
        "cpu_percent": Threshold(normal=70.0, alert=80.0, for_s=5.0, hold_s=20.0, action=Action.FAILOVER),
        "memory_percent": Threshold(normal=75.0, alert=85.0, for_s=5.0, hold_s=20.0, action=Action.FAILOVER),
        "response_s": Threshold(normal=1.0, alert=2.0, for_s=10.0, hold_s=30.0, action=Action.INVESTIGATE),
        "error_percent": Threshold(normal=1.0, alert=5.0, for_s=5.0, hold_s=30.0, action=Action.FAILOVER),
        "concurrent_users": Threshold(normal=1000.0, alert=1500.0, for_s=5.0, hold_s=60.0, action=Action.SCALE_UP)}


def a_topology(*, servers: int = 2, cloud: bool = True, **rules: Any) -> Topology:
    """Return a topology of servers with `SLOTS` slots each for the model."""
    return Topology(
        profile=Profile.PARALLEL, entry=Address("127.0.0.1", 1), flower=Address("127.0.0.1", 2),
        servers=tuple(_server(number) for number in range(1, servers + 1)),
        rules=Rules(thresholds=thresholds(), **rules),
        cloud=CloudSpec(concurrency=CLOUD_SLOTS, processors=()) if cloud else None)


def _server(number: int) -> Server:
    model = WorkerSpec(name="model", services=(Service.MODEL,), processors=(number,), concurrency=SLOTS, most=MOST)
    return Server(name=f"server-{number}", gateway=Address("127.0.0.1", 10 + number), gateway_processes=1, workers=(model,))


def run(text: str, *, policy: Policy, world: World = EVEN, topology: Topology | None = None) -> Run:
    """Run the trace that the text is."""
    return simulate(parse(text), topology or a_topology(), world=world, policy=policy)


def stay_home(_signals: Signals, _rules: Rules, before: Remembered, _now_s: float) -> tuple[Remembered, Decision]:
    """Send nothing away."""
    return before, Decision()


def send_all(_signals: Signals, _rules: Rules, before: Remembered, _now_s: float) -> tuple[Remembered, Decision]:
    """Send all that wait."""
    return before, Decision(send=1000)
