"""The routing task's words to the workers at home: what to take nothing new of, and how many jobs to run at a time.

How things should stand is compared with how each worker says that they do, and a worker is told where that differs; again
while it differs, and now and then while it holds something, since it serves again when nobody repeats the wish. Telling a
worker what it does already changes nothing.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from app import logs
from app.job import Service
from app.routing_records import Decision
from app.topology import Topology, WorkerSpec
from app.worker_entry import WorkerEntry

#: How long a worker heeds a wish that is not repeated.
HEEDED_S = 15.0

_REPEAT_S = 5.0  # a wish is repeated: two times may get lost
_PRESS_S = 1.0  # a worker goes on taking what it should not: the word may have been lost

#: Tells workers, by their node names; the arguments are those of the remote-control command `route`.
Tell = Callable[[Sequence[str], dict[str, Any]], None]


@dataclass(frozen=True, slots=True)
class Wish:
    """What a worker is to do."""

    hold: tuple[Service, ...] = ()
    slots: int | None = None  # None: as many as it started with


class Words:
    """Tells. `plan` says how far pools may grow."""

    def __init__(self, plan: Topology, tell: Tell, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._specs = {f"{spec.name}@{server.name}": spec for server in plan.servers for spec in server.workers}
        self._tell = tell
        self._clock = clock
        self._told: dict[tuple[str, int], tuple[Wish, float]] = {}  # node name and pid -> the last word, and when

    def forget(self) -> None:
        """Another led meanwhile: what was told is not how it stands."""
        self._told.clear()

    def speak(self, decision: Decision, workers: Sequence[WorkerEntry], *, epoch: int) -> None:
        """Tell those workers of the topology that have to be told, all who are to do the same with one word. Raises what
        `tell` raises, having told those before."""
        ours = [worker for worker in workers if worker.name in self._specs]
        self._told = {key: told for key, told in self._told.items() if key in {(each.name, each.pid) for each in ours}}
        due: dict[Wish, list[WorkerEntry]] = {}
        for worker in ours:
            wish = _wish(decision, worker, self._specs[worker.name])
            if self._is_due(worker, wish):
                due.setdefault(wish, []).append(worker)
        for wish, told in due.items():
            names = [worker.name for worker in told]
            self._tell(names, {"epoch": epoch, "hold": [service.value for service in wish.hold], "slots": wish.slots,
                               "for_s": HEEDED_S})
            if any(self._last(worker)[0] != wish for worker in told):
                logs.event("workers_told", workers=names, hold=list(wish.hold), slots=wish.slots, epoch=epoch)
            self._told |= {(worker.name, worker.pid): (wish, self._clock()) for worker in told}

    def _last(self, worker: WorkerEntry) -> tuple[Wish, float]:
        return self._told.get((worker.name, worker.pid), (Wish(), float("-inf")))

    def _is_due(self, worker: WorkerEntry, wish: Wish) -> bool:
        told, at_s = self._last(worker)
        spec, since_s = self._specs[worker.name], self._clock() - at_s
        if wish != told:
            return True
        if not set(wish.hold) <= set(worker.held):
            return since_s >= _PRESS_S
        stands = set(wish.hold) == set(worker.held) and worker.slots == (wish.slots or spec.concurrency)
        return since_s >= _REPEAT_S and (not stands or bool(wish.hold))


def _wish(decision: Decision, worker: WorkerEntry, spec: WorkerSpec) -> Wish:
    held: Mapping[str, tuple[str, ...]] = decision.hold
    hold = tuple(service for service in worker.services if service in held.get(worker.server, ()))
    return Wish(hold, spec.most if decision.grow and spec.most > spec.concurrency else None)
