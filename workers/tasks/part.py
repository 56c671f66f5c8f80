"""The model's part of a job of the chat service: a job of its own, in the same lane, which ends with it.

Where the job is over without an answer, so is its part; where another attempt of the job follows, that finds the part
again, and its answer.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec

from app.errors import EngineFailed, EngineTransient, JobStopped, JobUnknown
from app.inputs import ModelInput
from app.job import Job, NewJob, Service, State, model_part
from workers import resources
from workers.attempt import Attempt, verdict

_LONGEST_WAIT_S = 3600.0  # for the part, where the job has no deadline of its own


@contextmanager
def part_ending_with(attempt: Attempt) -> Iterator[None]:
    """Where what is done here ends the job without an answer, end its part too."""
    try:
        yield
    except Exception as exc:  # whatever it is, it is settled elsewhere
        if _ends_with(exc, attempt):
            _end_part(attempt)
        raise


def through_the_model(attempt: Attempt, request: ModelInput, *, anew: bool = False) -> Job:
    """Have the model answer, and return the part, which has succeeded; with `anew` no answer is taken that was given before
    to the same request. Raises `JobStopped`, or an `EngineError` that says why there is no answer."""
    claim, ledger, answers = attempt.claim, attempt.node.ledger, resources.held().answers
    job_id = model_part(claim.id)
    left_s = (claim.deadline_ms - time.time() * 1000) / 1000 if claim.deadline_ms else None
    part = NewJob(id=job_id, service=Service.MODEL, task="model.generate", tenant=claim.tenant, parent=claim.id,
                  input=msgspec.json.encode(request), lane=claim.lane, trace=claim.trace,
                  fingerprint=None if anew else answers.fingerprint(request, claim.tenant),
                  deadline_s=max(left_s, 0.001) if left_s is not None else None)
    announcements = resources.held().announcements
    with announcements.waiter(job_id) as event:
        attempt.node.wake_when_lost(claim, event)
        answers.submit(part, ledger)
        job = announcements.wait(event, lambda: ledger.read(job_id), timeout_s=_LONGEST_WAIT_S,
                                 stopped=attempt.stopped, every_s=attempt.node.settings.beat_s)
    if job.state is State.SUCCEEDED:
        return job
    if attempt.stopped():
        raise JobStopped("the job ended while the model worked on its part")
    if not job.state.terminal:
        raise EngineTransient(f"the model's part, job {job_id}, is still {job.state} after {_LONGEST_WAIT_S:g} s")
    raise EngineFailed("the model gave no answer to this turn, which is not kept: "
                       f"its job {job_id} {job.state}: {job.error_text()}")


def _ends_with(exc: Exception, attempt: Attempt) -> bool:
    """Whether this is the end of the job; if not, another attempt needs the part."""
    if isinstance(exc, JobStopped):  # cancelled or past its deadline; else the worker goes down, or lost the job
        return attempt.node.ledger.read(attempt.claim.id).state.terminal
    judged = verdict(exc, errors_before=attempt.claim.errors, settings=attempt.node.settings)
    return judged.state is State.FAILED


def _end_part(attempt: Attempt) -> None:
    try:
        attempt.node.ledger.cancel(model_part(attempt.claim.id))
    except JobUnknown:  # it never came to that
        return
