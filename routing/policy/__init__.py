"""Decides, and nothing else: no clock, no I/O. Times are arguments, so the same code runs in the routing task, in property
tests and in the simulator.

    decide(signals, rules, before, now_s) -> (after, decision)
    readings(signals) -> what the thresholds are held against, by "<signal>@<scope>"

A round goes from `readings` to `gauges` (levels), `servers` (who takes new work), `breaker` (whether the cloud is used),
`hold` (who is relieved), `flow` (what leaves, what comes home), `spend`, `shedding`, `scale`, `alerts` and `changes`.
"""

from routing.policy.decision import decide
from routing.policy.readings import readings

__all__ = ["decide", "readings"]
