"""What a queue tells of its changes, so that they outlive the process where somebody keeps it."""

from dataclasses import dataclass

from ops.mns_server.attributes import Attributes, DeadLetters
from ops.mns_server.message import Message


@dataclass(slots=True)
class Counts:
    """What has happened in the queues of one name, from the first on. With those still there they balance:
    sent = deleted + dead + expired + active + inactive + delayed."""

    sent: int = 0
    deleted: int = 0  # by a handle, or with the queue
    dead: int = 0  # moved to the dead letters, where it counts as sent
    expired: int = 0


@dataclass(frozen=True, slots=True)
class QueueRecord:
    """A queue without its messages."""

    name: str
    attributes: Attributes
    dead_letters: DeadLetters | None
    created_ms: int
    modified_ms: int


class Journal:
    """Takes down changes, in order, as they are made (under the service's lock); `commit` makes them last. This one keeps
    nothing: the queues are gone with the process. `store.Store` keeps them."""

    def queue(self, record: QueueRecord) -> None:
        """A queue was made or changed."""

    def queue_gone(self, name: str) -> None:
        """A queue was deleted, and its messages with it."""

    def message(self, queue: str, message: Message) -> None:
        """A message came into the queue."""

    def touched(self, message: Message) -> None:
        """A message was handed out, or its visibility was changed."""

    def message_gone(self, message_id: str) -> None:
        """A message left its queue."""

    def counted(self, queue: str, counts: Counts) -> None:
        """These are the queue's counts now."""

    def account(self, name: str, value: str) -> None:
        """An attribute of the account was set."""

    def commit(self) -> None:
        """Return when everything taken down so far lasts."""

    def close(self) -> None:
        """Commit, and let go of the file."""
