"""What is measured, once a second: by each gateway process of its requests, by each server of itself, and by the routing
task of the queues, the callers and the cloud.

Values only: how they are measured is in `app.api.request_times`, `routing.sampling` and `routing.gathering`; what they lead
to is `routing.policy`'s. None stands for "not known", which is neither fine nor alarming.

    gateway:<server>:<pid>  STRING  a `GatewayReport` as JSON; it expires
    gateways:<server>       ZSET    pids of its gateway processes, by when each last reported (ms)
    signals:<server>        STRING  a `ServerSignals` as JSON; it expires
    users                   ZSET    tenants by when they last had a request, or a live job (ms)
"""

import msgspec

#: How long a report is believed that is not renewed: three or four intervals.
BELIEVED_S = 4.0

#: The window of times and error rates.
WINDOW_S = 60

#: Bounds of the buckets of response times, in seconds: each a fifth above the one before, from 1 ms to 100 s, so a
#: percentile read from them is at most a tenth off.
BOUNDS_S = tuple(round(0.001 * 1.2 ** step, 6) for step in range(64))


class Histogram(msgspec.Struct, frozen=True, kw_only=True):
    """Times in a window, by bucket: `counts[i]` are at most `BOUNDS_S[i]` long, the last one longer than all bounds."""

    counts: tuple[int, ...] = (0,) * (len(BOUNDS_S) + 1)
    total_s: float = 0.0


class GatewayReport(msgspec.Struct, frozen=True, kw_only=True):
    """The requests of one gateway process in the last `WINDOW_S`."""

    server: str
    pid: int
    at_ms: int  # Unix time by Redis's clock
    calls: Histogram  # answered without waiting for a job: until the answer
    answers: Histogram  # waiting for a job (a completion, `Prefer: wait`): from acceptance until its first word
    requests: int = 0  # that count for the error rate: all but those that the caller got wrong (4xx), or that were shed
    requests_failed: int = 0  # of these, answered 5xx


class Times(msgspec.Struct, frozen=True, kw_only=True):
    """Times in a window."""

    count: int
    mean_s: float
    p50_s: float
    p95_s: float


class ServerSignals(msgspec.Struct, frozen=True, kw_only=True):
    """A server, as its queue worker measures it."""

    server: str
    at_ms: int  # Unix time by Redis's clock
    cpu_percent: float | None = None  # of the CPUs of its mask, together, over the last seconds
    processors: dict[str, float] = {}  # by label ("P2"): how busy the CPUs behind it are
    memory_percent: float | None = None  # of the machine's, or of the memory limit of its control group if that is tighter
    calls: Times | None = None  # None: no gateway of the server reports
    answers: Times | None = None
    requests: int = 0
    requests_failed: int = 0
    attempts: int = 0  # at jobs, that its workers ended in the last `WINDOW_S`, whichever way
    attempts_failed: int = 0  # of these, by the engine's or our own fault
    workers: tuple[str, ...] = ()  # its live workers' node names
    held: tuple[str, ...] = ()  # services that a worker of it takes nothing new of at the moment, by anyone's wish


class QueueSignals(msgspec.Struct, frozen=True, kw_only=True):
    """The queue of a service."""

    waiting: int = 0  # jobs that may run now, at home
    reserved: int = 0  # of these, with a wake-up in the Celery queue
    running: int = 0  # at home
    slots: int = 0  # of live workers at home that take new jobs
    oldest_s: float = 0.0  # how long the oldest of those waiting has waited
    rate: float | None = None  # jobs that ended at home in a second, lately
    pace_s: float | None = None  # how long one runs at home, smoothed; None before anything was measured
    wait_s: float | None = None  # estimated for a job that comes last now: Little's law; None without a pace or a slot


class CloudSignals(msgspec.Struct, frozen=True, kw_only=True):
    """The cloud, as home knows it. Counts only grow; what is new is their difference to those seen before."""

    reachable: bool | None = None  # whether home reaches MNS; None: nobody says
    workers: int = 0  # that live and take new jobs
    slots: int = 0  # of these
    sent: int = 0  # jobs sent and not begun there
    running: int = 0
    pace_s: float | None = None  # how long a job runs there, smoothed
    posts: int = 0  # count: messages that MNS took
    posts_failed: int = 0  # count: that it did not, or of which nobody knows
    begun: int = 0  # count: jobs begun in the cloud
    lapsed: int = 0  # count: jobs that came home because the cloud did not begin them, or fell silent
    succeeded: int = 0  # count: jobs that ended well there
    failed: int = 0  # count: jobs that failed there, or were given back, but for those that the caller got wrong
    jobs_left: int | None = None  # of the cap on jobs a minute; None: no cap
    money_left: float | None = None  # of the cap on money an hour; None: no cap
    money_hour: float = 0.0  # spent, or reserved, in the last hour
    jobs_minute: int = 0  # sent in the last minute
    job_cost: float = 0.0  # of a waiting job, at most, estimated from those that were sent last


class Signals(msgspec.Struct, frozen=True, kw_only=True):
    """All of it, as the routing task gathered it."""

    at_ms: int
    servers: dict[str, ServerSignals | None]  # every server of the topology; None: nothing is heard of it
    queues: dict[str, QueueSignals]  # by service
    users: int | None = None
    cloud: CloudSignals | None = None  # None: there is no cloud
