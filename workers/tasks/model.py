"""The model service: one request through the engine."""

import msgspec

from app.inputs import ModelInput
from workers import resources
from workers.attempt import Answer, Attempt
from workers.tasks import job_task


@job_task("model.generate")
def generate(attempt: Attempt) -> Answer:
    """Answer messages or a prompt."""
    engine = resources.held().engine
    assert engine is not None, "the model service loads its engine before its first job"
    request = msgspec.json.decode(attempt.claim.input, type=ModelInput)
    with attempt.speaking() as tell:
        generation = engine.generate(request, attempt.stopped, tell)
    result = generation.as_result()
    claim, keeping = attempt.claim, resources.held().keeping
    if claim.fingerprint and keeping:
        keeping.keep(claim.tenant, claim.fingerprint, msgspec.json.encode(result), msgspec.json.encode(generation.usage),
                     generation.model)
    return Answer(usage=generation.usage, result=result)
