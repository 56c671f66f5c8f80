"""What will a run do? Asked before a drill, to be compared with what the ledger's records say after it."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from app.routing_rules import Rules
from app.topology import Topology
from ops.simulate.load import Arrival, of_arrivals
from ops.simulate.record import Run
from ops.simulate.simulation import Policy, Simulation
from ops.simulate.world import World
from routing.policy import decide


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """The figures that can be measured on a real run as well."""

    peak_share: float  # see `ops.simulate.record.peak_share`
    cost: float  # of the jobs that ran in the cloud, as they were settled
    jobs_sent: int  # messages that MNS took; a job that came home and went again counts twice
    jobs_in_cloud: int  # whose last attempt ran in the cloud
    max_wait_s: float  # from acceptance to the first attempt
    transitions: int  # see `ops.simulate.record.TRANSITIONS`
    run: Run


def predict(arrivals: Iterable[tuple[float, float, float] | Arrival], topology: Topology, rules: Rules,
            cloud_workers: int, *, world: World | None = None, policy: Policy = decide) -> Prediction:
    """Run these jobs, (t_s, service_s, tokens) each, over the topology's servers and so many cloud workers.

    `t_s` counts from the beginning of the load, `service_s` is the job's run time at home, `tokens` what its prompt and
    answer will be. What a job reserves is the same where an `Arrival` does not say more. `world` is for the rest, as the
    time that a message takes; its count of cloud workers does not count here.
    """
    world = replace(world or World(), cloud_workers=cloud_workers)
    run = Simulation(topology, rules, world, policy).run(of_arrivals(arrivals), name="prediction")
    return Prediction(peak_share=run.peak_share, cost=run.money, jobs_sent=run.posts, jobs_in_cloud=run.in_cloud,
                      max_wait_s=run.waits_s[-1] if run.waits_s else 0.0, transitions=run.transitions().total(), run=run)
