"""The baseline: one Celery task on Redis, configured as carefully as Celery allows (late acknowledgement, requeue when a
worker is lost, a short visibility timeout), without a ledger."""

import os
import time

import redis
from celery import Celery

URL = os.environ.get("SOAK_REDIS_URL", "redis://127.0.0.1:6379/0")

app = Celery("plain", broker=URL, backend=URL)
app.conf.update(
    task_acks_late=True, task_reject_on_worker_lost=True, worker_prefetch_multiplier=1,
    broker_connection_retry_on_startup=True, broker_connection_max_retries=None, broker_channel_error_retry=True,
    broker_transport_options={"visibility_timeout": 5, "unacked_restore_interval": 2, "unacked_restore_throttle": 1,
                              "unacked_mutex_expire": 10, "socket_timeout": 5, "health_check_interval": 5})


@app.task(name="plain.work", bind=True)  # type: ignore[untyped-decorator]
def work(task: object, job_ms: int) -> str:
    """Note the start, work, note the end: what a job with a side effect does."""
    job_id = task.request.id  # type: ignore[attr-defined]
    with redis.Redis.from_url(URL) as client:
        client.hincrby("started", job_id, 1)
        time.sleep(job_ms / 1000)
        client.hincrby("ended", job_id, 1)
    return "done"
