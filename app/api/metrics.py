"""`GET /metrics`, for Prometheus: the books, the queues, the cloud and the routing (`app.api.metrics_routing`) from Redis,
the workers as they say themselves, and the requests of this process.

What is read from Redis is the same at every gateway: scrape one, or take the maximum. Requests are each gateway's own.
"""

import hmac
from collections.abc import Callable, Iterator

import redis
from flask import Blueprint, Response, request
from prometheus_client import CollectorRegistry, exposition
from prometheus_client.core import Metric

from app import cloud_state, queues
from app.api import bodies, metrics_routing, routing
from app.api.caller import operators_only
from app.api.metrics_family import counter, gauge
from app.api.request_times import RequestTimes
from app.job import Service, State
from app.ledger import Census
from app.ledger.scripts import unavailable
from app.worker_entry import WorkerEntry

blueprint = Blueprint("metrics", __name__)

_ENDED = {state.value for state in State if state.terminal}

_OF_A_QUEUE: tuple[tuple[str, str, Callable[[queues.Queue], float]], ...] = (
    ("waiting_jobs", "Jobs that may run now and wait for a worker", lambda queue: queue.waiting),
    ("woken_jobs", "Waiting jobs with a wake-up in the Celery queue", lambda queue: queue.woken),
    ("backlog_jobs", "Waiting jobs without a wake-up yet", lambda queue: queue.backlog),
    ("running_jobs", "Jobs that a worker owns", lambda queue: queue.running),
    ("in_cloud_jobs", "Jobs that a worker in the cloud owns", lambda queue: queue.in_cloud),
    ("sent_jobs", "Jobs sent to the cloud and not begun there", lambda queue: queue.sent),
    ("held_jobs", "Jobs that wait for another: for their turn in a line, or for the answer to the same request",
     lambda queue: queue.held),
    ("messages", "Messages in the Celery queue", lambda queue: queue.messages),
    ("oldest_wait_seconds", "How long the oldest waiting job has waited", lambda queue: queue.oldest_s))


@blueprint.get("/metrics")
def metrics() -> Response:
    """Return the metrics, for who has the scraper's token (`metrics_token`) or is an operator."""
    token = bodies.gateway().settings.metrics_token
    given = request.headers.get("Authorization", "").encode()
    return _told() if token and hmac.compare_digest(given, f"Bearer {token}".encode()) else _to_operators()


@operators_only
def _to_operators() -> Response:
    return _told()


def _told() -> Response:
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector())
    encode, content_type = exposition.choose_encoder(request.headers.get("Accept", ""))
    text: bytes = encode(registry)
    return bodies.WholeResponse([text], 200, [
        ("Content-Type", content_type), ("Content-Length", str(len(text))), ("Cache-Control", "no-store")])


class _Collector:
    """Gathers everything for one scrape."""

    def collect(self) -> Iterator[Metric]:
        """Return all metrics. Raises `StoreUnavailable`."""
        gateway = bodies.gateway()
        try:
            workers = gateway.registry.workers()
        except (redis.exceptions.RedisError, OSError) as exc:
            raise unavailable(exc) from exc
        census, lines = gateway.ledger.census(), queues.read(gateway.client)
        yield from _of_jobs(census)
        yield from _of_queues(lines)
        yield from _of_workers(workers)
        if out_there := cloud_state.read(gateway.client, gateway.settings, lines):
            yield from _of_cloud(out_there, census)
        yield from metrics_routing.collect(routing.view(), gateway.client)
        times: RequestTimes = gateway.request_times
        yield from times.collect(gateway.settings.server or "gateway")


def _of_jobs(census: Census) -> Iterator[Metric]:
    yield counter("tandem_jobs_accepted", "Jobs accepted", [((), census.counts.get("accepted", 0))], ())
    yield counter("tandem_jobs_ended", "Jobs ended, by their end",
                   [((state,), census.counts.get(state, 0)) for state in sorted(_ENDED)], ("state",))
    others = sorted(name for name in census.counts if name not in _ENDED and name != "accepted")
    yield counter("tandem_ledger_events", "What else the ledger counted: lost leases, wake-ups repeated, requests "
                   "that shared a run, refusals by a limit",
                   [((name,), census.counts[name]) for name in others], ("event",))
    yield gauge("tandem_jobs_running", "Jobs that a worker owns", [((), census.running)], ())
    yield gauge("tandem_jobs_delayed", "Jobs that wait for the time of their next attempt", [((), census.delayed)], ())
    yield gauge("tandem_books_balanced", "1 where accepted = ended + live, and every ended job is kept or purged",
                 [((), int(census.balanced))], ())


def _of_queues(found: dict[Service, queues.Queue]) -> Iterator[Metric]:
    for name, text, take in _OF_A_QUEUE:
        yield gauge(f"tandem_queue_{name}", text, [((service.value,), take(queue)) for service, queue in found.items()],
                     ("service",))


def _of_workers(workers: list[WorkerEntry]) -> Iterator[Metric]:
    labelled = [((worker.name, worker.server, ",".join(worker.services)), worker) for worker in workers]
    labels = ("worker", "server", "services")
    yield gauge("tandem_worker_up", "1 for each live worker", [(values, 1) for values, _ in labelled], labels)
    yield gauge("tandem_worker_slots", "Jobs that a worker can run at once",
                 [(values, worker.slots) for values, worker in labelled], labels)
    yield gauge("tandem_worker_busy_slots", "Jobs that a worker runs",
                 [(values, worker.busy) for values, worker in labelled], labels)
    yield gauge("tandem_worker_figure", "What a worker counts of its own, by name: the model service's batch and "
                 "memory, the cache's entries", [((worker.name, worker.server, name), value) for _, worker in labelled
                                     for name, value in sorted(worker.figures.items())], ("worker", "server", "figure"))


def _of_cloud(found: cloud_state.Cloud, census: Census) -> Iterator[Metric]:
    for name, text in (("sent", "Jobs sent to the cloud, each time"),
                       ("came_home", "Jobs that came home from the cloud without an end")):
        yield counter(f"tandem_cloud_jobs_{name}", text, [((), census.counts.get(name, 0))], ())
    yield gauge("tandem_cloud_reachable", "1 for each thread at home that reaches MNS, 0 for one that does not",
                 [((link.who,), int(link.reachable)) for link in found.links], ("thread",))
    yield gauge("tandem_cloud_jobs", "Jobs in the cloud: sent, and not known to have begun; running",
                 [(("sent",), found.sent), (("running",), found.running)], ("state",))
    yield gauge("tandem_cloud_worker_slots", "Jobs that a cloud worker can run at once",
                 [((worker.name,), worker.slots) for worker in found.workers], ("worker",))
    yield gauge("tandem_cloud_worker_busy_slots", "Jobs that a cloud worker runs",
                 [((worker.name,), worker.busy) for worker in found.workers], ("worker",))
    yield gauge("tandem_cloud_worker_silent_seconds", "How long ago a cloud worker was last heard of",
                 [((worker.name,), worker.heard_s) for worker in found.workers], ("worker",))
    yield gauge("tandem_cloud_worker_figure", "What a cloud worker counts of its own, by name",
                 [((worker.name, name), value) for worker in found.workers
                  for name, value in sorted(worker.figures.items())], ("worker", "figure"))
