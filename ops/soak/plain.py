"""Plain Celery under soak: two workers, restarted when they die, on a Redis that writes its file every second."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

import psutil
import redis
from kombu.exceptions import OperationalError

from ops import embedded_redis
from ops.sandbox import kill
from ops.soak.subject import Books

_WORKERS = ("a", "b")


class Plain:
    """The same load and the same faults, without a ledger."""

    name = "plain Celery"

    def __init__(self, folder: Path, *, job_ms: int) -> None:
        self._folder = folder
        self._job_ms = job_ms
        self._port = embedded_redis.free_port()
        self._url = f"redis://127.0.0.1:{self._port}/0"
        self._workers: dict[str, subprocess.Popen[bytes]] = {}
        self._stopping = threading.Event()
        self._keeper = threading.Thread(target=self._keep_up, daemon=True)
        self._task: Any = None

    def start(self) -> None:
        """Start Redis, the workers, and what starts those again that die."""
        self._folder.mkdir(parents=True, exist_ok=True)
        self._redis = embedded_redis.start(self._folder / "redis", port=self._port, fsync="everysec")
        os.environ["SOAK_REDIS_URL"] = self._url
        from ops.soak import plain_app

        self._task = plain_app.work
        for name in _WORKERS:
            self._start_worker(name)
        self._keeper.start()

    def submit(self, number: int) -> str | None:
        """Publish; what raises was not accepted."""
        job_id = str(uuid.uuid5(uuid.NAMESPACE_URL, f"{self._url}/{number}"))
        try:
            self._task.apply_async((self._job_ms,), task_id=job_id, retry=False)
        except (OperationalError, redis.exceptions.RedisError, OSError):
            return None
        return job_id

    def kill_worker(self, chance: Random) -> str:
        """SIGKILL a worker's parent, or its child, in turn by chance."""
        name, pid = self._victim(chance)
        kill(pid)
        return f"{name} (pid {pid})"

    def freeze_worker(self, chance: Random, *, for_s: float) -> str:
        """SIGSTOP a worker's parent or child."""
        name, pid = self._victim(chance)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGSTOP)
            time.sleep(for_s)
            os.kill(pid, signal.SIGCONT)
        return f"{name} (pid {pid})"

    def kill_redis(self) -> str:
        """SIGKILL Redis and start it on the same data."""
        pid = self._redis.process.pid
        kill(pid)
        self._redis.process.wait()
        self._redis = embedded_redis.start(self._folder / "redis", port=self._port, fsync="everysec")
        return f"pid {pid}"

    def ended(self) -> int:
        """How many jobs noted an end."""
        with redis.Redis.from_url(self._url) as client:
            return int(client.hlen("ended"))

    def books(self, ids: Sequence[str]) -> Books:
        """Count the notes that the tasks left."""
        with redis.Redis.from_url(self._url) as client:
            started = {key.decode(): int(value) for key, value in client.hgetall("started").items()}
            ended = {key.decode(): int(value) for key, value in client.hgetall("ended").items()}
            left = int(client.llen("celery")) + int(client.hlen("unacked"))
        return Books(
            accepted=len(set(ids)), succeeded=sum(job_id in ended for job_id in ids), failed=0,
            lost=sum(job_id not in ended for job_id in ids), recorded_twice=sum(count > 1 for count in ended.values()),
            ran_again=sum(count > 1 for count in started.values()), extra={"messages left": left})

    def stop(self) -> None:
        """End the workers and Redis."""
        self._stopping.set()
        if self._keeper.is_alive():
            self._keeper.join()
        for process in self._workers.values():
            for child in psutil.Process(process.pid).children() if process.poll() is None else ():
                child.kill()
            process.kill()
            process.wait()
        self._redis.stop()

    def _start_worker(self, name: str) -> None:
        with (self._folder / f"{name}.log").open("ab") as log:
            self._workers[name] = subprocess.Popen(
                [sys.executable, "-m", "celery", "-A", "ops.soak.plain_app", "worker", "-n", f"{name}@plain", "-c", "1",
                 "--without-gossip", "--without-mingle", "--loglevel", "warning"],
                stdout=log, stderr=log, env={**os.environ, "SOAK_REDIS_URL": self._url}, start_new_session=True)

    def _keep_up(self) -> None:
        while not self._stopping.wait(0.2):
            for name, process in list(self._workers.items()):
                if process.poll() is not None:
                    self._start_worker(name)

    def _victim(self, chance: Random) -> tuple[str, int]:
        name = chance.choice(_WORKERS)
        parent = self._workers[name].pid
        with contextlib.suppress(psutil.NoSuchProcess):
            children = psutil.Process(parent).children()
            if children and chance.random() < 0.5:
                return f"a child of {name}", children[0].pid
        return name, parent
