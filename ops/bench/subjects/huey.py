"""Huey, with the two writes to Redis for each job that its state and its result need."""

from typing import ClassVar

import redis

from ops.bench.subjects.peer import Peer


class Huey(Peer):
    """A task call."""

    name: ClassVar[str] = "huey"
    form: ClassVar[str] = (
        "the same Flask form; a task call, two worker processes; a task writes to Redis when it starts and when it ends. "
        "No accounts, no validation; Redis as for plain")

    def workers(self) -> list[list[str]]:
        """Two processes."""
        return [["huey_consumer", "tasks.queue", "--workers", "2", "--worker-type", "process"]]

    def count(self, results: redis.Redis) -> int:
        """A hash holds the results."""
        return int(results.hlen("results"))
