"""What an investigation finds: the records of a report, without behaviour. Times are Unix milliseconds by Redis's clock.

Nothing in them is a caller's: no prompts, no answers, no command lines, no arguments of Redis's commands; jobs are named by
their ids.
"""

import re

import msgspec

from app.job import State
from app.routing_records import Alert, Level


class ThreadStack(msgspec.Struct, frozen=True, kw_only=True):
    """Threads of a process that were at the same place."""

    names: tuple[str, ...]  # of some of them
    count: int
    active: bool  # on a CPU, or about to be
    holds_gil: bool  # one of them had the interpreter
    frames: tuple[str, ...]  # "function (file:line)", innermost first


class ProcessStacks(msgspec.Struct, frozen=True, kw_only=True):
    """Where the threads of a worker were."""

    worker: str
    pid: int
    busy: int  # jobs that it was running, as it had said itself
    threads: tuple[ThreadStack, ...] = ()
    note: str = ""  # why there are none, or some are left out


class Process(msgspec.Struct, frozen=True, kw_only=True):
    """A process of the machine. `cpu_percent` is of one CPU."""

    pid: int
    name: str
    worker: str  # Celery node name, where it is one of our workers; else empty
    cpu_percent: float
    memory_mb: float
    threads: int


class WorkerState(msgspec.Struct, frozen=True, kw_only=True):
    """A worker, as it had said itself."""

    name: str
    pid: int
    slots: int
    busy: int
    idle_s: float
    heard_s: float  # how long ago it had said so
    held: tuple[str, ...]  # services that it takes nothing new of


class ServerPart(msgspec.Struct, frozen=True, kw_only=True):
    """A server, as its own queue worker saw it."""

    server: str
    at_ms: int
    took_s: float
    cpus: int  # of the machine
    load: tuple[float, float, float]  # over 1, 5 and 15 minutes
    workers: tuple[WorkerState, ...] = ()
    stacks: tuple[ProcessStacks, ...] = ()
    by_cpu: tuple[Process, ...] = ()
    by_memory: tuple[Process, ...] = ()
    notes: tuple[str, ...] = ()


class ModelPart(msgspec.Struct, frozen=True, kw_only=True):
    """The model job that does the work of a chat job."""

    id: str
    state: State
    server: str
    waiting_s: float
    running_s: float


class JobTimes(msgspec.Struct, frozen=True, kw_only=True):
    """Where the time of a job went. What has not begun is None."""

    id: str
    service: str
    state: State
    route: str
    server: str
    worker: str
    attempt: int
    lost: int  # attempts whose worker vanished; their time counts as waiting
    total_s: float
    waiting_s: float  # for a worker, until its last attempt began
    until_word_s: float | None  # running until its first word; where it says none, until its end
    speaking_s: float | None  # from its first word until its end
    model: ModelPart | None = None


class QueueState(msgspec.Struct, frozen=True, kw_only=True):
    """The queue of a service."""

    service: str
    waiting: int
    woken: int
    running: int
    in_cloud: int
    sent: int
    held: int
    oldest_s: float


class SlowCommand(msgspec.Struct, frozen=True, kw_only=True):
    """A command of Redis's slow log, without its arguments."""

    at_s: int
    command: str  # with the script's name, where it is one of ours
    took_ms: float


class LatencyEvent(msgspec.Struct, frozen=True, kw_only=True):
    """An event that Redis's latency monitor has noted."""

    event: str
    at_s: int
    latest_ms: int
    worst_ms: int
    history: tuple[tuple[int, int], ...] = ()  # the last ones: at (s), ms


class LevelShown(msgspec.Struct, frozen=True, kw_only=True):
    """A signal, as the last round of the routing task had it."""

    signal: str  # "response_s@server-1"
    level: Level
    value: float | None
    since_s: float


class SystemPart(msgspec.Struct, frozen=True, kw_only=True):
    """What one queue worker saw of the whole."""

    who: str
    at_ms: int
    took_s: float
    servers: tuple[str, ...]  # of the topology: each is to contribute
    slowest: tuple[JobTimes, ...] = ()  # that ended in the last minutes
    running: tuple[JobTimes, ...] = ()  # longest first
    waiting: tuple[JobTimes, ...] = ()  # longest first
    queues: tuple[QueueState, ...] = ()
    workers: tuple[WorkerState, ...] = ()
    levels: tuple[LevelShown, ...] = ()
    reason: str = ""  # how routing stood, as a sentence
    cloud: dict[str, str | int | float | bool | None] = {}
    redis: dict[str, str | int | float] = {}
    slow_log: tuple[SlowCommand, ...] = ()
    latency: tuple[LatencyEvent, ...] = ()
    notes: tuple[str, ...] = ()


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """Who asked for a report, when and why."""

    id: str
    at_ms: int
    who: str
    why: str
    alert: Alert | None = None  # as it opened


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """A report, as far as it has come: its parts arrive within seconds, each on its own."""

    asked: Asked
    system: SystemPart | None
    servers: dict[str, ServerPart]

    @property
    def missing(self) -> tuple[str, ...]:
        """The servers that have not contributed."""
        expected = self.system.servers if self.system else ()
        return tuple(server for server in expected if server not in self.servers)


class Listed(msgspec.Struct, frozen=True, kw_only=True):
    """A report, in a list of them."""

    asked: Asked
    parts: tuple[str, ...]  # that are there: servers by name, and "system"


def id_of(alert_id: str) -> str:
    """Return the id of the report that an alert asks for. It follows from the alert's, so asking twice is asking once; and
    it can stand in a URL and on a command line as it is."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", alert_id).strip("-")


def may_be_id(text: str) -> bool:
    """Whether a report may have this id."""
    return re.fullmatch(r"[A-Za-z0-9._-]+", text) is not None
