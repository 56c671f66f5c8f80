"""Makes a Celery worker process a cloud worker: checks its way to MNS, loads its engine, starts its courier and its ear.

Runs have threads of the worker's own process, because the engine belongs to the process; another pool is refused.
"""

import logging
import os
from typing import Any

from celery import signals
from celery.concurrency.thread import TaskPool

from app import logs
from app.errors import SettingsError, TandemError
from app.topology import Topology
from routing.mns.options import LostLease
from workers.cloud import access
from workers.cloud.node import CloudNode
from workers.cloud.stops import StopsHearing
from workers.engine import load_engine

_node: CloudNode | None = None
_hearing: StopsHearing | None = None

#: When all runs are over, for the last report and for the queue of stops, which began to close at the last run's end.
_LAST_REPORT_S, _LAST_STOPS_S = 1.5, 2.5


def node() -> CloudNode:
    """The node of this worker process."""
    if _node is None:
        raise SettingsError(["this is not a cloud worker: start one with `TANDEM_PROFILE=cloud celery -A workers worker "
                             "-n cloud@NAME`"])
    return _node


def lease_lost(lost: LostLease) -> None:
    """The transport found that a message is no longer ours; it says so itself."""
    for run in _node.lose(lost.message_id) if _node else ():
        logs.event("run_too_long", level=logging.WARNING, job=run.errand.job, run=run.short, why=run.why)


def _is_ours(app: Any) -> bool:
    """Whether a worker is a cloud worker; signals tell of every worker in the process."""
    return hasattr(app, "tandem_cloud")


@signals.worker_init.connect  # type: ignore[untyped-decorator]
def _prepare(sender: Any, **_: Any) -> None:
    """Load the engine before the worker takes its first errand; a worker that cannot does not start.

    Celery logs and forgets what a signal's receiver raises, so the refusal leaves as SystemExit.
    """
    global _node
    if not _is_ours(sender.app):
        return
    logs.configure("INFO")  # until Celery asks for its logging, with the level that is set
    try:
        _node = prepare(sender)
    except Exception as exc:
        why = _in_a_line(exc)
        logs.event("worker_refused", level=logging.ERROR, exc_info=not isinstance(exc, TandemError), worker=sender.hostname,
                   why=why)
        raise SystemExit(f"{sender.hostname} cannot start: {why}") from exc


def _in_a_line(exc: Exception) -> str:
    if isinstance(exc, SettingsError):
        return "; ".join(exc.faults)
    return str(exc) if isinstance(exc, TandemError) else f"{type(exc).__name__}: {exc}"


def prepare(sender: Any) -> CloudNode:
    """Return the node for a Celery worker, with its engine loaded. Raises `SettingsError`."""
    settings, plan = sender.app.tandem_settings, sender.app.tandem_cloud
    if not issubclass(sender.pool_cls, TaskPool):
        raise SettingsError([f"the pool is {sender.pool_cls.__module__}; start the worker without --pool"])
    access.check(settings)
    engine = load_engine(settings, sender.concurrency)
    return CloudNode(settings, engine, name=sender.hostname, slots=sender.concurrency, processors=pins(plan))


def pins(plan: Topology) -> tuple[str, ...]:
    """Return the labels of the processors that the topology gives cloud workers."""
    return tuple(f"P{number}" for number in plan.cloud.processors) if plan.cloud else ()


@signals.worker_ready.connect  # type: ignore[untyped-decorator]
def _start(sender: Any, **_: Any) -> None:
    global _hearing
    if not _is_ours(sender.app):
        return
    here = node()
    _hearing = StopsHearing(here.settings, worker=here.name, heard=_void, over=lambda: here.done)
    _hearing.start()
    here.courier.start()
    logs.event("worker_ready", worker=here.name, pid=os.getpid(), cpus=sorted(os.sched_getaffinity(0)))


def _void(names: Any) -> None:
    for run in node().void(names):
        logs.event("run_stopped", job=run.errand.job, run=run.short, why=run.why)


@signals.worker_shutting_down.connect  # type: ignore[untyped-decorator]
def _drain(**_: Any) -> None:
    """A signal's handler: it may log nothing, for the thread that it interrupts may be writing a line."""
    if _node:
        _node.drain()


def give_back() -> None:
    """The worker goes down, and no run has any more time."""
    if _node:
        _node.drain(within_s=0.0)


@signals.worker_shutdown.connect  # type: ignore[untyped-decorator]
def _stop(**_: Any) -> None:
    if _node and _hearing:
        _node.courier.stop(_LAST_REPORT_S)
        _hearing.stop(_LAST_STOPS_S)
        logs.event("worker_stopped", worker=_node.name)
