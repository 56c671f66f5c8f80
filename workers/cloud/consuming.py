"""Celery's pool, consumer and requests, as a cloud worker has them: without events, with MNS's id of the message, and deaf
to what is no errand.

Left to itself Celery dies of a message whose body has another shape than a task's, and writes whole bodies into the log.
Here such a message is deleted, and a line says so.
"""

import logging
from typing import Any

from celery.concurrency.thread import TaskPool
from celery.exceptions import InvalidTaskError
from celery.worker.consumer import Consumer
from celery.worker.request import Request
from kombu import Message

from app import logs
from workers.cloud import boot

_log = logging.getLogger(__name__)

#: Celery's options that keep its workers from talking to each other: in MNS there is nobody to hear it.
_ALONE = {"without_gossip": True, "without_mingle": True, "without_heartbeat": True}


class ErrandPool(TaskPool):  # type: ignore[misc]
    """A thread a slot."""

    def terminate_job(self, _pid: Any, signal: Any = None) -> None:  # noqa: ARG002 - as Celery calls it
        """A cold shutdown (SIGQUIT): there is no killing a thread, so all runs are given back now."""
        boot.give_back()


class ErrandConsumer(Consumer):  # type: ignore[misc]
    """Takes errands, and says nothing."""

    def __init__(self, *args: Any, worker_options: dict[str, Any] | None = None, **kwargs: Any) -> None:
        super().__init__(*args, worker_options={**(worker_options or {}), **_ALONE}, **kwargs)

    def on_unknown_message(self, _body: Any, message: Message) -> None:
        """Delete what is no task's message at all."""
        self._delete(message, "it names no task")

    def on_unknown_task(self, _body: Any, message: Message, _exc: Exception) -> None:
        """Delete the message of a task that cloud workers do not have."""
        self._delete(message, f"there is no task {str(message.headers.get('task'))[:80]!r}")

    def on_invalid_task(self, _body: Any, message: Message, exc: Exception) -> None:
        """Delete a message whose body is no task's."""
        self._delete(message, str(exc))

    def on_decode_error(self, message: Message, exc: Exception) -> None:
        """Delete a message that cannot be decoded."""
        self._delete(message, f"it cannot be decoded ({type(exc).__name__})")

    def _delete(self, message: Message, why: str) -> None:
        logs.event("message_deleted", level=logging.WARNING, message=_mns_id(message), why=why)
        message.reject_log_error(_log, self.connection_errors)


class ErrandRequest(Request):  # type: ignore[misc]
    """A message; its MNS id reaches the task as `task.request.message_id`. Raises `InvalidTaskError`."""

    def __init__(self, message: Message, **options: Any) -> None:
        try:
            super().__init__(message, **options)
        except (LookupError, TypeError, ValueError, AttributeError) as exc:
            raise InvalidTaskError(f"its headers and body are not a task's ({type(exc).__name__})") from exc
        if not isinstance(self.kwargs, dict) or not isinstance(self.args, list | tuple):
            raise InvalidTaskError("its arguments are none")
        self._request_dict["message_id"] = _mns_id(message)


def _mns_id(message: Message) -> str | None:
    return (message.delivery_info or {}).get("message_id")
