"""Hears from home which tickets and runs are void: a thread that consumes this worker's own queue, `<prefix>-stops-N`.

It hears until the worker goes down and nothing runs any more; then it deletes the queue. While MNS is away it tries again;
what it misses costs only the time until home answers the run's next report.
"""

import logging
import threading
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from kombu import Connection, Consumer, Exchange, Message, Queue
from kombu.exceptions import KombuError

from app import logs
from app.settings import Settings
from routing.cloud import broker, words
from routing.cloud.post import ERRORS, NotPosted, Post
from routing.mns.patience import Backoff

_LOOK_S = 0.5  # between two looks at whether to end
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 1.0, 15.0  # between two tries to reach MNS


class StopsHearing:
    """The thread. `heard` is called with what is void; `over` says that nothing more needs to be heard."""

    def __init__(self, settings: Settings, *, worker: str, heard: Callable[[Sequence[str]], object],
                 over: Callable[[], bool]) -> None:
        self._settings = settings
        self._queue = broker.stops_queue(settings, worker)
        self._heard = heard
        self._over = over
        self._ended = threading.Event()
        self._backoff = Backoff(_FIRST_PAUSE_S, _LONGEST_PAUSE_S)
        self._thread = threading.Thread(target=self._hear_until_over, name="tandem-stops", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self, within_s: float) -> None:
        """The worker ends: wait for so long until the queue is deleted."""
        self._ended.set()
        self._thread.join(within_s)

    def _hear_until_over(self) -> None:
        while not self._is_over():
            try:
                self._hear()
            except ERRORS as exc:
                logs.event("stops_unreachable", level=logging.WARNING, queue=self._queue, why=str(exc))
                self._ended.wait(self._backoff.pause_s())
            except Exception as exc:  # noqa: BLE001 - the thread's outermost loop: a worker deaf to stops runs what is void
                logs.event("stops_failed", level=logging.ERROR, exc_info=True, queue=self._queue, why=str(exc))
                self._ended.wait(self._backoff.pause_s())
        self._delete()

    def _is_over(self) -> bool:
        return self._ended.is_set() or self._over()

    def _hear(self) -> None:
        queue = Queue(self._queue, Exchange(""), routing_key=self._queue)
        with broker.connected(self._settings) as connection, \
                Consumer(connection.channel(), [queue], on_message=self._take, on_decode_error=self._let_go,
                         accept=["json"]):
            self._backoff.reset()
            while not self._is_over():
                _drain(connection)

    def _take(self, message: Message) -> None:
        """Apply a message; one that says nothing is deleted like any other."""
        try:
            self._heard(_read(message).void)
        except (KombuError, msgspec.ValidationError, LookupError, TypeError, ValueError) as exc:
            self._let_go(message, exc)
        else:
            message.ack()

    def _let_go(self, message: Message, exc: Exception) -> None:
        """Delete a message that cannot be decoded, or says nothing."""
        logs.event("stops_malformed", level=logging.WARNING, queue=self._queue, why=type(exc).__name__)
        message.ack()

    def _delete(self) -> None:
        """Delete the queue, where we may make it again. Home deletes those of workers that cannot."""
        if not self._settings.mns_create_queues:
            return
        try:
            with Post(self._settings) as post:
                post.delete(self._queue)
        except (NotPosted, *ERRORS) as exc:
            logs.event("stops_queue_left", level=logging.WARNING, queue=self._queue, why=str(exc))


def _drain(connection: Connection) -> None:
    try:
        connection.drain_events(timeout=_LOOK_S)
    except TimeoutError:
        return


def _read(message: Message) -> words.Stops:
    """Return what a Celery message of `STOP_TASK` holds. Raises what a message that is none makes raise."""
    if (task := message.headers.get("task")) != broker.STOP_TASK:
        raise ValueError(f"a message of the task {task!r} came where only {broker.STOP_TASK} is expected")
    arguments: Any = message.payload[1]
    return msgspec.convert(arguments["stops"], words.Stops)
