"""The peers: other queues behind the same Flask form, each in an environment of its own."""

import http.client
import json
import os
from abc import abstractmethod
from pathlib import Path
from typing import Any

import redis

from app.topology import Address
from ops import embedded_redis
from ops.bench.call import Call
from ops.bench.environment import Environment
from ops.bench.programs import Programs
from ops.bench.subjects.job_server import JobServer
from ops.waiting import wait_until

HOME = Path("var") / "bench"
_START_S = 30
_RESULT_DATABASE = 1  # apart from the queue, so that its size is the number of results


class Peer(JobServer):
    """Flask under gunicorn with two gevent processes, a queue's two worker processes, and a Redis."""

    def __init__(self) -> None:
        self._environment = Environment(self.name, HOME)
        self._programs: Programs | None = None
        self._client: redis.Redis | None = None
        self._address: Address | None = None

    @abstractmethod
    def workers(self) -> list[list[str]]:
        """Return the command of each worker program, its first word a program of the environment."""

    @abstractmethod
    def count(self, results: redis.Redis) -> int:
        """Return how many results lie in the database of results."""

    def prepare(self) -> None:
        """Install its packages."""
        self._environment.prepare()

    def start(self, folder: Path) -> None:
        """Start Redis, the workers and the gateway, and wait until all of them work."""
        folder.mkdir(parents=True, exist_ok=True)
        folder = folder.absolute()  # the programs work elsewhere
        self._programs = programs = Programs(folder)
        port, self._address = embedded_redis.free_port(), Address("127.0.0.1", embedded_redis.free_port())
        # later arguments win: no append-only file and no snapshots, which is the fastest a Redis goes
        programs.start("redis", [*embedded_redis.command(
            folder / "redis", port=port, program=embedded_redis.find_program(), log=folder / "redis-server.log"),
            "--appendonly", "no"])
        embedded_redis.wait_for_answer(port, programs.check, folder / "redis-server.log")
        self._client = redis.Redis(port=port, db=_RESULT_DATABASE)
        environ = {**os.environ, "BROKER_URL": f"redis://127.0.0.1:{port}/0",
                   "RESULT_URL": f"redis://127.0.0.1:{port}/{_RESULT_DATABASE}"}
        for number, command in enumerate(self.workers(), start=1):
            self._run(f"worker-{number}", command, environ)
        self._run("gateway", self._gateway(), environ)
        self._wait_for_a_job()

    def _run(self, name: str, command: list[str], environ: dict[str, str]) -> None:
        assert self._programs is not None, "start makes it"
        self._programs.start(name, [self._environment.program(command[0]), *command[1:]], cwd=self._environment.code,
                             environ=environ)

    def _gateway(self) -> list[str]:
        return ["gunicorn", "--worker-class", "gevent", "--workers", "2", "--bind", str(self.address), "--backlog", "4096",
                "--keep-alive", "75", "--no-control-socket", "app:app"]

    def _wait_for_a_job(self) -> None:
        """Wait until the gateway takes a job and a worker has done it."""
        programs = self._programs
        assert programs is not None, "start makes it"

        def accepted() -> bool:
            programs.check()
            try:
                return bool(self.submit("hello").once(self.address)["id"])
            except (OSError, http.client.HTTPException):
                return False

        wait_until(accepted, timeout_s=_START_S, what=f"{self.name} to accept a job; see {programs.log('gateway')}")
        wait_until(self.finished, timeout_s=_START_S, what=f"{self.name} to do a job; see {programs.log('worker-1')}")
        programs.check()

    def stop(self) -> None:
        """Stop everything."""
        if self._client is not None:
            self._client.close()
        if self._programs is not None:
            self._programs.stop()
        self._programs = self._client = self._address = None

    @property
    def address(self) -> Address:
        """The gateway's."""
        assert self._address is not None, "start it first"
        return self._address

    def submit(self, prompt: str, *, stall_s: float = 0.0) -> Call:
        """Return a submit."""
        body = {"prompt": prompt, "stall_s": stall_s} if stall_s else {"prompt": prompt}
        return Call(method="POST", path="/jobs", expects=202, body=json.dumps(body))

    def poll(self, job_id: str) -> Call:
        """Return a read of the job."""
        return Call(method="GET", path=f"/jobs/{job_id}", expects=200)

    def text(self, answer: dict[str, Any]) -> str | None:
        """Return what the task said."""
        return str(answer["result"]) if answer["state"] == "success" else None

    def finished(self) -> int:
        """Ask the database of results."""
        assert self._client is not None, "start it first"
        return self.count(self._client)
