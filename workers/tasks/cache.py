"""The cache service: JSON values of a tenant that live for a while, and an end to the answers kept for it."""

import msgspec

from app.inputs import CacheDelete, CacheGet, CachePut
from workers import resources
from workers.attempt import Answer, Attempt
from workers.tasks import job_task


@job_task("cache.put")
def put(attempt: Attempt) -> Answer:
    """Keep a value. Result: `stored`, `bytes`."""
    request = msgspec.json.decode(attempt.claim.input, type=CachePut)
    value = bytes(request.value)
    resources.held().cache.keep_value(attempt.claim.tenant, request.key, value, request.ttl_s)
    return Answer(result={"stored": True, "bytes": len(value)})


@job_task("cache.get")
def get(attempt: Attempt) -> Answer:
    """Read a value. Result: `found`, `value`, `ttl_s` (seconds left)."""
    request = msgspec.json.decode(attempt.claim.input, type=CacheGet)
    found = resources.held().cache.value(attempt.claim.tenant, request.key)
    if found is None:
        return Answer(result={"found": False, "value": None, "ttl_s": None})
    value, left_ms = found
    return Answer(result={"found": True, "value": msgspec.Raw(value), "ttl_s": left_ms / 1000})


@job_task("cache.delete")
def delete(attempt: Attempt) -> Answer:
    """Forget a value. Result: `deleted`."""
    request = msgspec.json.decode(attempt.claim.input, type=CacheDelete)
    return Answer(result={"deleted": resources.held().cache.forget_value(attempt.claim.tenant, request.key)})


@job_task("cache.invalidate")
def invalidate(attempt: Attempt) -> Answer:
    """Forget the answers that are kept for the caller alone, not the shared ones. Result: `invalidated`."""
    resources.held().cache.invalidate(attempt.claim.tenant)
    return Answer(result={"invalidated": True})
