"""Real processes for the Celery tests on MNS: the local server, which can be killed and started again on its data, and
workers.
"""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from celery import Celery

from ops.embedded_redis import free_port
from ops.waiting import wait_until
from tests.mns_celery_app import VARIABLE, make
from tests.mns_celery_ledger import TaskLedger

ROOT = Path(__file__).parent.parent
KEY = {"access_key_id": "celery", "access_key_secret": "secret/with+odd@characters:"}
POOLS = ("prefork", "threads")
_START_S = 60.0  # of a process on a busy machine


@dataclass(slots=True)
class ServerProcess:
    """`python -m ops.mns_server` with its messages in a file."""

    folder: Path
    port: int = field(default_factory=free_port)
    admin_port: int = field(default_factory=free_port)
    process: "subprocess.Popen[bytes] | None" = None

    def start(self) -> None:
        """Start it, on the same ports and data as before, and wait until it answers."""
        keys = self.folder / "keys.json"
        keys.write_text(json.dumps(KEY))
        with (self.folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "ops.mns_server", "--port", str(self.port), "--admin-port", str(self.admin_port),
                 "--data", str(self.folder / "messages.sqlite"), "--keys", str(keys)],
                cwd=ROOT, stdout=log, stderr=log, start_new_session=True)
        wait_until(self._answers, timeout_s=_START_S, what="the MNS server to answer")

    def kill(self) -> None:
        """SIGKILL."""
        assert self.process
        self.process.kill()
        self.process.wait(10)

    def stop(self) -> None:
        """End it in order."""
        assert self.process
        self.process.terminate()
        self.process.wait(20)

    @property
    def url(self) -> str:
        """For kombu, without the key."""
        return f"mns://127.0.0.1:{self.port}"

    def audit(self, queue: str | None = None) -> dict[str, int]:
        """Where the messages are: sent, deleted, dead, expired, active, inactive, delayed."""
        found: dict[str, Any] = self.ask("GET", f"/audit?queue={queue}" if queue else "/audit")
        return found

    def fault(self, **rule: Any) -> None:
        """Add a fault."""
        self.ask("POST", "/faults", rule)

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """Ask the admin port."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.admin_port}{path}", method=method,
                                         data=None if body is None else json.dumps(body).encode(),
                                         headers={"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=20) as answer:
            return json.loads(answer.read() or b"null")

    def _answers(self) -> bool:
        assert self.process
        assert self.process.poll() is None, (self.folder / "server.log").read_text()[-3000:]
        try:
            self.audit()
        except OSError:
            return False
        return True


@dataclass(frozen=True, slots=True)
class Place:
    """A queue on a server, with the ledger that its jobs are settled in."""

    url: str
    queue: str
    folder: Path
    options: dict[str, Any]

    @property
    def ledger(self) -> TaskLedger:
        """What became of the jobs."""
        return TaskLedger(self.folder / "ledger.sqlite")

    @property
    def _said(self) -> dict[str, Any]:
        return {"url": self.url, "queue": self.queue, "ledger": str(self.folder / "ledger.sqlite"),
                "options": self.options | {"credentials_file": str(self.folder / "keys.json")}}

    def lay(self) -> None:
        """Make the folder, the ledger and the file of keys."""
        self.folder.mkdir(exist_ok=True)
        (self.folder / "keys.json").write_text(json.dumps(KEY))
        self.ledger.lay()

    @contextmanager
    def sender(self) -> Iterator[Celery]:
        """An app to send with."""
        app = make(self._said)
        try:
            yield app
        finally:
            app.close()

    def worker(self, name: str, *, pool: str, slots: int = 2) -> "Worker":
        """Start a worker; it may not be ready yet."""
        log = self.folder / f"{name}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "celery", "-A", "tests.mns_celery_app", "worker", "-n", f"{name}@test", "-P", pool,
                 "-c", str(slots), "-l", "info", "--without-gossip", "--without-mingle"],
                cwd=ROOT, env=os.environ | {VARIABLE: json.dumps(self._said)}, stdout=output, stderr=output,
                start_new_session=True)
        return Worker(process, log)


@dataclass(frozen=True, slots=True)
class Worker:
    """A Celery worker: the leader of a process group of its own."""

    process: "subprocess.Popen[bytes]"
    log: Path

    def ready(self) -> bool:
        """Tell whether it takes jobs. Fails when it has ended."""
        assert self.process.poll() is None, self.said()
        return b"ready." in self.log.read_bytes()

    def wait_ready(self) -> "Worker":
        """Wait until it takes jobs."""
        wait_until(self.ready, timeout_s=_START_S, what=f"{self.log.stem} to be ready")
        return self

    def said(self) -> str:
        """The end of its log."""
        return self.log.read_text()[-6000:]

    def kill(self) -> None:
        """SIGKILL to it and its children, as when the machine goes."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(10)

    def terminate(self) -> None:
        """SIGTERM: finish what runs, take nothing new."""
        self.process.terminate()

    def stopping(self) -> bool:
        """Tell whether it has heard SIGTERM."""
        return b"Warm shutdown" in self.log.read_bytes()

    def ended_s(self, timeout_s: float) -> float:
        """Wait for its end and return the Unix time of it."""
        code = self.process.wait(timeout_s)
        assert code == 0, self.said()
        return time.time()


@contextmanager
def ending(workers: list[Worker]) -> Iterator[list[Worker]]:
    """What is still running of `workers` in the end is killed."""
    try:
        yield workers
    finally:
        for worker in workers:
            if worker.process.poll() is None:
                worker.kill()


def balanced(audit: dict[str, int]) -> bool:
    """Tell whether each message that was sent is somewhere."""
    return audit["sent"] == sum(audit[place] for place in ("deleted", "dead", "expired", "active", "inactive", "delayed"))
