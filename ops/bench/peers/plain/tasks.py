"""The plain way's worker: one Celery task, its results in the Redis result backend."""

import os
import time

from celery import Celery

queue = Celery("plain", broker=os.environ["BROKER_URL"], backend=os.environ["RESULT_URL"])
queue.conf.broker_connection_retry_on_startup = True


@queue.task
def run(prompt: str, stall_s: float) -> str:
    """Say the prompt, after a stall."""
    if stall_s:
        time.sleep(stall_s)
    return prompt
