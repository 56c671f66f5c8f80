"""What Celery's commands find of a cloud worker: nothing, said clearly."""

from typing import Any, NoReturn

from celery.app.control import Control
from celery.backends.base import DisabledBackend
from celery.exceptions import CeleryCommandException
from celery.platforms import EX_UNAVAILABLE


class NoControl(Control):  # type: ignore[misc]
    """Stands for `inspect`, `control` and `status`."""

    def broadcast(self, *_: Any, **__: Any) -> NoReturn:
        """Refuse: MNS queues reach one worker each, and none of them answers."""
        raise CeleryCommandException("cloud workers have no remote control: MNS cannot reach them all, and they answer "
                                     "nobody. Ask at home: `celery -A workers cloud status`", EX_UNAVAILABLE)


class NoResults(DisabledBackend):  # type: ignore[misc]
    """Stands for `result` and `AsyncResult`."""

    def _is_absent(self, *_: Any, **__: Any) -> NoReturn:
        raise CeleryCommandException("cloud workers keep no results: those are in the ledger at home. Ask there: "
                                     "`celery -A workers result JOB`, or GET /v1/jobs/JOB", EX_UNAVAILABLE)

    get_state = get_status = get_result = get_traceback = _is_absent
    get_task_meta = get_task_meta_for = wait_for = wait_for_pending = get_many = _is_absent
