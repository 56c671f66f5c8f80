"""A Celery result backend that reads the ledger, so that `AsyncResult`, `celery result` and Flower tell the same story.

It records no results: that is `Ledger.settle`'s affair, fenced by attempt and owner. A revoked task is a cancelled job.
"""

import contextlib
from typing import Any

import msgspec
from celery import states
from celery.backends.base import Backend, SyncBackendMixin
from celery.exceptions import TaskRevokedError

from app.errors import JobGone, JobUnknown
from app.job import Job, State
from app.ledger import Ledger
from app.store import open_redis


class JobFailed(Exception):
    """What `AsyncResult.get()` raises for a failed job; the message is the job's error."""


_STATES = {
    State.QUEUED: states.PENDING, State.RUNNING: states.STARTED, State.SUCCEEDED: states.SUCCESS,
    State.FAILED: states.FAILURE, State.CANCELLED: states.REVOKED, State.EXPIRED: states.REVOKED,
}


class LedgerBackend(Backend, SyncBackendMixin):  # type: ignore[misc]
    """Reads jobs as Celery results. An unknown id raises `JobUnknown`: it is never "pending"."""

    supports_native_join = False
    persistent = True

    def __init__(self, app: Any, **kwargs: Any) -> None:
        kwargs.pop("url", None)
        super().__init__(app, **kwargs)
        self._ledger: Ledger | None = None

    @property
    def ledger(self) -> Ledger:
        """The ledger of the app's settings, opened on first use."""
        if self._ledger is None:
            settings = self.app.tandem_settings
            self._ledger = Ledger(open_redis(settings), settings)
        return self._ledger

    def get_task_meta(self, task_id: str, **_: Any) -> dict[str, Any]:
        """Return what Celery calls the task's meta. Raises `JobUnknown` or `JobGone`."""
        return meta(self.ledger.read(task_id))

    def store_result(self, _task_id: str, result: Any, *_: Any, **__: Any) -> Any:
        """Do nothing: the ledger has recorded the job's end already, or refused it."""
        return result

    def mark_as_revoked(self, task_id: str, *_: Any, **__: Any) -> None:
        """Cancel the job: `celery control revoke` and Flower's button call this, once on every worker."""
        with contextlib.suppress(JobUnknown, JobGone):
            self.ledger.cancel(task_id)

    def as_uri(self, *_: Any, **__: Any) -> str:
        """Name the backend in banners."""
        return "ledger://"

    def cleanup(self) -> None:
        """Do nothing: the ledger purges by itself."""


def meta(job: Job) -> dict[str, Any]:
    """Return a job as Celery's task meta."""
    result: Any = None
    if job.state is State.SUCCEEDED:
        result = msgspec.json.decode(job.result or b"null")
    elif job.state is State.FAILED:
        result = JobFailed(job.error_text())
    elif job.state.terminal:
        result = TaskRevokedError(job.error_text())
    return {
        "task_id": job.id, "status": _STATES[job.state], "result": result, "children": [],
        "traceback": job.error_text() if job.state is State.FAILED else None,
        "name": job.task, "args": [], "kwargs": {}, "worker": job.worker, "retries": max(job.attempt - 1, 0),
        "queue": job.service.value, "date_done": job.public(durability=1)["finished_at"],
    }
