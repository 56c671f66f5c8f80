"""Makes a Celery worker process a node of Tandem: reads where it runs, loads what its services need, and starts its beat.

Jobs run on threads of the worker's own process (`workers.pool`), because the node's leases, its engine and its beat belong
to the process; another pool is refused.
"""

import logging
import os
from typing import TYPE_CHECKING, Any

from celery import signals

from app import logs, topology
from app.errors import SettingsError, TandemError
from app.job import Service
from app.ledger import Ledger, Place
from app.settings import Settings
from app.store import open_redis
from app.topology import Topology, WorkerSpec
from workers import resources
from workers.node import Node

if TYPE_CHECKING:
    from workers.queue_duties import QueueDuties

_node: Node | None = None
_consumer: Any = None
_duties: "QueueDuties | None" = None


def node() -> Node:
    """The node of this worker process."""
    if _node is None:
        raise SettingsError(["this is not a worker: start one with `celery -A workers worker -Q SERVICE "
                             "-n SERVICE@SERVER`, or a whole server with `python -m ops.server up NAME`"])
    return _node


def consumer() -> Any:
    """Celery's consumer in this worker process."""
    if _consumer is None:
        raise SettingsError(["this worker has not started to consume"])
    return _consumer


@signals.worker_init.connect  # type: ignore[untyped-decorator]
def _prepare(sender: Any, **_: Any) -> None:
    """Load what the services need before the worker takes its first job; a worker that cannot does not start.

    Celery logs and forgets what a signal's receiver raises, so the refusal leaves as SystemExit.
    """
    global _node
    if not _is_ours(sender.app):
        return
    logs.configure("INFO")  # until Celery asks for its logging, with the level that is set
    try:
        _node = prepare(sender)
    except TandemError as exc:
        logs.event("worker_refused", level=logging.ERROR, worker=sender.hostname, why=str(exc))
        raise SystemExit(f"{sender.hostname}: {exc}") from exc
    except Exception as exc:
        logs.event("worker_refused", level=logging.ERROR, exc_info=True, worker=sender.hostname, why=str(exc))
        raise SystemExit(f"{sender.hostname} cannot start: {type(exc).__name__}: {exc}") from exc


def _is_ours(app: Any) -> bool:
    """Whether a worker is one of Tandem's application; signals tell of every worker in the process."""
    return hasattr(app, "tandem_settings")


def prepare(sender: Any) -> Node:
    """Return the node for a Celery worker, with its resources loaded. Raises `SettingsError`."""
    settings, plan = topology.load()
    if sender.pool_cls.__module__ != "workers.pool":
        raise SettingsError([f"the pool is {sender.pool_cls.__module__}; start the worker without --pool"])
    services = tuple(Service(name) for name in sender.app.amqp.queues.consume_from)
    name = sender.hostname.partition("@")[0]
    processors, most = pins(plan, settings, name), max(spec_of(plan, settings, name).most, sender.concurrency)
    place = Place(worker=sender.hostname, server=settings.server, processor=",".join(processors))
    ledger = Ledger(open_redis(settings), settings)
    engine = resources.load(settings, services, sender.concurrency, most=most).engine
    return Node(ledger, settings, place, services=services, processors=processors, slots=sender.concurrency,
                most=most, figures=engine.figures if engine else dict)


def pins(plan: Topology, settings: Settings, worker: str) -> tuple[str, ...]:
    """Return the labels of the processors that the topology gives this worker."""
    return tuple(f"P{number}" for number in spec_of(plan, settings, worker).processors)


def spec_of(plan: Topology, settings: Settings, worker: str) -> WorkerSpec:
    """Return what the topology says of this worker."""
    for spec in plan.server(settings.server).workers:
        if spec.name == worker:
            return spec
    raise SettingsError([f"the topology has no worker '{worker}' on {settings.server}; name the node "
                         f"<worker>@{settings.server}, e.g. -n model@{settings.server}"])


@signals.worker_ready.connect  # type: ignore[untyped-decorator]
def _start(sender: Any, **_: Any) -> None:
    """Begin to beat, and to do what a worker of the queue service does beside its jobs, where this is one."""
    global _consumer, _duties
    if not _is_ours(sender.app):
        return
    _consumer = sender
    here = node()
    here.start()
    logs.event("worker_ready", worker=here.place.worker, pid=os.getpid(), cpus=sorted(os.sched_getaffinity(0)))
    if Service.QUEUE in here.services:
        from workers.queue_duties import QueueDuties  # other workers need nothing of all that

        _duties = QueueDuties(sender.app, here.settings, topology.load()[1], who=here.place.worker)
        _duties.start()


@signals.worker_shutting_down.connect  # type: ignore[untyped-decorator]
def _drain(**_: Any) -> None:
    if _duties:
        _duties.stop()
    if _node:
        _node.drain()


@signals.worker_shutdown.connect  # type: ignore[untyped-decorator]
def _stop(**_: Any) -> None:
    if _duties:
        _duties.join()
    if _node:
        _node.stop()
        logs.event("worker_stopped", worker=_node.place.worker)
