"""Dramatiq, with the two writes to Redis for each job that its state and its result need."""

from typing import ClassVar

import redis

from ops.bench.subjects.peer import Peer


class Dramatiq(Peer):
    """An actor's `send`."""

    name: ClassVar[str] = "dramatiq"
    form: ClassVar[str] = (
        "the same Flask form; `send`, two worker processes of eight threads (Dramatiq's default); a task writes to Redis "
        "when it starts and when it ends. No accounts, no validation; Redis as for plain")

    def workers(self) -> list[list[str]]:
        """Two processes."""
        return [["dramatiq", "tasks", "--processes", "2"]]

    def count(self, results: redis.Redis) -> int:
        """A hash holds the results."""
        return int(results.hlen("results"))
