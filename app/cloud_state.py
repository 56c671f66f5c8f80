"""How the cloud stands, for operators and for metrics: whether its queues are reached, what is out there, and who works."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import redis

from app.cloud_registry import CloudLink, CloudRegistry, CloudWorker
from app.job import Service
from app.queues import Queue
from app.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Cloud:
    """The cloud at one moment."""

    url: str
    prefix: str  # of the queues' names
    links: list[CloudLink]  # of the threads at home that live
    sent: int  # jobs that no cloud worker has begun yet, as far as is known
    running: int  # jobs that a cloud worker runs
    workers: list[CloudWorker]

    @property
    def reachable(self) -> bool | None:
        """Whether a queue worker at home reaches the queues, which is enough; None where none has said so."""
        return any(reaching(self.links).values()) if self.links else None

    def public(self) -> Mapping[str, Any]:
        """Return it as `/v1/status` has it."""
        return {
            "url": self.url, "prefix": self.prefix, "reachable": self.reachable,
            "links": [{"thread": link.who, "reachable": link.reachable, "why": link.why,
                       "for_s": link.for_s} for link in self.links],
            "sent": self.sent, "running": self.running,
            "workers": [{"name": worker.name, "processors": worker.processor.split(",") if worker.processor else [],
                         "slots": worker.slots, "busy": worker.busy, "engine": worker.engine, "stopping": worker.stopping,
                         "heard_s": worker.heard_s, "figures": worker.figures} for worker in self.workers]}


def reaching(links: Iterable[CloudLink]) -> dict[str, bool]:
    """Return for each queue worker whether all of its threads reach the queues."""
    stand: dict[str, bool] = {}
    for link in links:
        worker = link.who.partition(" ")[0]
        stand[worker] = stand.get(worker, True) and link.reachable
    return stand


def read(client: redis.Redis, settings: Settings, queues: Mapping[Service, Queue]) -> Cloud | None:
    """Return how the cloud stands, where the queues stand so; None where there is none. Raises `StoreUnavailable`."""
    if not settings.mns_url:
        return None
    registry = CloudRegistry(client)
    return Cloud(url=settings.mns_url, prefix=settings.mns_prefix, links=registry.links(),
                 sent=sum(queue.sent for queue in queues.values()),
                 running=sum(queue.in_cloud for queue in queues.values()), workers=registry.workers())
