"""The cache service: JSON values of a tenant that live for a while."""

import msgspec

from app.inputs import CacheDelete, CacheGet, CachePut
from workers import resources
from workers.attempt import Answer, Attempt
from workers.tasks import job_task


def _key(attempt: Attempt, name: str) -> str:
    return f"cached:{attempt.claim.tenant}:{name}"


@job_task("cache.put")
def put(attempt: Attempt) -> Answer:
    """Keep a value. Result: `stored`, `bytes`."""
    request = msgspec.json.decode(attempt.claim.input, type=CachePut)
    value = bytes(request.value)
    resources.held().client.set(_key(attempt, request.key), value, ex=request.ttl_s)
    return Answer(result={"stored": True, "bytes": len(value)})


@job_task("cache.get")
def get(attempt: Attempt) -> Answer:
    """Read a value. Result: `found`, `value`, `ttl_s` (seconds left)."""
    request = msgspec.json.decode(attempt.claim.input, type=CacheGet)
    key = _key(attempt, request.key)
    with resources.held().client.pipeline() as pipeline:
        value, ttl_ms = pipeline.get(key).pttl(key).execute()
    if value is None:
        return Answer(result={"found": False, "value": None, "ttl_s": None})
    return Answer(result={"found": True, "value": msgspec.Raw(value), "ttl_s": ttl_ms / 1000})


@job_task("cache.delete")
def delete(attempt: Attempt) -> Answer:
    """Forget a value. Result: `deleted`."""
    request = msgspec.json.decode(attempt.claim.input, type=CacheDelete)
    return Answer(result={"deleted": bool(resources.held().client.delete(_key(attempt, request.key)))})
