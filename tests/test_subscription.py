"""A channel is heard on, whatever becomes of the connection or of what was published."""

import select
import socket
import threading
from collections.abc import Callable, Iterator

import pytest
import redis

from app.subscription import hear
from ops.waiting import wait_until

SOON_S = 10.0
SILENT_S = 1.0


class Proxy:
    """Forwards TCP connections to Redis, until it freezes those that there are: neither end is told anything."""

    def __init__(self, path_or_port: str | int) -> None:
        self._target = path_or_port
        self._frozen: set[socket.socket] = set()
        self._pairs: dict[socket.socket, socket.socket] = {}
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.came = 0
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._forward, daemon=True)
        self._thread.start()

    def freeze(self) -> None:
        """Forward nothing more on the connections that there are."""
        self._frozen |= set(self._pairs)

    def close(self) -> None:
        """End all connections."""
        self._closed.set()
        self._thread.join(SOON_S)
        for each in (self._listener, *self._pairs):
            each.close()

    def _connect(self) -> socket.socket:
        if isinstance(self._target, int):
            return socket.create_connection(("127.0.0.1", self._target))
        there = socket.socket(socket.AF_UNIX)
        there.connect(self._target)
        return there

    def _forward(self) -> None:
        while not self._closed.is_set():
            open_ones = [each for each in self._pairs if each not in self._frozen]
            for ready in select.select([self._listener, *open_ones], [], [], 0.05)[0]:
                if ready is self._listener:
                    here, there = self._listener.accept()[0], self._connect()
                    self._pairs |= {here: there, there: here}
                    self.came += 1
                elif data := ready.recv(65536):
                    self._pairs[ready].sendall(data)
                else:
                    self._frozen.add(ready)


class Hearing:
    """Hears the channel "news" on a thread; `trip` is what hearing a message does first."""

    def __init__(self, client: redis.Redis, trip: Callable[[bytes], None] = lambda _: None) -> None:
        self.heard: list[bytes] = []
        self.times_subscribed = 0
        self.going = True
        self._trip = trip
        self.thread = threading.Thread(target=hear, args=(client, "news"), daemon=True, kwargs={
            "each": self._each, "subscribed": self._subscribed, "wanted": lambda: self.going, "silent_s": SILENT_S})
        self.thread.start()

    def _each(self, data: bytes) -> None:
        self._trip(data)
        self.heard.append(data)

    def _subscribed(self) -> None:
        self.times_subscribed += 1

    def hears(self, client: redis.Redis, word: bytes) -> None:
        """Wait until it hears a word, which is said until it does."""
        def told() -> bool:
            client.publish("news", word)
            return word in self.heard

        wait_until(told, timeout_s=SOON_S, what=f"{word!r} to be heard")

    def end(self) -> None:
        """Want to hear no more."""
        self.going = False
        self.thread.join(SOON_S)
        assert not self.thread.is_alive()


@pytest.fixture
def proxy(client: redis.Redis) -> Iterator[Proxy]:
    options = client.connection_pool.connection_kwargs
    between = Proxy(options.get("path") or int(options["port"]))
    yield between
    between.close()


def test_a_connection_that_died_without_a_word_is_given_up_and_the_channel_heard_over_another(
        client: redis.Redis, proxy: Proxy) -> None:
    with redis.Redis(port=proxy.port) as through_proxy:
        hearing = Hearing(through_proxy)
        hearing.hears(client, b"one")
        proxy.freeze()
        wait_until(lambda: hearing.times_subscribed == 2, timeout_s=SOON_S, what="the channel to be subscribed to again")
        hearing.hears(client, b"two")
        hearing.end()


def test_a_connection_on_which_nothing_is_published_is_kept(client: redis.Redis, proxy: Proxy) -> None:
    with redis.Redis(port=proxy.port) as through_proxy:
        hearing = Hearing(through_proxy)
        hearing.hears(client, b"one")
        pings = client.info("commandstats").get("cmdstat_ping", {"calls": 0})["calls"]
        wait_until(lambda: client.info("commandstats").get("cmdstat_ping", {"calls": 0})["calls"] >= pings + 4,
                   timeout_s=SOON_S, what="four pings, one in half the silence allowed")
        hearing.end()

    assert (hearing.times_subscribed, proxy.came) == (1, 1)


def test_an_error_that_nobody_thought_of_does_not_end_the_hearing(client: redis.Redis) -> None:
    def trip(data: bytes) -> None:
        if data == b"bad":
            raise KeyError("nobody thought of it")

    hearing = Hearing(client, trip)
    wait_until(lambda: hearing.times_subscribed == 1, timeout_s=SOON_S, what="the channel to be heard")
    client.publish("news", "bad")
    wait_until(lambda: hearing.times_subscribed == 2, timeout_s=SOON_S, what="the channel to be heard again")
    hearing.hears(client, b"good")
    hearing.end()
