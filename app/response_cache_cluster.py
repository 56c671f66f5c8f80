"""The response cache on a Redis Cluster, through redis-py's client; no call waits for more than its own server.

redis-py learns a cluster's layout in the middle of a call: when a server fails, it asks one after the other, and each that
hangs costs a timeout. Here that is done beside the calls, on a thread: a call that fails fails at once, has the layout
learned anew, and one of the next goes where the slot is now.
"""

import threading
from collections.abc import Callable
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

import redis
from redis.backoff import NoBackoff
from redis.cluster import ClusterNode, RedisCluster
from redis.retry import Retry

Answer = TypeVar("Answer")

#: What a slot that nobody serves just now makes redis-py raise; it is an outage, and to be tried again.
_CLUSTER_FAULTS = (redis.exceptions.RedisClusterException, redis.exceptions.ClusterError, redis.exceptions.TryAgainError)

_BUCKETS = 128  # of 16,384 slots; spread over 3 primaries within 5 %, over 10 within 40 %
_CONNECT_TRIES = 2  # besides the first, each with another server


class Cluster:
    """A cache on a cluster, which is connected to with the first use. Safe to share between threads."""

    buckets = _BUCKETS
    bounded_here = False

    def __init__(self, url: str, *, timeout_s: float) -> None:
        """`url` is redis-cluster://[user:password@]host:port;host:port..., or rediss-cluster://, of some of the servers."""
        self._url = url
        self._timeout_s = timeout_s
        self._client: Any = None
        self._lock = threading.Lock()
        self._learning: threading.Event | None = None  # set when the layout has been learned, or could not be
        self._why: Exception | None = None

    def server(self, key: str) -> str:
        """Return the name of the server that keeps a key, as far as it is known."""
        try:
            return str(self._client.get_node_from_key(key).name) if self._client else "the cluster"
        except redis.exceptions.RedisClusterException:
            return "the cluster"

    def run(self, work: Callable[[Any], Answer]) -> Answer:
        """Do work that needs a client. Raises redis-py's errors, a slot that nobody serves as `ConnectionError`."""
        client = self._client or self._connected()
        try:
            return work(client)
        except _CLUSTER_FAULTS as exc:
            raise redis.exceptions.ConnectionError(str(exc)) from exc

    def _connected(self) -> Any:
        """Return the client, when its connecting has taken no more than two timeouts."""
        self._beside_the_calls(self._connect).wait(2 * self._timeout_s)
        if self._client is None:
            raise redis.exceptions.ConnectionError(f"the cache's cluster does not answer: {self._why or 'not in time'}")
        return self._client

    def _connect(self) -> None:
        client = RedisCluster(
            startup_nodes=_nodes(self._url), require_full_coverage=False, reinitialize_steps=0,
            retry=Retry(NoBackoff(), _CONNECT_TRIES), socket_timeout=self._timeout_s,
            socket_connect_timeout=self._timeout_s, **_credentials(self._url))
        client.set_retry(Retry(NoBackoff(), 0))
        learn = client.nodes_manager.initialize

        def learn_soon(**told: Any) -> None:
            self._beside_the_calls(lambda: learn(**told))

        client.nodes_manager.initialize = learn_soon
        self._client = client

    def _beside_the_calls(self, learn: Callable[[], None]) -> threading.Event:
        """Have the layout learned, unless it is being learned already; return what tells when that is over."""
        with self._lock:
            if self._learning is None:
                self._learning = threading.Event()
                threading.Thread(target=self._learn, args=(learn, self._learning), name="tandem-cache-layout",
                                 daemon=True).start()
            return self._learning

    def _learn(self, learn: Callable[[], None], over: threading.Event) -> None:
        try:
            learn()
            self._why = None
        except (redis.exceptions.RedisError, redis.exceptions.RedisClusterException, OSError) as exc:
            self._why = exc  # the guard tells of it
        finally:
            with self._lock:
                self._learning = None
            over.set()


def _nodes(url: str) -> list[ClusterNode]:
    scheme, _, addresses = url.partition("://")
    parts = [urlsplit(f"{scheme}://{address}") for address in addresses.split(";")]
    return [ClusterNode(part.hostname, part.port) for part in parts]


def _credentials(url: str) -> dict[str, Any]:
    """Return redis-py's options for what the URL's first address says; all servers have the same."""
    first = urlsplit(url.partition(";")[0])
    username, password = (unquote(text) if text else None for text in (first.username, first.password))
    return {"username": username, "password": password, "ssl": first.scheme == "rediss-cluster"}
