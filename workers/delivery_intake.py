"""Makes a delivery of each entry of the stream `hooks`, on which the ledger tells of ended jobs that have a webhook.

The workers of the queue service are the consumers of one group, so each entry is taken by one; what that one does not
finish, because it died, another takes over.
"""

from collections.abc import Sequence

import msgspec
import redis

from app import logs
from app.errors import JobGone, JobUnknown
from app.job import Job, State, timestamp
from app.ledger import Ledger
from app.ledger.scripts import unavailable
from app.store import DURABILITY
from app.webhook_deliveries import GROUP, Deliveries, NewDelivery

STREAM = "hooks"
_AT_A_TIME = 50
_ABANDONED_MS = 10_000  # an entry that was taken so long ago and is still there lost its worker

_Entry = tuple[bytes, dict[bytes, bytes]]


class Intake:
    """Takes entries for one worker, `consumer`. Raises `StoreUnavailable`."""

    def __init__(self, client: redis.Redis, ledger: Ledger, deliveries: Deliveries, *, consumer: str) -> None:
        """`client` waits for entries: its timeout must be above that."""
        self._client = client
        self._ledger = ledger
        self._deliveries = deliveries
        self._consumer = consumer
        self._connection: int | None = None  # that waits for entries, by Redis's number

    def take(self, *, block_ms: int) -> int:
        """Wait for new entries at most so long, and make deliveries of them; return how many there were."""
        try:
            self._connection = self._client.client_id()
            found = self._client.xreadgroup(GROUP, self._consumer, {STREAM: ">"}, count=_AT_A_TIME, block=block_ms)
            return self._record(found[0][1] if found else [])
        except redis.exceptions.ResponseError as exc:
            self._begin(exc)
            return 0
        except (redis.exceptions.RedisError, OSError) as exc:
            raise unavailable(exc) from exc

    def interrupt(self, client: redis.Redis) -> None:
        """End a `take` that waits in another thread."""
        if self._connection is None:
            return
        try:
            client.client_unblock(self._connection)
        except (redis.exceptions.RedisError, OSError) as exc:
            raise unavailable(exc) from exc

    def take_over(self, *, abandoned_ms: int = _ABANDONED_MS) -> int:
        """Make deliveries of entries that another worker took and left; return how many."""
        try:
            found = self._client.xautoclaim(STREAM, GROUP, self._consumer, abandoned_ms, count=_AT_A_TIME)[1]
            return self._record([entry for entry in found if entry[1]])
        except redis.exceptions.ResponseError as exc:
            self._begin(exc)
            return 0
        except (redis.exceptions.RedisError, OSError) as exc:
            raise unavailable(exc) from exc

    def _begin(self, exc: redis.exceptions.ResponseError) -> None:
        """Make the group where that is what was missing. It begins with all that the stream holds."""
        if not str(exc).startswith("NOGROUP"):
            raise unavailable(exc) from exc
        try:
            self._client.xgroup_create(STREAM, GROUP, "0", mkstream=True)
        except redis.exceptions.ResponseError as busy:
            if not str(busy).startswith("BUSYGROUP"):  # else another worker was first
                raise unavailable(busy) from busy

    def _record(self, entries: Sequence[_Entry]) -> int:
        for entry_id, fields in entries:
            new = self._delivery(fields)
            if new is None:
                self._client.xack(STREAM, GROUP, entry_id)
                self._client.xdel(STREAM, entry_id)
            else:
                self._deliveries.record(new, entry=entry_id.decode())
        return len(entries)

    def _delivery(self, fields: dict[bytes, bytes]) -> NewDelivery | None:
        """Return what an entry asks for, None where it cannot be had any more."""
        job_id = fields.get(b"id", b"").decode()
        try:
            job = self._ledger.read(job_id, fields[b"tenant"].decode())
            state = State(fields[b"state"].decode())
        except (JobUnknown, JobGone, KeyError, ValueError) as exc:
            logs.event("webhook_dropped", job=job_id, why=f"{type(exc).__name__}: {exc}")
            return None
        url: bytes | None = self._client.hget(f"job:{job_id}", "webhook")
        if url is None:
            logs.event("webhook_dropped", job=job_id, why="the job has no webhook")
            return None
        return NewDelivery(id=f"msg_{job.id}", tenant=job.tenant, job=job.id, url=url.decode(), type=f"job.{state}",
                           body=payload(job, state))


def payload(job: Job, state: State) -> bytes:
    """Return what the receiver of a job's webhook gets, as JSON."""
    return msgspec.json.encode({"type": f"job.{state}", "timestamp": timestamp(job.finished_ms),
                                "data": job.public(durability=DURABILITY)})
