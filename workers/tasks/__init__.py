"""The tasks of the five services. A module per service; each task is a function from an attempt to an answer.

`job_task` makes such a function a Celery task: the message's id is the job's id, and everything else about the job comes
from the ledger.
"""

from collections.abc import Callable
from typing import Any

from celery import shared_task
from celery.exceptions import Ignore

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
    word = attempt.run(task.request.id, service_of(task.name), boot.node(), CODES)
    if word == "failed":
        raise JobFailed(f"job {task.request.id} failed; GET /v1/jobs/{task.request.id} says why")
    if word in _REVOKED:
        task.send_event("task-revoked", terminated=False, signum=None, expired=word == "expired")
    if word not in ("succeeded", "again"):
        raise Ignore(word)
    return word
