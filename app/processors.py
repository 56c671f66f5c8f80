"""Processors onto CPUs: the labels P1, P2, ... of the topology, mapped onto the CPUs this machine lets us use.

Where there are fewer CPUs than processors they are shared round-robin, and everything that shows pins says so.
"""

import os
from collections.abc import Sequence


def cpus_of(processors: Sequence[int], available: Sequence[int] | None = None) -> tuple[int, ...]:
    """Return the CPU numbers for processor numbers: P1 is the first usable CPU; past the last, the first again."""
    usable = sorted(os.sched_getaffinity(0)) if available is None else list(available)
    return tuple(sorted({usable[(number - 1) % len(usable)] for number in processors}))
