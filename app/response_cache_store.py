"""Where the response cache lies: on the main Redis, on one of its own, or on a cluster. Opened by the setting `cache_url`.

The main Redis evicts nothing, so there Tandem bounds the cache itself; elsewhere the server's `maxmemory-policy` does,
which should be `allkeys-lru`. Waiting for the main Redis is bounded as for all else that is kept there.
"""

from collections.abc import Callable
from typing import Any, Protocol, TypeVar

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from app.response_cache_cluster import Cluster
from app.settings import Settings

Answer = TypeVar("Answer")


class Store(Protocol):
    """One of the three."""

    buckets: int  # over how many hash tags keys are spread
    bounded_here: bool  # Tandem bounds what is kept

    def server(self, key: str) -> str:
        """Return the name of the server that keeps a key."""

    def run(self, work: Callable[[Any], Answer]) -> Answer:
        """Do work that needs a client. Raises redis-py's errors."""


class OneServer:
    """A cache on one server, the main one or its own."""

    buckets = 1

    def __init__(self, client: redis.Redis, name: str, *, bounded_here: bool) -> None:
        self._client = client
        self._name = name
        self.bounded_here = bounded_here

    def server(self, key: str) -> str:  # noqa: ARG002 - all keys are on the one
        """Return the server's name."""
        return self._name

    def run(self, work: Callable[[Any], Answer]) -> Answer:
        """Do work that needs a client. Raises redis-py's errors."""
        return work(self._client)


def open_store(settings: Settings, client: redis.Redis) -> Store:
    """Return the store that the settings name; it connects on first use."""
    if not settings.cache_url:
        return OneServer(client, "the main Redis", bounded_here=True)
    if "-cluster://" in settings.cache_url:
        return Cluster(settings.cache_url, timeout_s=settings.cache_timeout_s)
    own = redis.Redis.from_url(
        settings.cache_url, socket_timeout=settings.cache_timeout_s, socket_connect_timeout=settings.cache_timeout_s,
        retry=Retry(NoBackoff(), 1, supported_errors=(redis.exceptions.ConnectionError,)))  # the server was restarted
    return OneServer(own, "the cache's Redis", bounded_here=False)
