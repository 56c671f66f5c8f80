"""How fast a drill goes: as shipped, or quicker, for tests. What is drilled is the same."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """`edits` replace texts of the topology file. The rest is how long what the drill itself does takes."""

    name: str
    edits: Mapping[str, str] = field(default_factory=dict)
    cpu_levels: tuple[float, float]  # normal and alert, which are set while that row is played
    alone: bool  # nothing else keeps the CPUs busy; else every server may be saturated, and none take over from another
    overload_s: float  # of load above what home can serve
    capped_s: float  # of the same, with a cap that binds
    outage_s: float  # MNS is away for so long at least
    leaders: int  # that are killed
    predicted_within: float  # the simulator's figures, of those measured
    sees_cap_end: bool  # the alert for a cap is waited for until it closes, a minute after the cap has held nothing back
    without: tuple[str, ...] = ()  # rows that are left out


#: The callers, the cloud worker and MNS share the servers' CPUs, and so may other programs; so that signal is out of reach,
#: but in its own row.
_NO_CPU = {"normal = 70.0,   alert = 80.0,": "normal = 100.0,  alert = 101.0,"}

SHIPPED = Pace(name="shipped", edits=_NO_CPU, cpu_levels=(70.0, 80.0), alone=True, overload_s=120.0,
               capped_s=40.0, outage_s=30.0, leaders=4, predicted_within=0.2, sees_cap_end=True)

#: The times of thresholds and steps are as long as they must be to be told apart.
_QUICK_TIMES = {
    "for_s = 10.0, hold_s = 60.0": "for_s = 2.0, hold_s = 4.0",
    "for_s = 5.0,  hold_s = 60.0": "for_s = 2.0, hold_s = 4.0",
    "for_s = 30.0, hold_s = 120.0": "for_s = 2.0, hold_s = 4.0",
    "for_s = 10.0, hold_s = 120.0": "for_s = 2.0, hold_s = 4.0",
    "for_s = 10.0, hold_s = 300.0": "for_s = 2.0, hold_s = 4.0",
    "\nat_cap = ": "\nstep_s = 2.0\ncalm_s = 3.0\nbreaker_open_s = 3.0\nscale_step_s = 2.0\nscale_down_s = 4.0\nat_cap = ",
}

#: For tests, which run beside others: what keeps a CPU so busy is a loop, and few jobs on a busy machine are not foretold
#: so well.
QUICK = Pace(name="quick", edits=_NO_CPU | _QUICK_TIMES, cpu_levels=(97.0, 98.5), alone=False, overload_s=25.0,
             capped_s=20.0, outage_s=6.0, leaders=2, predicted_within=0.35, sees_cap_end=False,
             without=("overflow off", "MNS frozen"))
