"""Celery's events, sent in groups a few times a second.

Left to itself a worker publishes nearly each event alone, on the thread that also takes messages, and the threads that run
jobs wait for it: for short jobs that was more than half of their time. Monitors see an event up to `_EVERY_S` later.
"""

from typing import Any

from celery import bootsteps
from celery.worker.consumer.events import Events

_EVERY_S = 0.2
_MOST = 2000  # events kept back at most, a few hundred kilobytes; then they go at once


class PacedEvents(bootsteps.StartStopStep):  # type: ignore[misc]
    """A step of the worker's start: comes after each (re)connection's event dispatcher."""

    requires = (Events,)

    def __init__(self, consumer: Any, **kwargs: Any) -> None:
        self._timer: Any = None
        super().__init__(consumer, **kwargs)

    def start(self, consumer: Any) -> None:
        """Replace the dispatcher's own way of sending."""
        dispatcher = consumer.event_dispatcher
        dispatcher.on_send_buffered = None
        dispatcher.buffer_limit = _MOST
        self._timer = consumer.timer.call_repeatedly(_EVERY_S, dispatcher.flush)

    def shutdown(self, consumer: Any) -> None:
        """The jobs that were running have ended: send their events, too."""
        self.stop(consumer)

    def stop(self, consumer: Any) -> None:
        """Send what is left."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if consumer.event_dispatcher is not None:
            consumer.event_dispatcher.flush()
