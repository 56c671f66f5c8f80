"""The world that is simulated: how servers, jobs and the cloud behave. Values only.

Each is a guess about your machines; `python -m ops.simulate` takes every number as an option (`--service-s 3`).
"""

from dataclasses import dataclass, field
from typing import Any

from app.settings import Settings

#: How long a leader that is gone is waited for: the lease of the routing task's lead.
LEAD_S = 3.0


def _option(default: float, meaning: str) -> Any:
    return field(default=default, metadata={"meaning": meaning})


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """How it all behaves; each option's meaning is its help."""

    seed: int = _option(1, "of the random numbers: the same seed, the same run")
    service_s: float = _option(2.0, "mean run time of a job at home, where the trace does not say")
    spread: float = _option(0.5, "standard deviation of run times, in parts of the mean (lognormal); 0: all alike")
    tokens: float = _option(500.0, "mean tokens of a job's prompt and answer, where the trace does not say; longer jobs "
                                   "have more")
    worst_tokens: float = _option(2.0, "a job may cost so many times the mean of tokens: that is reserved when it is sent")
    first_word: float = _option(0.1, "part of its run time after which a job says its first word")
    call_s: float = _option(0.01, "that a gateway takes to answer a request")
    crowding: float = _option(0.0, "0: slots beyond a pool's first ones are as fast; 1: they slow all as much as they add")
    cpu_idle_percent: float = _option(5.0, "CPU of a server without jobs")
    cpu_full_percent: float = _option(40.0, "CPU of a server whose first slots are all busy")
    memory_idle_percent: float = _option(30.0, "memory of a server without jobs")
    memory_full_percent: float = _option(45.0, "memory of a server whose first slots are all busy")
    cloud_workers: int = _option(1, "that run at the beginning")
    cloud_pace: float = _option(1.0, "run time of a job in the cloud, in parts of that at home")
    cloud_post_s: float = _option(0.02, "that MNS takes for one message; they go one after the other")
    cloud_start_s: float = _option(0.3, "from there to a free slot")
    cloud_worker_start_s: float = _option(60.0, "until a cloud worker that scale-up asked for takes jobs")
    after_s: float = _option(3600.0, "how long the run goes on at most after the trace, until the last job has ended")
    settings: Settings = field(default_factory=Settings)  # leases, attempts, delays
