"""Processors onto CPUs: the labels P1, P2, ... of the topology, mapped onto the CPUs this machine lets us use.

Where there are fewer CPUs than processors they are shared round-robin, and everything that shows pins says so.
"""

import os
from collections.abc import Sequence

from app.topology import Topology


def cpus_of(processors: Sequence[int], available: Sequence[int] | None = None) -> tuple[int, ...]:
    """Return the CPU numbers for processor numbers: P1 is the first usable CPU; past the last, the first again."""
    usable = sorted(os.sched_getaffinity(0)) if available is None else list(available)
    return tuple(sorted({usable[(number - 1) % len(usable)] for number in processors}))


def sharing_notice(plan: Topology) -> str | None:
    """Return a sentence when processors have to share CPUs here, else None."""
    wanted = max(number for server in plan.servers for worker in server.workers for number in worker.processors)
    usable = len(os.sched_getaffinity(0))
    if usable >= wanted:
        return None
    return (f"the topology names processors up to P{wanted}, this machine has {usable} CPUs: they are shared round-robin, "
            f"P1 on the first CPU, P{usable + 1} on the first again")
