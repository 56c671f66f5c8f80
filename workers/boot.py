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
from app.model_names import ModelNames
from app.settings import Settings
from app.store import open_redis
from app.topology import Topology
from routing.recovery import Recovery
from workers import resources
from workers.answer_keeping import AnswerKeeping
from workers.node import Node

if TYPE_CHECKING:
    from routing.cloud.home import Home
    from workers.delivery import Deliverer

_node: Node | None = None
_consumer: Any = None
_recovery: Recovery | None = None
_deliverer: "Deliverer | None" = None
_cloud: "Home | None" = None

_GIVE_BACK_S = 4.0  # for webhooks under way when the worker stops
_HANG_UP_S = 2.0  # for the cloud's reports under way


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
    processors = pins(plan, settings, sender.hostname.partition("@")[0])
    place = Place(worker=sender.hostname, server=settings.server, processor=",".join(processors))
    ledger = Ledger(open_redis(settings), settings)
    engine = resources.load(settings, services, sender.concurrency).engine
    return Node(ledger, settings, place, services=services, processors=processors, slots=sender.concurrency,
                figures=engine.figures if engine else dict)


def pins(plan: Topology, settings: Settings, worker: str) -> tuple[str, ...]:
    """Return the labels of the processors that the topology gives this worker."""
    for spec in plan.server(settings.server).workers:
        if spec.name == worker:
            return tuple(f"P{number}" for number in spec.processors)
    raise SettingsError([f"the topology has no worker '{worker}' on {settings.server}; name the node "
                         f"<worker>@{settings.server}, e.g. -n model@{settings.server}"])


@signals.worker_ready.connect  # type: ignore[untyped-decorator]
def _start(sender: Any, **_: Any) -> None:
    """Begin to beat, and to recover, deliver webhooks and deal with the cloud where this worker runs the queue service."""
    global _cloud, _consumer, _deliverer, _recovery
    if not _is_ours(sender.app):
        return
    _consumer = sender
    here = node()
    here.start()
    logs.event("worker_ready", worker=here.place.worker, pid=os.getpid(), cpus=sorted(os.sched_getaffinity(0)))
    if Service.QUEUE in here.services:
        _recovery = Recovery(open_redis(here.settings), here.settings, who=here.place.worker)
        _recovery.start()
    if Service.QUEUE in here.services and (keyring := resources.held().keyring):
        from workers.delivery import Deliverer  # its HTTP client takes a tenth of a second of a worker's start

        _deliverer = Deliverer(here.settings, keyring, worker=here.place.worker)
        _deliverer.start()
    if Service.QUEUE in here.services and here.settings.mns_url:
        from routing.cloud.home import Home  # nor do workers without a cloud need Alibaba's SDK

        held = resources.held()
        keeping = held.keeping or AnswerKeeping(held.answers)
        _cloud = Home(here.settings, who=here.place.worker,
                      recorded=keeping.from_elsewhere(ModelNames(held.client, here.settings)))
        _cloud.start()


@signals.worker_shutting_down.connect  # type: ignore[untyped-decorator]
def _drain(**_: Any) -> None:
    if _recovery:
        _recovery.stop()
    if _deliverer:
        _deliverer.stop()
    if _cloud:
        _cloud.stop()
    if _node:
        _node.drain()


@signals.worker_shutdown.connect  # type: ignore[untyped-decorator]
def _stop(**_: Any) -> None:
    if _cloud:
        _cloud.join(_HANG_UP_S)
    if _deliverer:
        _deliverer.join(_GIVE_BACK_S)
    if _node:
        _node.stop()
        logs.event("worker_stopped", worker=_node.place.worker)
