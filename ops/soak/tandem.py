"""Tandem under soak: the whole stack with the scripted engine, used over HTTP like any caller would."""

import http.client
import json
import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from random import Random
from urllib.parse import urlsplit

from app.ledger import Ledger
from app.registry import Registry
from app.settings import Settings
from ops import audit
from ops.sandbox import Sandbox, kill
from ops.soak.subject import Books
from ops.waiting import wait_until

_ANSWER_S = 20.0
#: As many jobs at a time as the plain way runs, so that a killed worker loses as many.
_ONE_SLOT = {"concurrency = 16, most = 32": "concurrency = 1"}


class Tandem:
    """Two servers, each with its pinned workers; one of the two model workers is the victim."""

    name = "Tandem"

    def __init__(self, folder: Path, *, job_ms: int, redis_program: str = "", lease_s: float = 4.0) -> None:
        self.sandbox = Sandbox.lay(folder, edits=_ONE_SLOT, lease_s=str(lease_s), beat_s=str(lease_s / 4),
                                   redis_program=redis_program)
        self._prompt = f"[stall {job_ms}ms] done"
        self._before = 0

    def start(self) -> None:
        """Start the stack; the jobs it answered while starting do not count."""
        self.sandbox.up()
        self._before = self.ended()

    def submit(self, number: int) -> str | None:
        """Submit over HTTP, to either gateway; a refusal or a broken connection is no acceptance."""
        report = self.sandbox.report()
        gateway = urlsplit(list(report["gateways"].values())[number % 2])
        connection = http.client.HTTPConnection(gateway.netloc, timeout=_ANSWER_S)
        body = {"service": "model", "input": {"prompt": self._prompt}}
        try:
            connection.request("POST", "/v1/jobs", json.dumps(body), {
                "Content-Type": "application/json", "Authorization": f"Bearer {report['api_key']}",
                "Idempotency-Key": f"soak-{number}"})
            answer = connection.getresponse()
            content = answer.read()
        except OSError:
            return None
        finally:
            connection.close()
        if answer.status == 503:
            return None
        if answer.status != 202:
            raise RuntimeError(f"job {number} was answered {answer.status}: {content.decode(errors='replace')}")
        return str(json.loads(content)["id"])

    def kill_worker(self, chance: Random) -> str:
        """SIGKILL a model worker; its supervisord starts it again."""
        name, pid = self._victim(chance)
        kill(pid)
        return f"{name} (pid {pid})"

    def freeze_worker(self, chance: Random, *, for_s: float) -> str:
        """SIGSTOP a model worker past its leases."""
        name, pid = self._victim(chance)
        os.kill(pid, signal.SIGSTOP)
        time.sleep(for_s)
        os.kill(pid, signal.SIGCONT)
        return f"{name} (pid {pid})"

    def kill_redis(self) -> str:
        """SIGKILL Redis; the stack's supervisord starts it again."""
        pid = self.sandbox.redis_pid()
        kill(pid)
        return f"pid {pid}"

    def ended(self) -> int:
        """Count the ends in the ledger's books."""
        return self._ledger().census().terminal - self._before

    def books(self, ids: Sequence[str]) -> Books:
        """Read every job, and take the audit."""
        ledger = self._ledger()
        jobs = [ledger.read(job_id) for job_id in ids]
        result = audit.take(self.sandbox.client(), ledger)
        counts = result.census.counts
        return Books(
            accepted=len(set(ids)), succeeded=sum(job.state == "succeeded" for job in jobs),
            failed=sum(job.state.terminal and job.state != "succeeded" for job in jobs),
            lost=sum(not job.state.terminal for job in jobs), recorded_twice=sum(job.recorded > 1 for job in jobs),
            ran_again=sum(job.attempt > 1 for job in jobs),
            extra={"audit": "balanced" if result.balanced else "; ".join(result.faults),
                   "late results refused": counts.get("stale", 0), "wake-ups repeated": counts.get("rewoken", 0)})

    def stop(self) -> None:
        """Stop the stack."""
        self.sandbox.down()

    def _victim(self, chance: Random) -> tuple[str, int]:
        """Return a live model worker's name and pid, a busy one if there is one."""
        registry = Registry(self.sandbox.client())

        def live() -> list[tuple[str, int]]:
            workers = [worker for worker in registry.workers()
                       if worker.name.startswith("model@") and Path(f"/proc/{worker.pid}").exists()]
            return [(worker.name, worker.pid) for worker in workers if worker.busy] or [
                (worker.name, worker.pid) for worker in workers]

        return chance.choice(wait_until(live, timeout_s=30, what="a model worker that lives"))

    def _ledger(self) -> Ledger:
        return Ledger(self.sandbox.client(), Settings())
