"""The recovery task: finds work that lost its worker or its wake-up, and workers that went deaf.

Every queue worker runs one in a thread; one of them leads, by a short lease in Redis. Two leaders at once would do no harm:
each duty is a script that is safe to repeat. Within a lease and a round, whatever a crash left behind runs again.
"""

import logging
import threading
import time
from contextlib import suppress

import redis

from app import logs
from app.errors import JobGone, JobUnknown, StoreUnavailable
from app.job import Service, model_part
from app.ledger import CloudLedger, Ledger
from app.registry import Registry
from app.settings import Settings
from routing.policy.deafness import deaf_workers

_LEAD_S = 5.0  # a leader that falls silent is replaced after this long
_MOST_BATCHES = 200  # of a hundred jobs each that a duty works on before the next has its turn; a second or so
_SLOW_DUTIES_S = 2.0  # the cloud, windows, watchdog and retention need no half-second rounds


class Recovery:
    """The duties, in a thread of their own."""

    def __init__(self, client: redis.Redis, settings: Settings, *, who: str) -> None:
        self._ledger = Ledger(client, settings)
        self._cloud = CloudLedger(client, settings)
        self._registry = Registry(client)
        self._client = client
        self._settings = settings
        self._who = who
        self._stopping = threading.Event()
        self._slow_due = 0.0
        self._thread = threading.Thread(target=self._run_for_ever, name="tandem-recovery", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End after the present round."""
        self._stopping.set()

    def join(self, timeout_s: float) -> None:
        """Wait for the end of the present round."""
        self._thread.join(timeout_s)

    def _run_for_ever(self) -> None:
        while not self._stopping.wait(self._settings.recovery_s):
            self.round()

    def round(self) -> None:
        """Do every duty once, if this is the leader. A duty that fails does not keep the others from being done."""
        duties = [self._reap, self._expire, self._rewake]
        if time.monotonic() >= self._slow_due:
            self._slow_due = time.monotonic() + _SLOW_DUTIES_S
            duties += [self._bring_home, self._watch_workers, self._purge]
        for duty in duties:
            try:
                if not self._ledger.lead("recovery", self._who, _LEAD_S):
                    return
                duty()
            except (StoreUnavailable, redis.exceptions.RedisError, OSError) as exc:
                logs.event("recovery_failed", duty=duty.__name__, why=str(exc))
            except Exception as exc:  # noqa: BLE001 - the thread's outermost loop: without it no lost job would run again
                logs.event("recovery_failed", level=logging.ERROR, exc_info=True, duty=duty.__name__, why=str(exc))

    def _reap(self) -> None:
        for _ in range(_MOST_BATCHES):
            again, failed = self._ledger.reap()
            for job_id in again:
                logs.event("job_requeued", job=job_id, why="its lease ran out")
            for job_id in failed:
                logs.event("job_failed", job=job_id, why="too many attempts lost their worker")
                self._end_part(job_id)
            if not again and not failed:
                return

    def _expire(self) -> None:
        for _ in range(_MOST_BATCHES):
            if not (ended := self._ledger.expire()):
                return
            for job_id in ended:
                logs.event("job_deadline_passed", job=job_id)
                self._end_part(job_id)

    def _end_part(self, job_id: str) -> None:
        """Cancel the model's part of a chat that is over, as no worker is left to do it. Other jobs have none."""
        with suppress(JobUnknown, JobGone):
            self._ledger.cancel(model_part(job_id))

    def _rewake(self) -> None:
        for service in Service:
            if pushed := self._ledger.rewake(service):
                logs.event("wakeups_repeated", service=service.value, wakeups=pushed)

    def _bring_home(self) -> None:
        """Bring home what was sent to the cloud and nobody there has begun, also after MNS was unset; what was begun there,
        `_reap` does."""
        for _ in range(_MOST_BATCHES):
            if not (home := self._cloud.come_home()):
                return
            for job_id in home:
                logs.event("job_lapsed", job=job_id, why="no cloud worker has begun it in time")

    def _watch_workers(self) -> None:
        workers = self._registry.workers()
        self._registry.set_windows(workers)
        stuck_ms = round(self._settings.stuck_s * 1000)
        for worker in deaf_workers(workers, self._unheeded_ms(), stuck_ms=stuck_ms):
            logs.event("worker_deaf", worker=worker.name, pid=worker.pid, idle_ms=worker.idle_ms)
            self._registry.ask_to_restart(worker)

    def _purge(self) -> None:
        purged = 0
        for _ in range(_MOST_BATCHES):
            if not (now := self._ledger.purge()):
                break
            purged += now
        if purged:
            logs.event("jobs_purged", jobs=purged)

    def _unheeded_ms(self) -> dict[Service, int]:
        """For each service, how long the oldest of its wake-ups has lain in the queue."""
        seconds, micros = self._client.time()
        now_ms = seconds * 1000 + micros // 1000
        oldest = {service: self._client.zrange(f"woken:{service.value}", 0, 0, withscores=True) for service in Service}
        return {service: now_ms - int(first[0][1]) for service, first in oldest.items() if first}
