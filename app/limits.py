"""A tenant's own limits and weight, as an operator sets them: the hash `limits:<tenant>`, which the ledger's scripts read
with each submit. What is not set there is as the settings say; the weight is 1.
"""

from typing import Any

import redis

#: Name -> what it means.
LIMITS = {
    "weight": "share of the workers beside others, while there is more to do than they can; 1 for everybody else",
    "requests_per_minute": "jobs that the account may submit in a minute",
    "tokens_per_minute": "tokens that its jobs may cost in a minute",
    "jobs_in_flight": "live jobs that it may have",
}


def read(client: redis.Redis, tenant: str) -> dict[str, float]:
    """Return what is set for a tenant. Raises redis-py's errors."""
    found: dict[bytes, bytes] = client.hgetall(_key(tenant))
    return {name.decode(): float(value) for name, value in found.items()}


def change(client: redis.Redis, tenant: str, values: dict[str, float | None]) -> None:
    """Set limits, or with None go back to the default; the next submit counts by them. Raises redis-py's errors."""
    fields: dict[str, Any] = {name: repr(value) for name, value in values.items() if value is not None}
    gone = [name for name, value in values.items() if value is None]
    with client.pipeline() as pipeline:
        if fields:
            pipeline.hset(_key(tenant), mapping=fields)
        if gone:
            pipeline.hdel(_key(tenant), *gone)
        pipeline.execute()


def forget(client: redis.Redis, tenant: str) -> None:
    """The account is gone. Raises redis-py's errors."""
    client.delete(_key(tenant))


def _key(tenant: str) -> str:
    return f"limits:{tenant}"
