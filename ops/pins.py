"""What an operator is told of processors that share CPUs. The mapping itself is `app.processors`'."""

import os

from app.processors import cpus_of as cpus_of
from app.topology import Topology


def sharing_notice(plan: Topology) -> str | None:
    """Return a sentence when processors have to share CPUs here, else None."""
    wanted = max(number for server in plan.servers for worker in server.workers for number in worker.processors)
    usable = len(os.sched_getaffinity(0))
    if usable >= wanted:
        return None
    return (f"the topology names processors up to P{wanted}, this machine has {usable} CPUs: they are shared round-robin, "
            f"P1 on the first CPU, P{usable + 1} on the first again")
