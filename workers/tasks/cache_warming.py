"""The cache service's warming: has the model answer requests before anybody waits for them.

Each is a job of the model service in the batch lane, so it takes only what others leave; its answer is kept like any other.
"""

import uuid

import msgspec

from app.inputs import CacheWarm, ModelInput
from app.job import Lane, NewJob, Service
from workers import resources
from workers.attempt import Answer, Attempt
from workers.tasks import job_task


@job_task("cache.warm")
def warm(attempt: Attempt) -> Answer:
    """Submit what is not known yet. Result: `submitted`, `known` (answers that are there), `unfit` (requests that are not
    deterministic, or none can be kept of because it is not certain which model answers)."""
    requests = msgspec.json.decode(attempt.claim.input, type=CacheWarm).requests
    words = [_warmed(attempt, number, request) for number, request in enumerate(requests)]
    return Answer(result={word: words.count(word) for word in ("submitted", "known", "unfit")})


def _warmed(attempt: Attempt, number: int, request: ModelInput) -> str:
    """Submit one request; a second attempt submits the same job again. Return which of the words it counts for."""
    claim, answers = attempt.claim, resources.held().answers
    mark = answers.fingerprint(request, claim.tenant)
    if mark is None:
        return "unfit"
    job = NewJob(id=str(uuid.uuid5(uuid.UUID(claim.id), f"cache.warm {number}")), service=Service.MODEL,
                 task="model.generate", tenant=claim.tenant, parent=claim.id, input=msgspec.json.encode(request),
                 lane=Lane.BATCH, trace=claim.trace, fingerprint=mark)
    if answers.find(job):
        return "known"
    attempt.node.ledger.submit(job)
    return "submitted"
