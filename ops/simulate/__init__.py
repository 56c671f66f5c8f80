"""The simulator: runs the routing policy over a load trace in virtual time, with modelled servers and a modelled cloud.

    trace = read(Path("ops/simulate/traces/server-failure.csv"))
    run = simulate(trace, topology)                                    # as the topology's rules have it
    run = simulate(trace, topology, rules=topology.rules.changed(...)) # what would these thresholds have cost?

The policy is the one that acts (`routing.policy.decide`). Everything else is a model, whose figures are in `World`: its
answers are as good as those.
"""

from ops.simulate.load import Arrival, of_arrivals, of_trace
from ops.simulate.prediction import Prediction, predict
from ops.simulate.record import Run, peak_share
from ops.simulate.simulation import Policy, Simulation, simulate
from ops.simulate.trace import BadTrace, Trace, parse, read
from ops.simulate.world import World

__all__ = ["Arrival", "BadTrace", "Policy", "Prediction", "Run", "Simulation", "Trace", "World", "of_arrivals", "of_trace",
           "parse", "peak_share", "predict", "read", "simulate"]
