"""What the tests of the MNS transport share: connections to a local server, and a service that obeys the test."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from kombu import Connection

from ops.mns_server import LocalMns
from routing.mns import install
from routing.mns.errors import Gone, MnsError
from routing.mns.service import Received, Service

KEY = ("tester", "a+secret/of=the:tests")


def connect(mns: LocalMns, **options: Any) -> Connection:
    """A connection, not yet made; its user closes it, for which no long poll has to end."""
    install()
    return Connection(mns.url, userid=KEY[0], password=KEY[1],
                      transport_options={"visibility_timeout": 60, "wait_time_seconds": 0} | options)


def sdk(connection: Connection) -> Service:
    """The service below a connection, to do what kombu would not."""
    connection.ensure_connection(max_retries=0)
    return connection.transport.link.service  # type: ignore[no-any-return]


class HandClock:
    """A clock that moves when it is told to."""

    def __init__(self, now_s: float = 1000.0) -> None:
        self.now_s = now_s

    def __call__(self) -> float:
        """The time."""
        return self.now_s


class ObedientService:
    """Stands for `routing.mns.service.Service`: it knows one good handle for each message, as the service does, and fails
    when it is told to."""

    def __init__(self) -> None:
        self.good: dict[str, str] = {}  # message id -> the handle that is good
        self.visible_in_s: dict[str, int] = {}
        self.deleted: list[str] = []
        self.failures: list[MnsError | None] = []  # of the next requests; None lets one pass
        self.lost_answers: list[MnsError] = []  # the next requests are carried out, and then fail
        self.before: Callable[[str], None] = lambda _: None  # called with each request's name, before it is carried out
        self.requests: list[str] = []
        self.http = self

    @contextmanager
    def within(self, _most_s: float) -> Iterator[None]:
        """As PooledHttp's."""
        yield

    def hand_out(self, message_id: str) -> Received:
        """Let a message be received."""
        self.good[message_id] = f"{message_id}#1"
        return Received(message_id, self.good[message_id], "body", 1)

    def extend(self, _queue: str, handle: str, seconds: int) -> str:
        """As Service's."""
        message_id = self._carry_out("extend", handle)
        self.visible_in_s[message_id] = seconds
        self.good[message_id] = f"{message_id}#{int(handle.partition('#')[2]) + 1}"
        self._answer()
        return self.good[message_id]

    def delete(self, _queue: str, handle: str) -> None:
        """As Service's."""
        message_id = self._carry_out("delete", handle)
        del self.good[message_id]
        self.deleted.append(message_id)
        self._answer()

    def _carry_out(self, request: str, handle: str) -> str:
        self.requests.append(request)
        self.before(request)
        if self.failures and (failure := self.failures.pop(0)) is not None:
            raise failure
        message_id = handle.partition("#")[0]
        if self.good.get(message_id) != handle:
            raise Gone(f"{request} with handle {handle}: only {self.good.get(message_id)} is good")
        return message_id

    def _answer(self) -> None:
        if self.lost_answers:
            raise self.lost_answers.pop(0)
