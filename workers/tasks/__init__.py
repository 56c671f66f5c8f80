"""The tasks of the five services. A module per service; each task is a function from an attempt to an answer.

`job_task` makes such a function a Celery task: the message's id is the job's id, and everything else about the job comes
from the ledger.
"""

import logging
from collections.abc import Callable
from typing import Any

from celery import shared_task
from celery.exceptions import Ignore

from app import logs
from app.job import service_of
from workers import attempt, boot
from workers.attempt import Code
from workers.backend import JobFailed

#: Task name -> the code that runs it, for every task module imported so far.
CODES: dict[str, Code] = {}

#: Words of `attempt.run` after which Celery's view shows the job as revoked.
_REVOKED = ("cancelled", "expired")


def job_task(name: str) -> Callable[[Code], Code]:
    """Make a function the code of the Celery task `name`."""
    def register(code: Code) -> Code:
        CODES[name] = code
        shared_task(name=name, bind=True, throws=(JobFailed,))(_entry)
        return code

    return register


def _entry(task: Any) -> str:
    """Run the job that woke us. Celery's events tell the same as the ledger: succeeded, failed or revoked."""
    _refuse_other_services(task)
    word = attempt.run(task.request.id, service_of(task.name), boot.node(), CODES)
    if word == "failed":
        raise JobFailed(f"job {task.request.id} failed; GET /v1/jobs/{task.request.id} says why")
    if word in _REVOKED:
        task.send_event("task-revoked", terminated=False, signum=None, expired=word == "expired")
    if word not in ("succeeded", "again"):
        raise Ignore(word)
    return word


def _refuse_other_services(task: Any) -> None:
    """Leave a job alone that is of none of this worker's services, which has nothing loaded to run it with: somebody told
    the worker to consume that queue (`celery control add_consumer` without `-d` tells all). It stops consuming it, and
    recovery wakes the job anew. Raises `Ignore`."""
    service = service_of(task.name)
    if service in boot.node().services:
        return
    logs.event("queue_refused", level=logging.WARNING, job=task.request.id, queue=service.value,
               why="this worker does not have that service")
    task.app.control.cancel_consumer(service.value, destination=[task.request.hostname])
    raise Ignore("another service's")
