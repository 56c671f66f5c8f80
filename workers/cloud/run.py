"""Runs one errand: read it, take it up, call the engine, conclude, deliver. Then, and only then, the message is deleted.

A message may come twice, late, or to two workers: what is void, past its deadline or in progress here already is let go.
The answer counts at home, once, by ticket and run; a worker that dies leaves its message to be taken by another.
"""

import logging
import time
from collections.abc import Mapping
from typing import Any

import msgspec
from celery.exceptions import Reject

from app import logs
from app.errors import JobStopped, TandemError
from app.inputs import ModelInput
from app.job import State
from routing.cloud import words
from workers import attempt
from workers.cloud import boot
from workers.cloud.node import CloudNode, Run
from workers.cloud.packing import ends

TASK = "model.generate"  # the only one that leaves home
_LOOK_S = 0.1  # between two looks at whether an end is still wanted, while MNS does not take it
_LONGEST_WAIT_S = 3600.0  # that home grants before a job's next attempt
#: The deadline is by home's clock, to which ours may be as far off as MNS lets one be: an errand that is let go by a clock
#: that is ahead would be missed at home until `cloud_wait_s` is over. One that is late indeed is refused at its first word.
_CLOCKS_DIFFER_MS = 15 * 60 * 1000
_CANNOT_S = 60.0  # before the next attempt at a job that this worker cannot read


class Unreadable(TandemError):
    """The errand is for a worker of another version."""

    code = "errand-unreadable"
    title = "Errand unreadable"
    retryable = True


def entry(task: Any, *_: Any, **arguments: Any) -> str:
    """Be Celery's task. What it returns is for the log only; it raises `Reject` where the message is to be had again."""
    return take(arguments, task.request.message_id, boot.node())


def take(arguments: Mapping[str, Any], message: str | None, node: CloudNode) -> str:
    """Run the errand that came, as far as it goes; return in a word what became of it. `message` is MNS's id of it."""
    try:
        errand = msgspec.convert(arguments.get("errand"), words.Errand)
    except msgspec.ValidationError as exc:
        logs.event("errand_malformed", level=logging.WARNING, message=message, why=str(exc))
        return "malformed"
    if errand.deadline_ms is not None and errand.deadline_ms + _CLOCKS_DIFFER_MS <= time.time() * 1000:
        logs.event("errand_expired", job=errand.job)
        return "expired"
    entered = node.enter(errand, message)
    if entered is None:
        logs.event("errand_void", job=errand.job)
        return "void"
    run, begins = entered
    if not begins:
        return hold(run, message, node)
    try:
        return deliver(run, carry_out(run, node), node)
    finally:
        node.leave(run)


def hold(run: Run, message: str | None, node: CloudNode) -> str:
    """Let go of an errand that is in progress here. A second message is deleted at once. The same one is held until the run
    is over: to delete it now would leave the run without the message that outlives this worker. Raises `Reject` where that
    is needed still."""
    same = message is not None and message == run.message
    logs.event("errand_again", job=run.errand.job, run=run.short, same_message=same)
    if same:
        run.over.wait()
        if run.errand.ticket not in node.voids:
            raise Reject("the run's end was not delivered", requeue=True)
    return "again"


def carry_out(run: Run, node: CloudNode) -> words.Outcome | Exception:
    """Call the engine; what it raises is an outcome like any other."""
    logs.event("run_began", job=run.errand.job, run=run.short, task=run.errand.task)
    try:
        generation = node.engine.generate(read(run.errand), lambda: run.stop.is_set() or node.drained, run.speaker.tell)
        return words.Outcome(state=State.SUCCEEDED.value, result=msgspec.json.encode(generation.as_result()).decode(),
                             usage=msgspec.json.encode(generation.usage).decode())
    except TandemError as exc:
        return exc
    except Exception as exc:  # noqa: BLE001 - the boundary between a job and its worker: a bug fails the job, not the worker
        logs.event("job_crashed", level=logging.ERROR, exc_info=True, job=run.errand.job, run=run.short)
        return exc


def read(errand: words.Errand) -> ModelInput:
    """Return what the engine is to answer. Raises `Unreadable`."""
    if errand.task != TASK:
        raise Unreadable(f"this worker has no code for the task '{errand.task}'; it may come from a newer Tandem")
    try:
        return msgspec.json.decode(errand.input, type=ModelInput)
    except msgspec.MsgspecError as exc:
        raise Unreadable(f"the input cannot be read ({exc}); it may come from a newer Tandem") from exc


def conclude(run: Run, outcome: words.Outcome | Exception, node: CloudNode) -> list[words.Word]:
    """Return what to tell home of an outcome (pure, but for the run's and the worker's state)."""
    names = {"job": run.errand.job, "ticket": run.errand.ticket, "run": run.id}
    if isinstance(outcome, words.Outcome):
        return ends(outcome=outcome, **names)
    if isinstance(outcome, Unreadable):  # nothing that the job did: another worker may read it
        return [words.GaveBack(**names, because="drain", wait_s=_CANNOT_S, why=f"{outcome.code}: {outcome}")]
    judged = attempt.verdict(outcome, errors_before=run.errand.errors, settings=node.settings)
    if judged.state is not None:
        return ends(outcome=words.Outcome(state=judged.state.value, error=judged.error.decode()), **names)
    why = run.why or ("the worker goes down" if node.drained else str(outcome))
    return [words.GaveBack(**names, because="error" if judged.error else "drain",
                           why=why if isinstance(outcome, JobStopped) else str(outcome),
                           wait_s=min(judged.retry_s, _LONGEST_WAIT_S))]


def deliver(run: Run, outcome: words.Outcome | Exception, node: CloudNode) -> str:
    """Tell home, for as long as it takes MNS to take it; return what became of the run. Raises `Reject` where the worker
    has to go before that: the message stays, for another worker."""
    told = conclude(run, outcome, node)
    if not run.void:
        run.speaker.end(told)
    while not run.void and not run.speaker.delivered.wait(_LOOK_S):
        if node.gives_up:
            logs.event("run_undelivered", level=logging.WARNING, job=run.errand.job, run=run.short)
            raise Reject("MNS does not take the run's end, and the worker goes down", requeue=True)
    node.voids.add([run.errand.ticket])  # the message may come again
    word, more = _word(run, told[-1])
    logs.event(f"run_{word}", job=run.errand.job, run=run.short, **more)
    return word


def _word(run: Run, last: words.Word) -> tuple[str, dict[str, Any]]:
    """Return what became of a run, and what the log should hold of that."""
    if run.void:
        return "void", {}
    if run.speaker.lost:
        return "lost", {}
    if isinstance(last, words.GaveBack):
        return "given_back", {"because": last.because, "why": last.why, "again_in_s": last.wait_s}
    return "ended", {"parts": last.of} if isinstance(last, words.Ended) else {}
