"""What one worker process holds: its settings, its ledger, its leases, and the claims it is working on.

One thread beats for all of them: it renews the leases of every running job in one call, marks those that are not ours any
more, and says that the worker lives. It asks the process to end when recovery found that it had gone deaf. Another hears
of jobs that were cancelled, so that they stop before the next beat.
"""

import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec

from app import logs
from app.errors import StoreUnavailable
from app.job import Service
from app.ledger import Claim, Ledger, Place
from app.registry import ENTRY_LIFE_S
from app.settings import Settings
from app.store import open_redis
from app.subscription import BLOCK_S, hear
from app.worker_entry import Figures
from workers.attempt_window import AttemptWindow
from workers.holding import Holding
from workers.speech import Speech


@dataclass(slots=True)
class Running:
    """An attempt in progress. `lost` is set when the job is no longer ours; its code asks between two tokens."""

    claim: Claim
    lost: threading.Event = field(default_factory=threading.Event)
    wake: threading.Event | None = None  # set with `lost`, for code that waits for something else


class Turn(threading.local):
    """What each thread of the pool is about: until when it may go on by itself (monotonic), the job it goes on with, and
    that job as Celery's request."""

    until_s = 0.0
    next: Claim | None = None
    request: Any = None

    def take(self, job_id: str) -> Claim | None:
        """Return the claim of this job if it is the one this thread goes on with, once."""
        claim, self.next = self.next, None
        return claim if claim and claim.id == job_id else None


class Node:
    """This worker process. `slots` is how many jobs it runs at a time, from `first` at its start to `most`; the pool sets
    it (`workers.pool.TaskPool.resize`)."""

    def __init__(self, ledger: Ledger, settings: Settings, place: Place, *, services: tuple[Service, ...],
                 processors: tuple[str, ...], slots: int, most: int | None = None,
                 figures: Callable[[], Figures] = dict) -> None:
        """It starts with `slots`, and may get `most` (None: no more). `figures` are what the worker counts of its own, for
        operators."""
        self.ledger = ledger
        self.settings = settings
        self.place = place
        self.services = services
        self._processors = processors
        self.slots = self.first = slots
        self.most = max(slots, most or slots)
        self.holding = Holding(services)
        self.attempts = AttemptWindow()
        self._figures = figures
        self._running: dict[str, Running] = {}
        self.turn = Turn()
        self.lingering = threading.Lock()  # held by the thread that looks for another job
        self._lock = threading.Lock()
        self._worked_s = time.monotonic()  # when it last began or ended a job
        self._stopping = threading.Event()
        self._due = threading.Event()  # a beat, before its time
        self._draining = threading.Event()
        self._drained = threading.Event()
        self.speech = Speech(ledger, self.lose)
        self._thread = threading.Thread(target=self._beat_for_ever, name="tandem-beat", daemon=True)

    def start(self) -> None:
        """Begin to beat, and to hear of jobs to stop."""
        self._thread.start()
        threading.Thread(target=self._hear_stops, name="tandem-stops", daemon=True).start()

    def stop(self) -> None:
        """Stop beating, hearing and speaking."""
        self._stopping.set()
        self._due.set()
        self.speech.stop()

    @property
    def drained(self) -> bool:
        """Whether the time for finishing is up: what still runs stops and goes back to the queue."""
        return self._drained.is_set()

    def drain(self) -> None:
        """The worker is going down: give its jobs `shutdown_s` to end, then stop them."""
        self._draining.set()
        timer = threading.Timer(self.settings.shutdown_s, self._drained.set)
        timer.daemon = True
        timer.start()

    def goes_on(self, service: Service) -> bool:
        """Whether the thread that asks may take another job of the service without being woken for it: not where the
        service is held, nor where more jobs run than there are slots any more."""
        return (time.monotonic() < self.turn.until_s and service in self.services and not self._draining.is_set()
                and len(self._running) <= self.slots and not self.holding.holds(service))

    def enter(self, claim: Claim) -> Running:
        """Count a claim as being worked on; its lease is renewed until `leave`."""
        running = Running(claim)
        with self._lock:
            self._running[claim.owner] = running  # not by job: an earlier attempt at it may still be on its way out
            self._worked_s = time.monotonic()
        return running

    def leave(self, running: Running) -> None:
        """The attempt is over, one way or the other."""
        with self._lock:
            self._running.pop(running.claim.owner, None)
            self._worked_s = time.monotonic()

    def lose(self, claim: Claim) -> None:
        """The job is no longer ours: its code stops between two tokens."""
        self._lose(claim.owner)

    def wake_when_lost(self, claim: Claim, event: threading.Event) -> None:
        """Set an event, too, when the job is no longer ours."""
        with self._lock:
            if running := self._running.get(claim.owner):
                running.wake = event

    def _lose(self, owner: str) -> None:
        with self._lock:
            running = self._running.get(owner)
            if running is None or running.lost.is_set():
                return
            running.lost.set()
            if running.wake is not None:
                running.wake.set()
        logs.event("lease_lost", job=running.claim.id, attempt=running.claim.attempt, worker=self.place.worker)

    def _hear_stops(self) -> None:
        """Hear which attempts ended by another's wish. What is missed here is found by the next beat."""
        with open_redis(self.settings, timeout_s=BLOCK_S + self.settings.redis_timeout_s) as client:
            hear(client, f"stopped:{self.place.worker}", each=lambda told: self._lose(told.decode().rpartition(" ")[2]),
                 subscribed=lambda: None, wanted=lambda: not self._stopping.is_set())

    def running(self) -> list[Running]:
        """The attempts in progress."""
        with self._lock:
            return list(self._running.values())

    def _beat_for_ever(self) -> None:
        while True:
            try:
                self.beat()
            except StoreUnavailable as exc:
                logs.event("beat_failed", worker=self.place.worker, why=str(exc))
            except Exception as exc:  # noqa: BLE001 - the thread's outermost loop: a worker that no longer beats loses its jobs
                logs.event("beat_failed", level=logging.ERROR, exc_info=True, worker=self.place.worker, why=str(exc))
            self._due.wait(self.settings.beat_s)
            if self._stopping.is_set():
                return
            self._due.clear()

    def beat_now(self) -> None:
        """Have the beat come at once: the worker's entry has changed."""
        self._due.set()

    def beat(self) -> None:
        """Renew every lease once, and say that the worker lives."""
        running = self.running()
        held = self.ledger.beat([each.claim for each in running])
        for each, ours in zip(running, held, strict=True):
            if not ours:
                self.lose(each.claim)
        self.register(len(running))

    def register(self, busy: int = 0) -> None:
        """Renew the worker's entry, and end this process if it was asked to restart."""
        cpus = ",".join(str(cpu) for cpu in sorted(os.sched_getaffinity(0)))
        attempts, failed = self.attempts.counts()
        asked = self.ledger.register(self.place.worker, {
            "server": self.place.server, "services": ",".join(self.services), "pid": os.getpid(),
            "host": socket.gethostname(), "processors": ",".join(self._processors), "cpus": cpus,
            "slots": self.slots, "busy": busy, "idle_ms": self._idle_ms(),
            "held": ",".join(self.holding.held), "attempts": attempts, "attempts_failed": failed,
            "figures": msgspec.json.encode(self._figures()),
        }, ENTRY_LIFE_S)
        if asked == os.getpid() and not self.running() and self._idle_ms() >= self.settings.stuck_s * 1000:
            logs.event("restart_asked", worker=self.place.worker)
            os.kill(os.getpid(), signal.SIGKILL)  # deaf: a polite signal is what its main loop no longer hears

    def _idle_ms(self) -> int:
        """Return for how long it has taken nothing, though it might have: what it was told to leave alone it has not
        missed, and who comes out of a hold is not deaf."""
        return round((time.monotonic() - max(self._worked_s, self.holding.freed_s)) * 1000)
