"""Tandem as `make up` starts it: two servers, pins, accounts, the ledger on a disk that is waited for, Flower."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import urlsplit

import psutil
import redis

from app.topology import Address
from ops.bench.call import Call
from ops.bench.subjects.job_server import JobServer
from ops.sandbox import Sandbox

#: The model workers get as many slots as Dramatiq's workers have threads by default.
_SLOTS = {"concurrency = 16, most = 32": "concurrency = 8"}
_SHUTDOWN_S = "1"  # stalled jobs would hold up each stop; when nothing stops, the setting does nothing


class Tandem(JobServer):
    """A whole stack of its own, called with an access token from a login."""

    name: ClassVar[str] = "tandem"
    form: ClassVar[str] = (
        "the whole stack of `make up`: two servers, each one gateway process (gunicorn, gevent) and five pinned workers; "
        "JWT checked, every body validated, ledger in Redis with `appendfsync always`, Flower up. The scripted engine, "
        "with eight slots a model worker")

    def __init__(self, environ: Mapping[str, str] | None = None, *, edits: Mapping[str, str] = _SLOTS) -> None:
        """`environ` is added to the environment that everything of it starts with; `edits` change the topology file."""
        self._environ = environ or {}
        self._edits = edits
        self._sandbox: Sandbox | None = None
        self._client: redis.Redis | None = None
        self._address: Address | None = None
        self.token = ""

    def prepare(self) -> None:
        """Nothing: it is this checkout."""

    def start(self, folder: Path) -> None:
        """Start the stack and log in."""
        sandbox = Sandbox.lay(folder, engine="scripted", edits=self._edits, shutdown_s=_SHUTDOWN_S)
        self._sandbox = replace(sandbox, environ={**sandbox.environ, **self._environ})
        report = self._sandbox.up()
        entry = urlsplit(report["entry"])
        self._address = Address(str(entry.hostname), int(entry.port or 80))
        login = Call(method="POST", path="/v1/auth/login", expects=200, body=json.dumps(report["account"]))
        self.token = login.once(self._address)["access_token"]
        self._client = self._sandbox.client()

    def stop(self) -> None:
        """Stop the stack."""
        if self._client is not None:
            self._client.close()
        if self._sandbox is not None:
            self._sandbox.down()
        self._sandbox = self._client = self._address = None

    def supervisors(self) -> list[int]:
        """Return the processes under which everything of it runs."""
        assert self._sandbox is not None, "start it first"
        report = self._sandbox.report()
        return [pid for name, pid in report["pids"].items() if name in report["gateways"] or name == "stack"]

    def processes(self) -> list[psutil.Process]:
        """Return everything of it that runs."""
        roots = [psutil.Process(pid) for pid in self.supervisors()]
        return [process for root in roots for process in (root, *root.children(recursive=True))]

    @property
    def address(self) -> Address:
        """The entry, which both gateways answer."""
        assert self._address is not None, "start it first"
        return self._address

    def submit(self, prompt: str, *, stall_s: float = 0.0) -> Call:
        """Return a submit to the model service."""
        script = f"[stall {stall_s:g}s] {prompt}" if stall_s else prompt
        return Call(method="POST", path="/v1/jobs", expects=202, token=self.token,
                    body=json.dumps({"service": "model", "input": {"prompt": script}}))

    def poll(self, job_id: str) -> Call:
        """Return a read of the job."""
        return Call(method="GET", path=f"/v1/jobs/{job_id}", expects=200, token=self.token)

    def constant(self) -> Call:
        """Return the health check: the same gateway, but no token, no job and no Redis."""
        return Call(method="GET", path="/healthz", expects=200)

    def text(self, answer: dict[str, Any]) -> str | None:
        """Return the generated text."""
        return str(answer["result"]["text"]) if answer["state"] == "succeeded" else None

    def finished(self) -> int:
        """Ask the ledger's books."""
        assert self._client is not None, "start it first"
        return int(self._client.hget("counts", "succeeded") or 0)
