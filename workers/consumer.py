"""Celery's consumer, as a worker at home has it: it takes from the queues of its own services, and from no other; from
those that are held (`workers.holding`) it takes nothing, whatever else happens to its connection.
"""

import logging
from typing import Any

from celery.bootsteps import RUN
from celery.worker.consumer import Consumer

from app import logs
from app.job import Service
from workers import boot
from workers.control import Word


class ServiceConsumer(Consumer):  # type: ignore[misc]
    """Refuses the queues of other services, and heeds the routing task."""

    _release: Any = None  # Celery's timer for the end of what the routing task holds

    def on_ready(self) -> None:
        """The queues are consumed, at the start and whenever the broker was lost in between."""
        super().on_ready()
        self._follow()

    def heed(self, word: Word) -> tuple[tuple[Service, ...], int]:
        """Do what the routing task says, in the consumer's own loop; return what is held now, and the slots: as many as
        were asked for, within this worker's own bounds, as it may run by an older topology than the leader. Raises
        `WordRefused`, and does nothing then."""
        node, before = boot.node(), self.pool.limit
        slots = node.first if word.slots is None else min(max(word.slots, node.first), node.most)
        held = node.holding.held
        node.holding.hear(word.epoch, word.hold, word.for_s)
        if slots != before:
            self.pool.resize(slots)
            self._update_prefetch_count(slots - before)
        if self._release is not None:
            self._release.cancel()
        self._release = self.timer.call_after(word.for_s, self._follow) if word.hold else None
        self.call_soon(self._follow)
        if node.holding.held != held or slots != before:
            logs.event("word_heeded", worker=self.hostname, epoch=word.epoch, held=node.holding.held, slots=slots)
            node.beat_now()
        return node.holding.held, slots

    def add_task_queue(self, queue: str, *args: Any, **options: Any) -> None:
        """Consume a queue again, as an operator wishes, if it is of a service of this worker: with nothing loaded to run
        another's jobs it would only swallow their wake-ups. Without `-d`, `celery control add_consumer` tells all."""
        node = boot.node()
        if queue in node.services:
            node.holding.added(Service(queue))
            super().add_task_queue(queue, *args, **options)
            node.beat_now()
        else:
            logs.event("queue_refused", level=logging.WARNING, worker=self.hostname, queue=queue,
                       why="this worker does not have that service")

    def cancel_task_queue(self, queue: str) -> None:
        """Take nothing new from a queue, as an operator wishes (`celery control cancel_consumer`)."""
        node = boot.node()
        if queue in node.services:
            node.holding.cancelled(Service(queue))
            node.beat_now()
        super().cancel_task_queue(queue)

    def _follow(self) -> None:
        """Consume the queues of the services that are not held, and no others. A worker that stops consumes none."""
        if self.blueprint.state != RUN or self.task_consumer is None:
            return
        node = boot.node()
        for service in node.services:
            held, consumed = node.holding.holds(service), self.task_consumer.consuming_from(service.value)
            if held and consumed:
                super().cancel_task_queue(service.value)
            elif not held and not consumed:
                super().add_task_queue(service.value)
                node.beat_now()
