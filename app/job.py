"""The job: what a caller asked for, and the record of what became of it.

The id of a job is also the id of its Celery task (a UUID of version 7, so that ids sort by time of creation).
"""

import functools
import json
import random
import re
import time
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

import msgspec


class State(StrEnum):
    """Where a job stands. Only the ledger moves it, and never out of a terminal state."""

    QUEUED = "queued"
    """Accepted, waiting for a worker, here or in the cloud, or held for another job: for its turn in a line, or for the
    answer of one that asks the same. Entered by submit, release and reap. Left by claim, take, begin (in the cloud), cancel
    and expire, and, held for an answer, with the end of the one that gives it. Sent to the cloud, and home again by recall,
    keep and come_home, it stays queued, and no attempt begins. A crash anywhere leaves it queued: it is in its service's
    waiting set, where recovery repeats a lost wake-up, or in the set of those held, or in that of those sent, from where it
    comes home when nobody out there begins it in time."""

    RUNNING = "running"
    """One worker owns it under a lease: here, or, where its route is the cloud, a run out there. Entered by claim, take and
    begin. Left by settle, release, cancel, expire (deadline) and reap. When the worker dies, or is not heard of, the lease
    runs out, and reap queues the job again, at home, or fails it."""

    SUCCEEDED = "succeeded"
    """Terminal: the result is recorded. Entered by settle from the attempt that owns the lease, once."""

    FAILED = "failed"
    """Terminal: the error is recorded. Entered by settle, or by reap when too many attempts lost their worker."""

    CANCELLED = "cancelled"
    """Terminal: the caller cancelled it, or its deadline passed while it ran. A late result is refused."""

    EXPIRED = "expired"
    """Terminal: its deadline passed before it ever started."""

    @property
    def terminal(self) -> bool:
        """Whether nothing can change the job any more."""
        return self not in (State.QUEUED, State.RUNNING)


class Lane(StrEnum):
    """How urgent a job is. While there is more to do than the workers can, a tenant's jobs of a lane run ten times as often
    as those of the next (`ledger/lua/prelude/order.lua`); none is starved for good."""

    INTERACTIVE = "interactive"
    STANDARD = "standard"
    BATCH = "batch"


class Route(StrEnum):
    """Where a job runs, or is to run. One that ended has the route of its last attempt."""

    LOCAL = "local"
    CLOUD = "cloud"


class Service(StrEnum):
    """The five services. Each has a Celery queue of its own name."""

    AUTH = "auth"
    MODEL = "model"
    CHAT = "chat"
    CACHE = "cache"
    QUEUE = "queue"


def service_of(task: str) -> Service:
    """Return the service of a task: the first part of its name."""
    return Service(task.partition(".")[0])


_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_STATES = {state.value.encode(): state for state in State}
_LANES = {lane.value.encode(): lane for lane in Lane}
_ROUTES = {route.value.encode(): route for route in Route}
_SERVICES = {service.value.encode(): service for service in Service}


def new_job_id() -> str:
    """Return a UUID of version 7: 48 bits of Unix milliseconds, 12 of what remains of the time, 62 random ones (RFC 9562,
    6.2, method 3). So a process's ids are in the order of their making, and jobs accepted in one millisecond stay in line.

    An id is no secret (a job is shown to its tenant only), so Python's own generator, seeded by the system in each process,
    does; asking the system each time costs more than the rest of this function.
    """
    ms, rest_ns = divmod(time.time_ns(), 1_000_000)
    value = ms << 80 | 0x7 << 76 | (rest_ns << 12) // 1_000_000 << 64 | 0b10 << 62 | random.getrandbits(62)
    text = f"{value:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def is_job_id(text: str) -> bool:
    """Tell whether `text` is a UUID in its canonical form; anything else cannot name a job."""
    return _UUID.fullmatch(text) is not None


def model_part(job_id: str) -> str:
    """Return the id of the model job that does a chat job's work. It follows from the chat's: who knows one knows the
    other, and another attempt at the chat asks the model only once."""
    return str(uuid.uuid5(uuid.UUID(job_id), "model.generate"))


class NewJob(msgspec.Struct, frozen=True, kw_only=True):
    """A validated request on its way into the ledger."""

    id: str
    service: Service
    task: str  # the Celery task that runs it, e.g. "model.generate"
    tenant: str  # the account it belongs to
    input: bytes  # JSON, as validated
    lane: Lane = Lane.STANDARD
    deadline_s: float | None = None  # seconds from acceptance; None: no deadline
    idempotency_key: str | None = None
    digest: str = ""  # of the whole request; compared when an idempotency key, or an id that the caller chose, comes again
    parent: str | None = None  # the job that submitted this one
    trace: str | None = None  # W3C traceparent, carried along
    line: str | None = None  # jobs of one line run one at a time, in the order of acceptance
    fingerprint: str | None = None  # of a deterministic request: live jobs with the same one are answered by one run
    webhook_url: str | None = None  # told of the job's end
    metered: bool = False  # counts against its tenant's limits
    tokens: int = 0  # that it may cost at most, for the limit on tokens; corrected when it has ended


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """A job as the ledger holds it. Times are Unix milliseconds by Redis's clock."""

    id: str
    service: Service
    task: str
    tenant: str
    state: State
    lane: Lane
    route: Route
    attempt: int  # 0 until first claimed; grows by one with each claim
    created_ms: int
    input: bytes = b"{}"
    started_ms: int | None = None
    first_ms: int | None = None  # when its last attempt said its first word; None where it said nothing meanwhile
    finished_ms: int | None = None
    deadline_ms: int | None = None
    server: str | None = None
    processor: str | None = None  # label of the processor its worker is pinned to, e.g. "P2"
    worker: str | None = None
    lost: int = 0  # attempts whose worker vanished
    recorded: int = 0  # how often a terminal state was written; more than 1 would be a broken ledger
    result: bytes | None = None  # JSON
    error: bytes | None = None  # JSON: code, detail, fault
    usage: bytes | None = None  # JSON: prompt_tokens, completion_tokens, cached_tokens
    decision: bytes | None = None  # JSON: why it went where it went
    parent: str | None = None
    position: int | None = None  # 0 = next, while queued
    eta_s: float | None = None  # measured pace times position, while queued; None before anything was measured

    @classmethod
    def from_record(cls, job_id: str, record: Mapping[bytes, bytes], *, position: int | None = None,
                    eta_s: float | None = None) -> "Job":
        """Build a job from its Redis hash (field name -> raw value)."""
        def text(name: bytes) -> str | None:
            value = record.get(name)
            return value.decode() if value else None

        def number(name: bytes) -> int | None:
            value = record.get(name)
            return int(value) if value else None

        return cls(
            id=job_id, service=_SERVICES[record[b"service"]], task=record[b"task"].decode(),
            tenant=record[b"tenant"].decode(), state=_STATES[record[b"state"]], lane=_LANES[record[b"lane"]],
            route=_ROUTES[record[b"route"]], attempt=int(record[b"attempt"]), created_ms=int(record[b"created_ms"]),
            input=record.get(b"input") or b"{}",
            started_ms=number(b"started_ms"), finished_ms=number(b"finished_ms"), deadline_ms=number(b"deadline_ms"),
            first_ms=number(b"first_ms"),
            server=text(b"server"), processor=text(b"processor"), worker=text(b"worker"),
            lost=number(b"lost") or 0, recorded=number(b"recorded") or 0,
            result=record.get(b"result") or None, error=record.get(b"error") or None, usage=record.get(b"usage") or None,
            decision=record.get(b"decision") or None, parent=text(b"parent"), position=position, eta_s=eta_s,
        )

    def public(self, *, durability: int) -> dict[str, Any]:
        """Return the job object of the HTTP contract. JSON members pass through unparsed."""
        placed = self.state is not State.QUEUED  # where an attempt that was lost or given back had been is past
        return {
            "id": self.id, "service": self.service.value, "task": self.task, "state": self.state.value,
            "lane": self.lane.value, "route": self.route.value, "server": self.server if placed else None,
            "processor": self.processor if placed else None,
            "attempt": self.attempt, "durability": durability, "position": self.position, "eta_s": self.eta_s,
            "created_at": timestamp(self.created_ms), "started_at": timestamp(self.started_ms),
            "finished_at": timestamp(self.finished_ms), "usage": raw(self.usage), "result": raw(self.result),
            "error": raw(self.error), "decision": raw(self.decision),
        }

    def error_text(self) -> str:
        """Return the error as one sentence, for logs and for Celery's view."""
        if not self.error:
            return f"job {self.id} is {self.state}"
        error = json.loads(self.error)
        return f"{error.get('code')}: {error.get('detail')}"


def timestamp(at_ms: int | None) -> str | None:
    """Return Unix milliseconds as RFC 3339 in UTC, to the millisecond."""
    if at_ms is None:
        return None
    return f"{_second(at_ms // 1000)}.{at_ms % 1000:03d}Z"


@functools.lru_cache(maxsize=4096)
def _second(at_s: int) -> str:
    return datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def raw(value: bytes | None) -> msgspec.Raw | None:
    """Wrap stored JSON so that it is copied into a response, not parsed and written again."""
    return msgspec.Raw(value) if value else None
