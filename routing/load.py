"""How busy a server's processors are, from the kernel's figures in /proc/stat.

Several servers may share a machine, and several processors a CPU: what is told of a processor is how busy the CPUs behind
it are, whoever keeps them so.
"""

import os
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from app.processors import cpus_of
from app.topology import Server

#: Busy is told as the share of the last seconds: short enough to follow, and no single request is an alarm.
LOAD_S = 5.0

_IDLE = (3, 4)  # of a line of /proc/stat: idle, and waiting for a disk (proc_stat(5))
_GUEST = 8  # from here on, times that are part of those before


@dataclass(frozen=True, slots=True)
class Ticks:
    """What a CPU has done since the start, in clock ticks."""

    busy: int
    total: int


def read_ticks(text: str) -> dict[int, Ticks]:
    """Return what each CPU has done, by its number, from the text of /proc/stat. Time that the hypervisor took counts as
    busy: it was not free for us."""
    found = {}
    for line in text.splitlines():
        name, _, figures = line.partition(" ")
        if name.startswith("cpu") and name[3:].isdigit():
            each = [int(figure) for figure in figures.split()][:_GUEST]
            total = sum(each)
            found[int(name[3:])] = Ticks(total - sum(each[index] for index in _IDLE), total)
    return found


def usable_cpus() -> list[int]:
    """Return the CPUs that labels are mapped onto: those of the process that started this one, which is pinned itself."""
    try:
        parents = os.sched_getaffinity(os.getppid())
    except OSError:  # it has just gone
        parents = set()
    return sorted(parents | os.sched_getaffinity(0))


def processors_of(server: Server, available: list[int]) -> dict[str, tuple[int, ...]]:
    """Return the CPUs behind each of a server's processors, by label."""
    numbers = sorted({number for worker in server.workers for number in worker.processors})
    return {f"P{number}": cpus_of([number], available) for number in numbers}


class ProcessorLoad:
    """How busy CPUs were over the last `LOAD_S`. Hand it what they have done, now and then."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, Mapping[int, Ticks]]] = deque()

    def note(self, now_s: float, ticks: Mapping[int, Ticks]) -> None:
        """Take what the CPUs have done up to now (any clock that only grows)."""
        self._seen.append((now_s, ticks))
        while len(self._seen) > 2 and self._seen[1][0] <= now_s - LOAD_S:  # the first is to be `LOAD_S` old, or just older
            self._seen.popleft()

    def percent(self, cpus: Iterable[int]) -> float | None:
        """Return how busy these were, together, in percent; None where that is not known yet."""
        if not self._seen:
            return None
        before, now = self._seen[0][1], self._seen[-1][1]
        both = [(before[cpu], now[cpu]) for cpu in set(cpus) if cpu in before and cpu in now]
        total = sum(new.total - old.total for old, new in both)
        busy = sum(new.busy - old.busy for old, new in both)
        return min(max(100.0 * busy / total, 0.0), 100.0) if total > 0 else None
