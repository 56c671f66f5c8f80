"""Celery's thread pool, whose threads go on to the next waiting job by themselves.

A message from the Celery queue costs a worker about four times what a short job does: a blocking read, decoding, the way
through Celery's main loop to a thread and back. So a thread that settles a job gets the next one in the same round trip,
for up to `_RUN_ON_S`; then it goes back to the queue, so that whoever closes the queue (`celery control cancel_consumer`)
is obeyed within that time. Jobs that take longer than that each come through the queue.

To Celery a job taken so is a request like any other: events, `celery inspect` and Flower show it.
"""

import contextlib
import logging
import time
from collections.abc import Callable
from typing import Any

from celery.concurrency import thread
from celery.concurrency.base import apply_target
from celery.concurrency.solo import TaskPool as Inline
from celery.exceptions import TaskRevokedError
from celery.worker import state
from celery.worker.request import Request
from kombu.message import Message

from app import logs
from app.ledger import Claim
from app.ledger.wakeup import headers
from workers import boot

_RUN_ON_S = 1.0  # long against a short job, short against a person's patience with a queue that is to close

_inline = Inline()


class TaskPool(thread.TaskPool):  # type: ignore[misc]
    """A thread a slot."""

    def on_apply(self, target: Callable[..., Any], args: Any = None, kwargs: Any = None,
                 callback: Callable[..., Any] | None = None, accept_callback: Callable[..., Any] | None = None,
                 **_: Any) -> thread.ApplyResult:
        """Run a task on a thread, and after it the jobs that wait."""
        return thread.ApplyResult(self.executor.submit(_run, target, args, kwargs, callback, accept_callback))


def _run(target: Callable[..., Any], args: tuple[Any, ...], kwargs: Any, callback: Any, accept_callback: Any) -> None:
    node = boot.node()
    node.turn.until_s = time.monotonic() + _RUN_ON_S
    apply_target(target, args, kwargs, callback, accept_callback)
    try:
        while (claim := node.turn.next) is not None:
            _run_on(claim)
            if node.turn.next is claim:  # revoked before it ran: its cancelling is Celery's signal's affair
                node.turn.next = None
    except Exception as exc:  # noqa: BLE001 - a thread's outermost loop: the future that would hold it is read by nobody
        logs.event("run_on_failed", level=logging.ERROR, exc_info=True, why=str(exc))


def _run_on(claim: Claim) -> None:
    """Run a job that came with the answer to the last one's settling."""
    request = _request(claim)
    state.task_reserved(request)
    with contextlib.suppress(TaskRevokedError):
        request.execute_using_pool(_inline)


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
