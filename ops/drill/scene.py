"""The stack that is drilled, and what its operators see of it: the status page, `route status`, alerts, worker entries, and
the ledger's records.

Each server has CPUs of its own, as far as there are two, so that one can be busy and the other not.
"""

import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from app import topology
from app.cloud_registry import CloudRegistry
from app.job import Job
from app.ledger import Ledger
from app.registry import Registry
from app.routing_board import RoutingBoard
from app.routing_records import Alert, Change, Gauge, Shown
from app.routing_rules import Rules
from app.worker_entry import WorkerEntry
from ops.drill.callers import Caller
from ops.drill.pace import Pace
from ops.sandbox import Sandbox
from ops.waiting import wait_until

_ALERTS_SEEN = 500  # the newest in the stream, among which an end is looked for
_ENDS_S = 180.0  # for what is left of a load to end


class Scene:
    """A running stack under drill. `plan` is its topology, `settings` its settings."""

    def __init__(self, sandbox: Sandbox, pace: Pace) -> None:
        self.sandbox = sandbox
        self.pace = pace
        self.report = sandbox.report()
        self.settings, self.plan = topology.load(sandbox.environ)
        self.client = sandbox.client()
        self.ledger = Ledger(self.client, self.settings)
        self.registry = Registry(self.client)
        self.board = RoutingBoard(self.client)
        self.clouds = CloudRegistry(self.client)

    @property
    def caller(self) -> Caller:
        """A caller at the entry, with the operator's key and a connection of its own."""
        return self.caller_at(self.report["entry"])

    def caller_at(self, address: str) -> Caller:
        """A caller at a gateway of its choice."""
        return Caller(address, self.report["api_key"])

    # -- what the routing task shows

    def shown(self) -> Shown | None:
        """The last round of the routing task."""
        return self.board.shown()

    def gauge(self, name: str) -> Gauge:
        """A signal as the last round has it, e.g. "cpu_percent@server-1"."""
        shown = self.shown()
        return shown.remembered.gauges.get(name, Gauge()) if shown else Gauge()

    def standing(self, server: str) -> str:
        """How a server stands: open, saturated or down; "" where nobody says."""
        shown = self.shown()
        view = shown.remembered.servers.get(server) if shown else None
        return view.standing.value if view else ""

    def alert(self, name: str, scope: str) -> Alert | None:
        """The open alert of that name and scope."""
        return next((alert for alert in self.board.open_alerts() if (alert.name, alert.scope) == (name, scope)), None)

    def is_closed(self, alert: Alert) -> bool:
        """Whether the alert's end is in the stream, and it is not among the open ones."""
        told = any(event.event == "closed" and event.alert.id == alert.id
                   for _, event in self.board.alerts(_ALERTS_SEEN))
        return told and alert.id not in {each.id for each in self.board.open_alerts()}

    def changes(self, since_s: float) -> list[Change]:
        """What the policy did otherwise than before, since that Unix time, oldest first."""
        return [change for _, change in reversed(self.board.history(10_000)) if change.at_s >= since_s]

    @property
    def rules(self) -> Rules:
        """The rules in effect."""
        return self.board.rules(self.plan.rules)

    @contextmanager
    def ruled(self, name: str, **members: float) -> Iterator[None]:
        """Set other rules, as an operator does, as long as the block takes: members of a threshold, or of "routing"."""
        self.board.set({name: members}, rules=self.plan.rules, who="drill")
        try:
            yield
        finally:
            self.board.unset([name], who="drill")

    # -- what others say

    def worker(self, name: str) -> WorkerEntry | None:
        """The entry of a live worker."""
        return next((entry for entry in self.registry.workers() if entry.name == name), None)

    def held(self, server: str) -> set[str]:
        """The services that a worker of the server takes nothing new of."""
        return {service.value for entry in self.registry.workers() if entry.server == server for service in entry.held}

    def pids_of(self, server: str) -> list[int]:
        """The processes of a server: its supervisor's session."""
        session = int(self.report["pids"][server])
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    if os.getsid(int(entry.name)) == session:
                        found.append(int(entry.name))
                except ProcessLookupError:
                    continue
        return found

    def status(self) -> dict[str, Any]:
        """`GET /v1/status`."""
        with self.caller as caller:
            return caller.call("GET", "/v1/status").document

    def route_status(self) -> dict[str, Any]:
        """`celery -A workers route status --json`. Raises `RuntimeError` with what it printed when it fails."""
        done = self.sandbox.celery("route", "status", "--json")
        if done.returncode:
            raise RuntimeError(f"route status failed:\n{done.stdout}{done.stderr}")
        return dict(json.loads(done.stdout))

    def investigation(self, report_id: str) -> str:
        """What `celery -A workers route investigation` prints of a report; "" while there is none."""
        done = self.sandbox.celery("route", "investigation", report_id)
        return done.stdout if done.returncode == 0 else ""

    def shows(self, alert: Alert) -> list[str]:
        """Return where operators do not find an open alert: of the status page and `route status`."""
        looks: dict[str, Callable[[], dict[str, Any]]] = {"/v1/status": self.status, "route status": self.route_status}
        return [where for where, look in looks.items() if alert.id not in json.dumps(look())]

    # -- jobs

    def job(self, job_id: str) -> Job:
        """A job's record."""
        return self.ledger.read(job_id)

    def moves(self, job_id: str) -> list[dict[str, Any]]:
        """The moves of a job between home and the cloud, as `route explain` tells them."""
        text = self.client.hget(f"job:{job_id}", "moves") or b""
        return [dict(json.loads(line)) for line in text.splitlines()]

    def ended(self, ids: list[str], *, timeout_s: float = _ENDS_S) -> list[Job]:
        """Wait until all these jobs have ended, and return their records."""
        left = set(ids)

        def over() -> bool:
            for job_id in list(left)[:500]:
                glanced = self.ledger.glance(job_id)
                if glanced is None or glanced[0].terminal:
                    left.discard(job_id)
            return not left

        wait_until(over, timeout_s=timeout_s, every_s=0.5, what=f"{len(ids)} jobs to end")
        return [self.job(job_id) for job_id in ids]

    def audit(self) -> tuple[bool, str]:
        """`celery -A workers audit`: whether it balances, and its last line."""
        done = self.sandbox.celery("audit")
        lines = (done.stdout + done.stderr).strip().splitlines()
        return done.returncode == 0, lines[-1] if lines else ""

    def now_s(self) -> float:
        """Unix time by Redis's clock, which the records have."""
        seconds, micros = self.client.time()
        return float(seconds) + float(micros) / 1e6


@contextmanager
def playing(folder: Path, pace: Pace, edits: Mapping[str, str] | None = None) -> Iterator[Scene]:
    """A stack with a cloud and with routing, with the scripted engine, as long as the block takes; each server on CPUs of
    its own. `edits` are those of `Sandbox.lay`, beside the pace's."""
    sandbox = laid(folder, pace, edits)
    try:
        sandbox.up()
        yield Scene(sandbox, pace)
    finally:
        sandbox.down()  # also what a start that was broken off has left


def laid(folder: Path, pace: Pace, edits: Mapping[str, str] | None = None) -> Sandbox:
    """The same, not yet started."""
    return Sandbox.lay(folder, edits={**apart(), **pace.edits, **(edits or {})}, cloud=True, routing=True)


def apart() -> dict[str, str]:
    """Return the edits that give the servers processors which lie on different CPUs here: those of the first all on the
    first CPU that may be used, those of the second on the second."""
    cpus = max(len(os.sched_getaffinity(0)), 2)  # on a machine with one, the labels must differ all the same
    return {_PINS.format(*range(first, first + 5)): _PINS.format(*(1 + server + cpus * number for number in range(5)))
            for server, first in enumerate((1, 6))}


_PINS = 'auth = "P{}", model = "P{}", chat = "P{}", cache = "P{}", queue = "P{}"'
