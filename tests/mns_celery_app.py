"""The Celery app of the tests on MNS: `celery -A tests.mns_celery_app worker` with `mns://` as its only broker.

Where things are comes from the environment, as JSON in MNS_CELERY: `url`, `options` (of the transport), `queue`, `ledger`.
"""

import json
import os
import time
import uuid
from pathlib import Path
from typing import Any

from celery import Celery, Task
from celery.exceptions import Reject

from routing.mns import install
from tests.mns_celery_ledger import TaskLedger

VARIABLE = "MNS_CELERY"


def make(place: dict[str, Any]) -> Celery:
    """Return an app for a place; the tests make theirs, with the same tasks, to send with."""
    install()
    made = Celery("mns_celery", broker=place["url"])
    made.conf.update(
        broker_transport_options=place["options"], broker_connection_retry_on_startup=True,
        # long outages are part of the tests: a worker goes on trying
        broker_connection_max_retries=None, broker_connection_retry_delay=0.5,
        task_default_queue=place["queue"], task_acks_late=True, task_reject_on_worker_lost=True, task_ignore_result=True,
        worker_prefetch_multiplier=1, worker_enable_remote_control=False, worker_send_task_events=False,
        # sending tries again for about 10 s
        task_publish_retry_policy={"max_retries": 40, "interval_start": 0.0, "interval_step": 0.05, "interval_max": 0.3})
    made.task(bind=True, name="job")(job)
    return made


def job(self: Task, seconds: float = 0.0) -> None:
    """Work so long, then settle as the ledger allows. A run that lost its job to another keeps the message alive: the
    owner may yet die."""
    ledger = TaskLedger(Path(self.app.conf.mns_ledger))
    me, run = self.request.id, uuid.uuid4().hex
    if not ledger.begin(me, run, worker=f"{self.request.hostname}:{os.getpid()}"):
        return
    time.sleep(seconds)
    if not ledger.settle(me, run) and not ledger.settled(me):
        raise Reject("another run owns the job, which is not settled", requeue=True)


if VARIABLE in os.environ:
    _place = json.loads(os.environ[VARIABLE])
    app = make(_place)
    app.conf.mns_ledger = _place["ledger"]
