"""What a queue worker sees of its own server: the stacks of its busy workers, the machine's load, its biggest processes."""

import os
import socket
import time
from collections.abc import Sequence

import psutil

from app.investigation_records import ServerPart, WorkerState
from app.job import Service
from app.registry import Registry
from app.worker_entry import WorkerEntry
from routing.investigation import processes, stacks

#: Whose stacks say where the time of a job goes.
_SLOW_SERVICES = {Service.MODEL, Service.CHAT}


def look(registry: Registry, server: str, *, now_ms: int) -> ServerPart:
    """Return what there is to see now, within `stacks.TIME_S` and a second."""
    began_s = time.monotonic()
    everyone = registry.workers()
    here = [entry for entry in everyone if entry.host == socket.gethostname() and psutil.pid_exists(entry.pid)]
    by_cpu, by_memory = processes.top({entry.pid: entry.name for entry in here})
    entries = [entry for entry in everyone if entry.server == server]
    notes = [f"{entry.name} does not run on this machine, or is gone" for entry in entries if entry not in here]
    found = stacks.stacks_of(to_look_into([entry for entry in entries if entry in here]))
    return ServerPart(
        server=server, at_ms=now_ms, cpus=os.cpu_count() or 1, load=_rounded(os.getloadavg()),
        workers=worker_states(entries, now_ms), stacks=found, by_cpu=by_cpu, by_memory=by_memory, notes=tuple(notes),
        took_s=round(time.monotonic() - began_s, 3))


def to_look_into(workers: Sequence[WorkerEntry]) -> list[WorkerEntry]:
    """Return the workers whose stacks are wanted: of those of the slow services the busy ones, else all of them."""
    slow = [worker for worker in workers if _SLOW_SERVICES.intersection(worker.services)]
    return [worker for worker in slow if worker.busy] or slow


def worker_states(entries: Sequence[WorkerEntry], now_ms: int) -> tuple[WorkerState, ...]:
    """Return what workers had said of themselves."""
    return tuple(WorkerState(
        name=entry.name, pid=entry.pid, slots=entry.slots, busy=entry.busy, idle_s=entry.idle_ms / 1000,
        heard_s=max(now_ms - entry.beat_ms, 0) / 1000, held=tuple(service.value for service in entry.held))
        for entry in entries)


def _rounded(load: tuple[float, float, float]) -> tuple[float, float, float]:
    one, five, fifteen = (round(each, 2) for each in load)
    return one, five, fifteen
