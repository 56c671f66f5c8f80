"""What home and cloud say to each other, as it stands in the messages' `kwargs`.

Home sends an errand; a ticket, fresh each time a job is sent, is the right to run it. A cloud worker that takes it makes up
a run: `<ticket>.<8 hex digits>`. The first run of a ticket that is heard of at home becomes the owner of the job's next
attempt; all others are void, and so is the ticket when the job comes home, ends, or is sent anew.

MNS delivers at least once and in any order, so each word stands for itself: it names job, ticket and run, pieces of
text say where they begin, and a long end comes in numbered parts.
"""

from typing import Any

import msgspec


class Errand(msgspec.Struct, frozen=True, kw_only=True):
    """A job on its way to a cloud worker."""

    job: str
    ticket: str
    task: str
    input: str  # JSON
    errors: int = 0  # attempts before that ended in a retryable error
    deadline_ms: int | None = None  # Unix time
    trace: str | None = None  # W3C traceparent


class _Word(msgspec.Struct, frozen=True, kw_only=True, tag_field="word", tag=str.lower):
    job: str
    ticket: str
    run: str


class Began(_Word, frozen=True, kw_only=True):
    """The run has begun."""


class Alive(_Word, frozen=True, kw_only=True):
    """The run goes on."""


class Said(_Word, frozen=True, kw_only=True):
    """Text that the run said. `start` is how many characters (code points) it had said before, in all voices."""

    start: int
    voice: str  # of app.ledger.Voice: reasoning or content
    text: str


class Ended(_Word, frozen=True, kw_only=True):
    """The run has come to an end that counts: `outcome` is an `Outcome` as JSON, whole or the part `number` (from 0) of
    `of`."""

    outcome: str
    number: int = 0
    of: int = 1


class GaveBack(_Word, frozen=True, kw_only=True):
    """The run has ended without an answer; the job is to have another attempt, at home."""

    because: str  # error or drain: only errors count against the job
    wait_s: float = 0.0
    why: str = ""


Word = Began | Alive | Said | Ended | GaveBack


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """How a run ended, for the ledger."""

    state: str  # succeeded or failed
    result: str = ""  # JSON, of a success
    error: str = ""  # JSON, of a failure
    usage: str = ""  # JSON


class Worker(msgspec.Struct, frozen=True, kw_only=True):
    """What a cloud worker says of itself with each report."""

    name: str  # Celery node name
    processor: str  # labels of the processors that it is pinned to, with commas; empty: not pinned
    slots: int
    busy: int
    engine: str
    figures: dict[str, Any] = {}
    stopping: bool = False  # it takes nothing new


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What a cloud worker has to say, at one time."""

    worker: Worker
    words: list[Word] = []


class Stops(msgspec.Struct, frozen=True, kw_only=True):
    """Tickets, or single runs, that are void: what has not begun need not, what runs may stop."""

    void: list[str]


def body(name: str, value: Errand | Report | Stops) -> dict[str, Any]:
    """Return the `kwargs` of a message: one argument, named for what it is."""
    return {name: msgspec.to_builtins(value)}


def short(run: str) -> str:
    """Return a run's name for the log: without its ticket, which is the right to report on the job."""
    return run.rpartition(".")[2]
