"""How the queues stand, service by service: for operators, for metrics, and for the routing task."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import redis

from app.job import Route, Service
from app.lua_script import LuaScript

#: Jobs in line among which the oldest is looked for: the line is nearly by age, and too long to be walked whole.
_LOOKED_AT = 500

#: Jobs that run, or are sent, or held, of which the service is looked up. Where there are more, so many drawn by lot stand
#: for all: their shares are then 4.4 in 100 off at most, 19 times in 20, and looking takes Redis a millisecond or two.
_DRAWN = 500


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


def read(client: redis.Redis, *, drawn: int = _DRAWN) -> dict[Service, Queue]:
    """Return the queue of each service. How many of those that run, are sent or held are of which service is exact up to
    `drawn` of them. Raises `StoreUnavailable`."""
    services = list(Service)
    now_ms, leased, sent, held, *figures = LuaScript(client, "survey_queues")(
        ("leases", "cloud", "held"), drawn, _LOOKED_AT, *(service.value for service in services))
    running, away = _shares(leased)
    found = {}
    for index, service in enumerate(services):
        waiting, woken, messages, created = figures[4 * index:4 * index + 4]
        found[service] = Queue(
            waiting=waiting, woken=woken, messages=messages, running=running[service], in_cloud=away[service],
            sent=_shares(sent)[0][service], held=_shares(held)[0][service],
            oldest_s=max(now_ms - int(created), 0) / 1000 if created else 0.0)
    return found


def _shares(reply: Sequence[int | bytes]) -> tuple[Counter[Service], Counter[Service]]:
    """Return how many jobs there are of each service, and how many of them in the cloud."""
    size, looked, *kinds = reply
    every, away = Counter[Service](), Counter[Service]()
    for service, route, count in zip(*(kinds[start::3] for start in range(3)), strict=True):
        if service not in _SERVICES:  # its record has gone since, or is another version's
            continue
        jobs = round(int(count) * int(size) / max(int(looked), 1))
        every[_SERVICES[service]] += jobs
        if route == _CLOUD:
            away[_SERVICES[service]] += jobs
    return every, away


_CLOUD = Route.CLOUD.value.encode()
_SERVICES = {service.value.encode(): service for service in Service}
