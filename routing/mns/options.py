"""The transport's options, as kombu hands them over in `transport_options`, checked."""

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Any

from routing.mns.figures import Figures
from routing.mns.stores import Store

LONGEST_POLL_S = 30
LONGEST_VISIBILITY_S = 43200
LONGEST_DELAY_S = 604800

#: A message's body in MNS, base64 as it is sent.
MESSAGE_BYTES = 65536

#: How long a queue that is made here keeps a message, from its sending on, be it delayed or not: the longest allowed.
RETENTION_S = 604800

#: Of `close_within_s`, what is not the poll: a Celery worker looks at its own signals every 2 s only, and what the poll
#: brings is to be given back.
_CLOSE_REST_S = 3.0


@dataclass(frozen=True, slots=True)
class LostLease:
    """A message that ceased to be ours before it was acknowledged: another may already have it."""

    queue: str
    message_id: str
    headers: dict[str, Any]  # of the message; Celery's task id is `id`


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """See each."""

    visibility_timeout: float = 120.0  # s; a message whose taker falls silent is given to another after so long
    wait_time_seconds: float = 20.0  # s; the longest long poll. See `poll_s`, which is usually shorter
    max_lease_seconds: float = 10800.0  # a message held longer is no longer kept from others
    max_receives: int = 5  # taken more often than this, it is put aside in the queue's dead queue
    create_missing: bool = True  # queues. Off for a RAM user who may not
    queue_name_prefix: str = ""
    credentials_file: str | None = None  # JSON; see `credentials`
    credentials: Any = None  # an object with get_credentials(), as the SDK wants one
    store: Store | str | None = None  # for bodies that do not fit: a store or the URL of one, see `stores`
    connect_timeout_s: float = 5.0
    answer_timeout_s: float = 10.0  # for the service to answer, on top of what it was asked to wait
    ca_file: str | None = None  # PEM; for a server whose certificate the system's CAs do not cover
    compress_above: int = 8192  # bytes; larger bodies are compressed
    priorities: bool = False  # pass kombu's priorities (0 to 9, 9 first) on to MNS
    outage_s: float = 600.0  # pollers put up with a failing service for so long, and while they hold messages
    close_within_s: float = 5.0  # closing takes no longer, also when it cannot give back everything
    on_lease_lost: Callable[[LostLease], None] | None = None  # called in the thread that noticed
    figures: Figures = field(default_factory=Figures)

    def __post_init__(self) -> None:
        faults = [
            f"{name} must be {least:g} to {most:g}, not {value!r}"
            for name, least, most in (
                ("visibility_timeout", 1, LONGEST_VISIBILITY_S), ("wait_time_seconds", 0, LONGEST_POLL_S),
                ("max_lease_seconds", 1, 14 * 86400), ("max_receives", 1, 1_000_000), ("connect_timeout_s", 0.01, 300),
                ("answer_timeout_s", 0.1, 300),
                ("compress_above", 0, 2**31), ("outage_s", 0, 86400), ("close_within_s", 0.5, 300))
            if not isinstance(value := getattr(self, name), (int, float)) or isinstance(value, bool)
            or not least <= value <= most]
        if faults:
            raise ValueError(f"transport options of mns: {'; '.join(faults)}")

    @classmethod
    def of(cls, given: dict[str, Any]) -> "Options":
        """Return the options among kombu's, which holds others' as well. Raises ValueError that lists every fault."""
        return cls(**{known.name: given[known.name] for known in fields(cls) if known.name in given})

    @property
    def visibility_s(self) -> int:
        """The visibility timeout in the whole seconds of MNS."""
        return max(1, round(self.visibility_timeout))

    @property
    def poll_s(self) -> int:
        """How long a poll waits at the server, in seconds.

        A poll cannot be called back: to a connection that was cut the service gives the next message all the same, which
        then lies invisible until its visibility timeout. So closing waits for the poll in flight, and a poll is no longer
        than closing may take. Fewer requests against a slower stop: raise `close_within_s` and `wait_time_seconds`.
        """
        return int(min(self.wait_time_seconds, max(1.0, self.close_within_s - _CLOSE_REST_S)))
