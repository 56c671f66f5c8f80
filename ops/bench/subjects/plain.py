"""The plain way: Flask and Celery as most would put them together."""

from typing import ClassVar

import redis

from ops.bench.subjects.peer import Peer


class Plain(Peer):
    """Celery's `apply_async` and `AsyncResult`."""

    name: ClassVar[str] = "plain"
    form: ClassVar[str] = (
        "Flask under gunicorn (gevent, two processes), Celery's `apply_async` and Redis result backend, two worker "
        "processes of the `solo` pool. It did most jobs/s of what was tried: one worker of `prefork` with two processes; "
        "two workers of `prefork` with one, of `threads` with one or four, of `solo`. No accounts, no validation; Redis "
        "writes nothing to disk, which is faster")

    def workers(self) -> list[list[str]]:
        """Two processes, each a worker without a pool."""
        return [["celery", "--app", "tasks", "worker", "--pool", "solo", "--hostname", f"{name}@%h"]
                for name in ("first", "second")]

    def count(self, results: redis.Redis) -> int:
        """The backend keeps a key for each result."""
        return int(results.dbsize())
