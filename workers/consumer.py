"""Celery's consumer, as a worker at home has it: it takes from the queues of its own services, and from no other."""

import logging
from typing import Any

from celery.worker.consumer import Consumer

from app import logs
from workers import boot


class ServiceConsumer(Consumer):  # type: ignore[misc]
    """Refuses the queues of other services."""

    def add_task_queue(self, queue: str, *args: Any, **options: Any) -> None:
        """Consume a queue, if it is of a service of this worker: with nothing loaded to run another's jobs it would only
        swallow their wake-ups. `celery control add_consumer` without `-d` tells all workers."""
        if queue in boot.node().services:
            super().add_task_queue(queue, *args, **options)
        else:
            logs.event("queue_refused", level=logging.WARNING, worker=self.hostname, queue=queue,
                       why="this worker does not have that service")
