"""The deliveries of webhooks that are not done yet, as they lie in Redis (the keys stand in `app.webhook_scripts`).

One is recorded from the ledger's word that a job has ended, claimed by a worker under a lease, and settled: done, due
again, or put aside (`app.webhook_dead`). A worker that dies lets its lease run out, and another claims the delivery: so
each is made at least once, under one id, and no receiver's stands in the way of another's.
"""

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any
from urllib.parse import urlsplit

import redis

from app import webhook_scripts as scripts
from app.ledger.scripts import unavailable

GROUP = "webhooks"  # the consumers of the stream `hooks`

_PAGE = 500  # receivers looked at a time
_MOST_DEAD = 10_000  # kept for a tenant; the newest


class Verdict(StrEnum):
    """What became of an attempt."""

    DONE = "done"
    AGAIN = "again"  # it failed, and is due again later
    DEAD = "dead"  # it failed for good, and is put aside
    BACK = "back"  # it was not made; another worker may at once


@dataclass(frozen=True, slots=True, kw_only=True)
class NewDelivery:
    """What is to be delivered. `body` is JSON, the same for each attempt."""

    id: str  # the webhook-id, the same for each attempt
    tenant: str
    job: str
    url: str
    type: str  # e.g. "job.succeeded"
    body: bytes

    @property
    def receiver(self) -> str:
        """Whose turn it takes: the tenant's host. That of another tenant has a turn of its own."""
        parts = urlsplit(self.url)
        return f"{self.tenant}|{parts.scheme}://{parts.netloc.lower()}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """A delivery that a worker is to make now."""

    id: str
    receiver: str
    tenant: str
    url: str
    attempts: int  # this one included
    owner: str
    body: bytes


class Deliveries:
    """Records, claims and settles. Raises `StoreUnavailable`."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._scripts = {text: client.register_script(text) for text in (
            scripts.RECORD, scripts.DUE, scripts.CLAIM, scripts.SETTLE)}

    def record(self, new: NewDelivery, *, entry: str) -> bool:
        """Make a delivery due, in the place of the entry of the stream `hooks` that told of it; return whether it was not
        recorded before."""
        return bool(self._run(scripts.RECORD, new.id, new.tenant, new.job, new.receiver, new.url, new.type,
                              zlib.compress(new.body), GROUP, entry))

    def due(self) -> Iterator[str]:
        """Yield the receivers that have a delivery due, the longest due first."""
        skip = 0
        while True:
            found, _ = self._run(scripts.DUE, skip, _PAGE)
            yield from (receiver.decode() for receiver in found)
            if len(found) < _PAGE:
                return
            skip += _PAGE

    def next_s(self) -> float | None:
        """Return in how many seconds a receiver that has none now has a delivery due; None for never."""
        _, next_ms = self._run(scripts.DUE, 0, 0)
        return int(next_ms) / 1000 if next_ms else None

    def claim(self, receiver: str, most: int, *, lease_s: float, owner: str) -> list[Delivery]:
        """Take deliveries of a receiver that are due; they are the owner's until they are settled, or the lease ends."""
        return [Delivery(id=delivery_id.decode(), receiver=receiver, tenant=tenant.decode(), url=url.decode(),
                         attempts=attempts, owner=owner, body=zlib.decompress(body))
                for delivery_id, tenant, url, attempts, body
                in self._run(scripts.CLAIM, receiver, most, round(lease_s * 1000), owner)]

    def settle(self, delivery: Delivery, verdict: Verdict, *, delay_s: float = 0.0, error: str = "") -> bool:
        """Record what became of an attempt; return False where the delivery was another's by then."""
        return bool(self._run(scripts.SETTLE, delivery.id, delivery.owner, verdict.value, round(delay_s * 1000), error,
                              _MOST_DEAD))

    def _run(self, script: str, *args: Any) -> Any:
        try:
            return self._scripts[script](args=args)
        except (redis.exceptions.RedisError, OSError) as exc:
            raise unavailable(exc) from exc
