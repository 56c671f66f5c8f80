"""How the queues stand, service by service: for operators and for metrics."""

from collections import Counter
from dataclasses import dataclass

import redis

from app.job import Route, Service
from app.ledger.scripts import unavailable

#: Jobs in line among which the oldest is looked for: the line is nearly by age, and too long to be walked whole.
_LOOKED_AT = 1000

_CLOUD = Route.CLOUD.value.encode()
_MOST_HELD = 10_000  # held jobs that are counted by service


@dataclass(frozen=True, slots=True, kw_only=True)
class Queue:
    """The queue of a service at one moment."""

    waiting: int  # jobs that may run now
    woken: int  # those of them with a wake-up in the Celery queue
    messages: int  # in the Celery queue: wake-ups, some maybe of jobs that have gone
    running: int  # here or in the cloud
    in_cloud: int  # of those running
    sent: int  # to the cloud, and not begun there
    held: int  # jobs that wait for another: for their turn in a line, or for the answer to the same request
    oldest_s: float  # how long the oldest of the jobs that may run now has waited; 0 where none waits

    @property
    def backlog(self) -> int:
        """Jobs that may run now, without a wake-up yet."""
        return max(self.waiting - self.woken, 0)


def read(client: redis.Redis) -> dict[Service, Queue]:
    """Return the queue of each service. Raises `StoreUnavailable`."""
    services = list(Service)
    try:
        with client.pipeline(transaction=False) as pipeline:
            pipeline.time()
            pipeline.sort("leases", by="nosort", get=["job:*->service", "job:*->route"], groups=True)
            pipeline.sort("cloud", by="nosort", get="job:*->service")
            pipeline.sort("held", start=0, num=_MOST_HELD, by="nosort", get="job:*->service")
            for service in services:
                pipeline.zcard(f"waiting:{service.value}")
                pipeline.zcard(f"woken:{service.value}")
                pipeline.llen(service.value)
                pipeline.sort(f"waiting:{service.value}", start=0, num=_LOOKED_AT, by="nosort", get="job:*->created_ms")
            now, leased, sent, held, *figures = pipeline.execute()
    except (redis.exceptions.RedisError, OSError) as exc:
        raise unavailable(exc) from exc
    running, away = Counter(service for service, _ in leased), Counter(map(tuple, leased))
    now_ms = now[0] * 1000 + now[1] // 1000
    found = {}
    for index, service in enumerate(services):
        name = service.value.encode()
        waiting, woken, messages, created = figures[4 * index:4 * index + 4]
        oldest_ms = min((int(each) for each in created if each), default=now_ms)
        found[service] = Queue(
            waiting=waiting, woken=woken, messages=messages, running=running[name], in_cloud=away[name, _CLOUD],
            sent=sent.count(name), held=held.count(name), oldest_s=max(now_ms - oldest_ms, 0) / 1000)
    return found
