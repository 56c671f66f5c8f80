"""A whole stack of its own, started by `ops.up` in a folder and on ports of its own: for tests, soak and benchmarks.

It is the real thing, servers, pins, Redis and Flower included; only the addresses, the data folder and what the caller
sets differ from `make up`.
"""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import redis

from app.topology import DEFAULT_FILE
from ops.embedded_redis import free_port
from ops.waiting import wait_until

_DOWN_S = 120.0
_CLOUD_TABLE = re.compile(r"^\[cloud\].*?(?=^\[)", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class Sandbox:
    """A stack, running or not. Its data lies in `folder`; `environ` is what every process of it is started with."""

    folder: Path
    environ: Mapping[str, str]

    @classmethod
    def lay(cls, folder: Path, *, engine: str = "scripted", edits: Mapping[str, str] | None = None, cloud: bool = False,
            routing: bool = False, **settings: str) -> "Sandbox":
        """Write the topology, with free ports, and return the stack, not yet started.

        `edits` replaces texts of the topology file; `settings` are set by name, e.g. `lease_s="2"`. With `cloud` the stack
        has a local MNS server and a cloud worker, which take some seconds of its start; without, no [cloud] table. Without
        `routing` nothing is moved, however busy this machine is: what is not about that stays as it is put.
        """
        text = DEFAULT_FILE.read_text(encoding="utf-8")
        for old, new in (edits or {}).items():
            if old not in text:
                raise ValueError(f"the topology file does not say {old!r}")
            text = text.replace(old, new)
        if not cloud:
            text = _CLOUD_TABLE.sub("", text)
        folder.mkdir(parents=True, exist_ok=True)
        plan = folder / "topology.toml"
        plan.write_text(re.sub(r"(?m)^port = \d+", lambda _: f"port = {free_port()}", text), encoding="utf-8")
        ours = {"TANDEM_TOPOLOGY": str(plan), "TANDEM_DATA_DIR": str(folder / "var"), "TANDEM_ENGINE": engine,
                "TANDEM_ROUTING": str(routing).lower(),
                **{f"TANDEM_{name.upper()}": value for name, value in settings.items()}}
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("TANDEM_")}
        return cls(folder, inherited | ours)

    def up(self) -> dict[str, Any]:
        """Start it and return its `up.json`. Raises `RuntimeError` with what it printed when it does not come up."""
        done = self.run(sys.executable, "-m", "ops.up")
        if done.returncode:
            raise RuntimeError(f"the stack in {self.folder} did not start:\n{done.stdout}{done.stderr}")
        return self.report()

    def down(self) -> None:
        """Stop it. Raises `RuntimeError` with what was printed when that fails."""
        done = self.run(sys.executable, "-m", "ops.down", timeout_s=_DOWN_S)
        if done.returncode:
            raise RuntimeError(f"the stack in {self.folder} did not stop:\n{done.stdout}{done.stderr}")

    def run(self, *command: str, timeout_s: float = 400.0, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """Run an operator's command in the stack's environment and return what became of it."""
        return subprocess.run(command, env=dict(self.environ), capture_output=True, text=True, timeout=timeout_s,
                              check=False, input=stdin)

    def celery(self, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """Run `celery -A workers ...` and return what became of it."""
        return self.run(sys.executable, "-m", "celery", "-A", "workers", *arguments, stdin=stdin)

    def report(self) -> dict[str, Any]:
        """The stack's `up.json`."""
        return dict(json.loads((self.folder / "var" / "up.json").read_text(encoding="utf-8")))

    def client(self) -> redis.Redis:
        """A client of the stack's Redis."""
        return redis.Redis.from_url(self.report()["redis"])

    def redis_pid(self) -> int:
        """The process of the stack's Redis."""
        return int(self.client().info("server")["process_id"])


def kill(pid: int, number: int = signal.SIGKILL) -> None:
    """Send a signal to a process of a sandbox, and wait until a killed one is gone."""
    os.kill(pid, number)
    if number == signal.SIGKILL:
        wait_until(lambda: is_gone(pid), timeout_s=10, what=f"pid {pid} to die")


def is_gone(pid: int) -> bool:
    """Tell whether a process runs no more. A killed process is a zombie until its
    parent has looked."""
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True
