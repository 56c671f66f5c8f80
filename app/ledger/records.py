"""What the ledger answers and is handed: the records of its verbs, frozen and without behaviour."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import msgspec

from app.job import Job, Lane, Service, State, service_of


class Submitted(StrEnum):
    """What became of a submit."""

    ACCEPTED = "accepted"
    KNOWN = "known"  # this very call was made before, and its reply was lost
    REPLAYED = "replayed"  # the idempotency key names an earlier job with the same body
    MISMATCH = "mismatch"  # the idempotency key, or the id, names an earlier job with another body
    TAKEN = "taken"  # the id is another tenant's
    GONE = "gone"  # the id is that of a job past retention
    LIMITED = "limited"  # the tenant's limits are used up


class Limit(msgspec.Struct, frozen=True):
    """How a tenant stands with one of its limits."""

    name: str  # requests or tokens (by the minute), or jobs (in flight)
    most: int
    left: int
    whole_ms: int  # until it is all there again, if nothing more is asked for


class Shortage(msgspec.Struct, frozen=True):
    """Which limit is used up, and for how long at least."""

    name: str
    wait_ms: int


class Submission(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to a submit. `job` is there when the job was accepted just now; else read `job_id`. `limits` are those
    that the tenant has, `shortage` is there where one of them is used up."""

    outcome: Submitted
    job_id: str
    job: Job | None
    limits: tuple[Limit, ...] = ()
    shortage: Shortage | None = None


class Page(msgspec.Struct, frozen=True):
    """A part of a tenant's jobs, newest first. `cursor` asks for what follows; None where nothing does."""

    jobs: list[Job]
    cursor: str | None


class Settled(StrEnum):
    """What became of a settle or a release."""

    RECORDED = "recorded"
    RELEASED = "released"
    AGAIN = "again"  # this owner did it before, and the reply was lost
    STALE = "stale"  # the job is not this owner's any more; the result is thrown away


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where an attempt runs: the worker's node name, its server, and the label of its processor."""

    worker: str
    server: str
    processor: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A running attempt, as its worker holds it. (id, attempt, owner) is the fencing token."""

    id: str
    owner: str
    attempt: int
    errors: int  # attempts before this one that ended in a retryable error
    task: str
    tenant: str
    input: bytes
    created_ms: int
    deadline_ms: int | None
    trace: str | None
    lane: Lane = Lane.STANDARD
    fingerprint: str | None = None

    @property
    def service(self) -> Service:
        """The service whose job it is."""
        return service_of(self.task)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """What is recorded with a job's end, as JSON. `append` names a list key and elements to push to it in the same step,
    only if the end is recorded."""

    result: bytes = b""
    error: bytes = b""
    usage: bytes = b""
    append: tuple[str, Sequence[bytes]] | None = None


NOTHING = Ending()


class Voice(StrEnum):
    """Which part of an answer a piece belongs to. An answer's reasoning, if any, comes before its content."""

    STARTED = "started"  # no text: the attempt is being worked on
    REASONING = "reasoning"
    CONTENT = "content"


class Piece(msgspec.Struct, frozen=True):
    """Text that an attempt said. `position` is how many characters (code points) it had said up to the end of this piece,
    reasoning and content together; so (attempt, position) is the piece's id, and any place in the text has one."""

    attempt: int
    position: int
    voice: Voice
    text: str


class Saying(msgspec.Struct, frozen=True):
    """A piece on its way into the ledger, with the claim that gives the right to say it."""

    claim: Claim
    piece: Piece


class CloudSaying(msgspec.Struct, frozen=True):
    """Text that a run in the cloud said, as it arrives: maybe before what comes before it, maybe twice. `start` is how many
    characters (code points) the run had said before it, in all voices."""

    claim: Claim
    start: int
    voice: Voice
    text: str


class Cap(StrEnum):
    """For what no more jobs are sent to the cloud."""

    JOBS = "jobs"  # as many as may be were sent in the last minute
    MONEY = "money"  # what may be spent in an hour is spent, or reserved


class Spend(msgspec.Struct, frozen=True, kw_only=True):
    """What the cloud costs, and what may still be spent; in the currency of the prices."""

    jobs_left: int  # that may be sent now
    money_left: float  # of what may be spent in an hour
    money_hour: float  # spent, or reserved, in the last hour
    jobs_minute: int  # sent in the last minute
    job_cost: float  # at most, of the dearest of the jobs sent last, or of the one that would be sent next; 0: of neither


class Stop(msgspec.Struct, frozen=True):
    """Something in the cloud is void: a ticket, which any worker may have (`worker` is empty), or the run of a worker. Say
    `CloudLedger.stopped` with `entry_id` when the cloud has been told."""

    entry_id: str
    void: str
    worker: str


class Said(msgspec.Struct, frozen=True):
    """What a job has said: its last attempt (0: none yet), how many characters that said in all, and the pieces asked for,
    as far as they are still kept. `speaker` is the job that says it, where this one
    waits for that one's answer."""

    attempt: int
    total: int
    pieces: list[Piece]
    speaker: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Census:
    """The books at one moment."""

    counts: dict[str, int]
    waiting: dict[Service, int]
    woken: dict[Service, int]
    delayed: int
    running: int
    finished: int
    held: int = 0
    cloud: int = 0  # sent to the cloud and not begun there

    @property
    def live(self) -> int:
        """Jobs accepted and not ended."""
        return sum(self.waiting.values()) + self.delayed + self.held + self.cloud + self.running

    @property
    def terminal(self) -> int:
        """Jobs ended, those past retention included."""
        return sum(self.counts.get(state, 0) for state in State if state.terminal)

    @property
    def balanced(self) -> bool:
        """Conservation: accepted = terminal + live, and every ended job is kept or purged."""
        return (self.counts.get("accepted", 0) == self.terminal + self.live
                and self.terminal == self.finished + self.counts.get("purged", 0))
