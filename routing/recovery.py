"""The recovery task: finds work that lost its worker or its wake-up, and workers that went deaf.

Every queue worker runs one in a thread; one of them leads, by a short lease in Redis. Two leaders at once would do no harm:
each duty is a script that is safe to repeat. Within a lease and a round, whatever a crash left behind runs again.
"""

import threading
import time

import redis

from app import logs
from app.errors import StoreUnavailable
from app.job import Service
from app.ledger import Ledger
from app.registry import Registry
from app.settings import Settings
from routing import policy

_LEAD_S = 5.0  # a leader that falls silent is replaced after this long
_SLOW_DUTIES_S = 2.0  # windows, watchdog and retention need no half-second rounds


class Recovery:
    """The duties, in a thread of their own."""

    def __init__(self, client: redis.Redis, settings: Settings, *, who: str) -> None:
        self._ledger = Ledger(client, settings)
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

    def _run_for_ever(self) -> None:
        while not self._stopping.wait(self._settings.recovery_s):
            try:
                self.round()
            except (StoreUnavailable, redis.exceptions.RedisError, OSError) as exc:
                logs.event("recovery_failed", why=str(exc))

    def round(self) -> None:
        """Do every duty once, if this is the leader."""
        if not self._ledger.lead("recovery", self._who, _LEAD_S):
            return
        again, failed = self._ledger.reap()
        for job_id in again:
            logs.event("job_requeued", job=job_id, why="its lease ran out")
        for job_id in failed:
            logs.event("job_failed", job=job_id, why="too many attempts lost their worker")
        for job_id in self._ledger.expire():
            logs.event("job_deadline_passed", job=job_id)
        for service in Service:
            if pushed := self._ledger.rewake(service):
                logs.event("wakeups_repeated", service=service.value, wakeups=pushed)
        if time.monotonic() >= self._slow_due:
            self._slow_due = time.monotonic() + _SLOW_DUTIES_S
            self._slow_round()

    def _slow_round(self) -> None:
        workers = self._registry.workers()
        self._registry.set_windows(workers)
        stuck_ms = round(self._settings.stuck_s * 1000)
        for worker in policy.deaf_workers(workers, self._unheeded_ms(), stuck_ms=stuck_ms):
            logs.event("worker_deaf", worker=worker.name, pid=worker.pid, idle_ms=worker.idle_ms)
            self._registry.ask_to_restart(worker)
        if purged := self._ledger.purge():
            logs.event("jobs_purged", jobs=purged)

    def _unheeded_ms(self) -> dict[Service, int]:
        """For each service, how long the oldest of its wake-ups has lain in the queue."""
        seconds, micros = self._client.time()
        now_ms = seconds * 1000 + micros // 1000
        oldest = {service: self._client.zrange(f"woken:{service.value}", 0, 0, withscores=True) for service in Service}
        return {service: now_ms - int(first[0][1]) for service, first in oldest.items() if first}
