"""How much of the host's memory this process may still take."""

from pathlib import Path

import psutil

_CGROUP = Path("/sys/fs/cgroup")
#: Limit and use of a container's memory: of cgroups version 2, and of version 1.
_FILES = (("memory.max", "memory.current"), ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"))


def free_memory(cgroup: Path = _CGROUP) -> int:
    """Return the bytes that are free: of the host, or of the container where that has a limit of its own."""
    free = int(psutil.virtual_memory().available)
    for limit, used in _FILES:
        try:
            free = min(free, max(int((cgroup / limit).read_text()) - int((cgroup / used).read_text()), 0))
        except (OSError, ValueError):  # no such version here, or "max": no limit
            continue
    return free
