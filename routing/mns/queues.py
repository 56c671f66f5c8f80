"""What is known of the queues: that they are there, and the attributes that matter here."""

import logging
from dataclasses import dataclass

from routing.mns.errors import NotAllowed, QueueMissing
from routing.mns.options import LONGEST_DELAY_S, MESSAGE_BYTES, RETENTION_S
from routing.mns.patience import patiently
from routing.mns.service import Service

_log = logging.getLogger(__name__)

_USUAL_VISIBILITY_S = 30  # of a queue whose maker named none
_USUAL_RETENTION_S = 259200  # likewise; newer documentation says 345600


@dataclass(frozen=True, slots=True)
class Queue:
    """The attributes of a queue, as far as they matter here."""

    visibility_s: int  # how long a message is kept from others when it is handed out
    message_bytes: int  # of a message's body on the wire
    retention_s: int = RETENTION_S  # after so long a message is dropped, also one whose delay has not ended

    @property
    def longest_delay_s(self) -> int:
        """How long a message may be delayed here, so that it is taken, or delayed further, well before it is dropped."""
        return min(LONGEST_DELAY_S, self.retention_s // 2)


class Queues:
    """Looks queues up, makes those that are missing if it may, and remembers them. Names are those in MNS."""

    def __init__(self, service: Service, *, visibility_s: int, create_missing: bool) -> None:
        self._service, self._visibility_s, self._create_missing = service, visibility_s, create_missing
        self._known: dict[str, Queue] = {}

    def get(self, queue: str) -> Queue:
        """Return what is known of the queue; the first time, see that it is there. Raises QueueMissing, and the like."""
        known = self._known.get(queue)
        if known is None:
            known = self._known[queue] = self._make(queue) if self._create_missing else self._look(queue)
        return known

    def forget(self, queue: str) -> None:
        """The queue has turned out to be gone."""
        self._known.pop(queue, None)

    def active(self, queue: str) -> int | None:
        """Return how many messages the service says may be received, None if the queue is not there.

        The service's counters are being withdrawn and will always read 0 then, so 0 means "not known".
        """
        try:
            found = patiently(lambda: self._service.attributes(queue))
        except QueueMissing:
            return None
        except NotAllowed as exc:
            _log.debug("%s", exc)
            return 0
        return _whole(found.get("ActiveMessages"), 0)

    def _make(self, queue: str) -> Queue:
        try:
            made = patiently(lambda: self._service.create(queue, visibility_s=self._visibility_s,
                                                          message_bytes=MESSAGE_BYTES, retention_s=RETENTION_S))
        except NotAllowed as exc:
            return self._look(queue, because=str(exc))
        if made:
            return Queue(self._visibility_s, MESSAGE_BYTES)
        found = self._look(queue)
        if found != Queue(self._visibility_s, MESSAGE_BYTES):
            _log.warning("queue %s exists with a visibility timeout of %d s and messages of %d bytes, kept for %d s, where "
                         "%d s, %d bytes and %d s are asked for; it is used as it is", queue, found.visibility_s,
                         found.message_bytes, found.retention_s, self._visibility_s, MESSAGE_BYTES, RETENTION_S)
        return found

    def _look(self, queue: str, because: str = "create_missing is off") -> Queue:
        try:
            found = patiently(lambda: self._service.attributes(queue))
        except QueueMissing as exc:
            missing = QueueMissing(
                f"queue {queue} does not exist at {self._service.host} and may not be created from here ({because}); "
                f"create it in the console, with a visibility timeout of {self._visibility_s} s, or allow mns:CreateQueue")
            missing.code = exc.code
            raise missing from exc
        except NotAllowed as exc:
            _log.debug("taken to exist, since its attributes may not be read: %s", exc)
            return Queue(min(_USUAL_VISIBILITY_S, self._visibility_s), MESSAGE_BYTES, _USUAL_RETENTION_S)
        return Queue(_whole(found.get("VisibilityTimeout"), _USUAL_VISIBILITY_S),
                     _whole(found.get("MaximumMessageSize"), MESSAGE_BYTES),
                     _whole(found.get("MessageRetentionPeriod"), _USUAL_RETENTION_S))


def _whole(text: str | None, otherwise: int) -> int:
    return int(text) if text is not None and text.isdecimal() else otherwise
