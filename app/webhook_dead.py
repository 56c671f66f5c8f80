"""The deliveries of webhooks that failed for good, put aside for their tenant to look at, replay or remove.

They are thrown away by themselves after the setting `webhook_dead_s`.
"""

import re
from dataclasses import dataclass
from typing import Any

import redis

from app import webhook_scripts as scripts
from app.errors import InvalidInput, NotFound
from app.job import timestamp
from app.ledger.scripts import unavailable

_CURSOR = re.compile(r"\d{15}:[!-~]{1,100}")
_PURGED = 500  # at a time
_FIELDS = ("job", "url", "type", "created_ms", "attempts", "error", "dead")


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadDelivery:
    """A delivery that was put aside, as its tenant sees it. Times are RFC 3339 in UTC."""

    id: str  # the webhook-id
    job: str
    url: str
    type: str
    attempts: int
    error: str  # of the last attempt
    created_at: str
    died_at: str


class DeadDeliveries:
    """Lists, replays, removes and purges. Raises `StoreUnavailable`."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._raise = client.register_script(scripts.RAISE)
        self._purge = client.register_script(scripts.PURGE)

    def page(self, tenant: str, *, limit: int, cursor: str = "") -> tuple[list[DeadDelivery], str | None]:
        """Return the tenant's, the last put aside first, and the cursor of the next page, None after the last. Raises
        `InvalidInput` for a cursor that is none."""
        if cursor and not _CURSOR.fullmatch(cursor):
            raise InvalidInput("the cursor is none; take `next_cursor` as an answer gave it, or leave it out to start over")
        try:
            first = f"({cursor}" if cursor else "+"
            members = self._client.zrevrangebylex(f"hooks:dead:{tenant}", first, "-", 0, limit + 1)
            ids = [member.decode().partition(":")[2] for member in members]
            with self._client.pipeline(transaction=False) as pipeline:
                for delivery_id in ids[:limit]:
                    pipeline.hmget(f"hook:{delivery_id}", _FIELDS)
                records = pipeline.execute()
        except (redis.exceptions.RedisError, OSError) as exc:
            raise unavailable(exc) from exc
        found = [_dead(delivery_id, record) for delivery_id, record in zip(ids, records, strict=False) if record[-1]]
        return found, members[limit - 1].decode() if len(members) > limit else None

    def replay(self, delivery_id: str, tenant: str) -> None:
        """Make it due now, with all its attempts before it. Raises `NotFound` where the tenant has no such one."""
        self._take(delivery_id, tenant, "replay")

    def remove(self, delivery_id: str, tenant: str) -> None:
        """Throw it away. Raises `NotFound` where the tenant has no such one."""
        self._take(delivery_id, tenant, "remove")

    def purge(self, kept_s: float) -> int:
        """Throw away some of those that were put aside so long ago; return how many."""
        return int(self._run(self._purge, round(kept_s * 1000), _PURGED))

    def _take(self, delivery_id: str, tenant: str, what: str) -> None:
        if not self._run(self._raise, delivery_id, tenant, what):
            raise NotFound(f"there is no dead delivery '{delivery_id[:60]}'; it may have been replayed or removed, or is "
                           "past its retention")

    @staticmethod
    def _run(script: Any, *args: Any) -> Any:
        try:
            return script(args=args)
        except (redis.exceptions.RedisError, OSError) as exc:
            raise unavailable(exc) from exc


def _dead(delivery_id: str, record: list[bytes | None]) -> DeadDelivery:
    job, url, kind, created_ms, attempts, error, member = ((value or b"").decode() for value in record)
    return DeadDelivery(id=delivery_id, job=job, url=url, type=kind, attempts=int(attempts), error=error,
                        created_at=timestamp(int(created_ms)) or "", died_at=timestamp(int(member.partition(":")[0])) or "")
