"""Celery's thread pool, whose threads go on to the next waiting job by themselves.

A message from the Celery queue costs a worker about four times what a short job does: a blocking read, decoding, the way
through Celery's main loop to a thread and back. So a thread that settles a job gets the next one in the same round trip,
for up to `_RUN_ON_S`; then it goes back to the queue. Jobs that take longer than that each come through the queue.

To Celery a job taken so is a request like any other: events, `celery inspect` and Flower show it.
"""

import contextlib
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from celery.concurrency import thread
from celery.concurrency.base import BasePool, apply_target
from celery.exceptions import NotRegistered, TaskRevokedError
from celery.worker import state
from celery.worker.request import Request
from kombu.message import Message

from app import logs
from app.errors import TandemError
from app.job import service_of
from app.ledger import Claim
from app.ledger.wakeup import headers
from workers import attempt, boot
from workers.node import Node
from workers.tasks import CODES

Task = Callable[..., Any]
Callback = Callable[..., Any]

_RUN_ON_S = 1.0  # long against a short job, short against what Celery's own view of a worker may lag behind


class PoolBounds(TandemError):
    """A pool was to get a size that the topology does not give it."""

    code = "pool-bounds"
    title = "Pool bounds"


class TaskPool(thread.TaskPool):  # type: ignore[misc]
    """A thread a slot. The number of slots changes while it runs, within what the topology says (concurrency and most)."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.executor = ThreadPoolExecutor(max_workers=boot.node().most)  # `limit` bounds what Celery fetches for them

    def resize(self, slots: int) -> None:
        """Have so many slots from now on; jobs that run in those that go end there. Raises `PoolBounds`."""
        node = boot.node()
        if not node.first <= slots <= node.most:
            raise PoolBounds(f"{node.place.worker} has {node.slots} slots and may have {node.first} to {node.most}, not "
                             f"{slots}; the topology says so: [services], concurrency and most")
        self.limit = node.slots = slots
        node.beat_now()

    def grow(self, n: int = 1) -> None:
        """Have `n` slots more (`celery control pool_grow`). Raises `PoolBounds`."""
        self.resize(self.limit + n)

    def shrink(self, n: int = 1) -> None:
        """Have `n` slots fewer (`celery control pool_shrink`). Raises `PoolBounds`."""
        self.resize(self.limit - n)

    def on_apply(self, target: Task, args: Any = None, kwargs: Any = None, callback: Callback | None = None,
                 accept_callback: Callback | None = None, **_: Any) -> thread.ApplyResult:
        """Run a task on a thread, and after it the jobs that wait."""
        return _Running(self.executor.submit(_run, target, args, kwargs, callback, accept_callback))

    def terminate_job(self, pid: Any, signal: Any = None) -> None:
        """Do nothing: `revoke --terminate` cancels the job (the backend's `mark_as_revoked`), and its thread learns of that
        from the ledger."""


class _Running(thread.ApplyResult):  # type: ignore[misc]
    """A task on its thread."""

    def terminate(self, signal: Any = None) -> None:
        """Do nothing, as `terminate_job`."""


class _Here(BasePool):  # type: ignore[misc]
    """Runs a request on the thread that asks."""

    def on_apply(self, target: Task, args: Any = None, kwargs: Any = None, callback: Callback | None = None,
                 accept_callback: Callback | None = None, **_: Any) -> None:
        """Run a task."""
        _run_one(target, args, kwargs, callback, accept_callback)


_here = _Here()


def _run(target: Task, args: Any, kwargs: Any, callback: Callback | None, accept_callback: Callback | None) -> None:
    turn = boot.node().turn
    turn.until_s, turn.next, turn.request = time.monotonic() + _RUN_ON_S, None, None
    try:
        _run_one(target, args, kwargs, callback, accept_callback)
        while (request := turn.request) is not None:
            turn.request = None
            with contextlib.suppress(TaskRevokedError):  # it is cancelled, by the backend's `mark_as_revoked`
                request.execute_using_pool(_here)
    except Exception as exc:  # noqa: BLE001 - a thread's outermost loop: the future that would hold it is read by nobody
        logs.event("run_on_failed", level=logging.ERROR, exc_info=True, why=str(exc))


def _run_one(target: Task, args: Any, kwargs: Any, callback: Callback | None, accept_callback: Callback | None) -> None:
    """Run a task. Before Celery counts it as done, what this thread goes on with counts as reserved, so that Celery never
    sees a free slot between the two and fetches a message for it."""
    def done(answer: Any) -> None:
        try:
            _prepare_next(boot.node(), args[0])
        finally:
            if callback is not None:
                callback(answer)

    apply_target(target, args, kwargs, done, accept_callback)


def _prepare_next(node: Node, task: str) -> None:
    """Make a Celery request of what this thread goes on with. A job that cannot be run here, as one of a newer Tandem, goes
    back to the queue."""
    if node.turn.next is None and task in CODES:
        attempt.linger(node, service_of(task))
    claim = node.turn.next
    if claim is None:
        return
    try:
        request = _request(claim)
    except NotRegistered:
        node.turn.next = None
        logs.event("task_unknown", level=logging.ERROR, job=claim.id, attempt=claim.attempt, task=claim.task)
        attempt.persist(lambda: node.ledger.release(claim, because="drain", wait_s=node.settings.retry_delay_s))
        return
    node.turn.request = request
    state.task_reserved(request)


def _request(claim: Claim) -> Request:
    """Return a claim as the Celery request that its wake-up would have become, and tell Celery's events of it."""
    consumer = boot.consumer()
    fields = headers(claim.task, claim.id)
    message = Message(channel=None, headers=fields, properties={"correlation_id": claim.id},
                      delivery_info={"exchange": "", "routing_key": claim.service.value})
    request = Request(message, app=consumer.app, hostname=consumer.hostname, eventer=consumer.event_dispatcher,
                      task=consumer.app.tasks[claim.task], headers=fields, body=((), {}, {}), decoded=True)
    request.send_event("task-received", name=claim.task, args="()", kwargs="{}", root_id=claim.id, parent_id=None,
                       retries=0, eta=None, expires=None)
    return request
