"""What a live worker says of itself."""

from dataclasses import dataclass

from app.job import Service

Figures = dict[str, int | float]


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerEntry:
    """A live worker process."""

    name: str  # Celery node name, e.g. "model@server-1"
    server: str
    services: tuple[Service, ...]
    pid: int
    host: str  # of the machine, to know whether the pid is ours
    processors: tuple[str, ...]  # labels, e.g. "P2"
    cpus: tuple[int, ...]  # numbers of the CPUs it may run on, read back from the kernel
    slots: int
    busy: int
    idle_ms: int  # since its last claim, or its start, by its own clock
    beat_ms: int  # when it last spoke, by Redis's clock
    figures: Figures  # what it counts of its own, by name: the model service's batch, prefixes, memory
    held: tuple[Service, ...] = ()  # services that it takes nothing new of: the routing task wishes so, or an operator
    attempts: int = 0  # that it ended in the last minute, whichever way
    attempts_failed: int = 0  # of these, by the engine's or our own fault
