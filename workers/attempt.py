"""Running one job is five small steps: claim, choose, call, settle, announce.

    claim     take the job from the ledger, or learn that it is not ours to run
    choose    (pure) which code runs it
    call      run that code; whatever it raises becomes an outcome
    settle    (pure: `verdict`) what the outcome means for the job; then the ledger records it, fenced
    announce  one log line, and the answer that Celery's events carry

A wake-up may come twice or name a job that has ended: the claim decides. A result that comes too late is refused by the
ledger and thrown away here.
"""

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec
import redis

from app import logs
from app.errors import EngineUnavailable, Fault, JobStopped, StoreUnavailable, TandemError
from app.job import Service, State
from app.ledger import Claim, Ending, Settled, new_owner
from app.ledger.scripts import unavailable
from app.settings import Settings
from workers.engine import Tell
from workers.node import Node, Running


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a service's code returns: a JSON-able result, tokens used, and what to append to a list with it."""

    result: Any
    usage: Any = None
    append: tuple[str, Sequence[bytes]] | None = None


@dataclass(frozen=True, slots=True)
class Attempt:
    """What a service's code gets: the claim, the node it runs on, whether to stop, and a way to speak meanwhile."""

    claim: Claim
    node: Node
    stopped: Callable[[], bool]

    def speaking(self) -> AbstractContextManager[Tell]:
        """Give what tells those who follow the job pieces of its answer, before it is settled."""
        return self.node.speech.of(self.claim)


Code = Callable[[Attempt], Answer]
Answered = TypeVar("Answered")

#: What redis-py raises while Redis is away or cannot write; its other errors are bugs of ours.
_REDIS_AWAY = (redis.exceptions.ConnectionError, redis.exceptions.TimeoutError, redis.exceptions.ReadOnlyError,
               redis.exceptions.OutOfMemoryError)
_LOOKS, _LOOK_S = 3, 0.002  # short against what being woken takes
_PAUSE_S = 0.5  # between two tries to reach Redis
_pause = threading.Event()  # never set


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What to tell the ledger: an end (succeeded or failed), or another attempt after `retry_s`. `why` is for the log: the
    reason for another attempt that is not the job's affair."""

    state: State | None
    error: bytes = b""
    retry_s: float = 0.0
    why: str = ""


class SlotsTaken(TandemError):
    """The worker has no slot left for this kind of job, for the moment."""

    code = "slots-taken"
    title = "Slots taken"
    retryable = True


class TaskUnknown(TandemError):
    """The job names a task that this worker lacks. Another worker, of another version, may have it."""

    code = "task-unknown"
    title = "Task unknown"
    retryable = True


#: Outcomes of attempts that the worker only refused.
_NOT_BEGUN = (SlotsTaken, TaskUnknown)

#: Errors that are nothing the job did.
_NOT_THE_JOBS = (StoreUnavailable, SlotsTaken, EngineUnavailable)


def run(job_id: str, service: Service, node: Node, codes: Mapping[str, Code]) -> str:
    """Run one job as far as it goes here; return in a word what became of it."""
    claim = node.turn.take(job_id) or claim_woken(job_id, node)
    if not isinstance(claim, Claim):
        go_on(node, service)
        return announce_refusal(job_id, claim)
    running = node.enter(claim)
    try:
        outcome = call(choose(claim, codes), Attempt(claim, node, lambda: running.lost.is_set() or node.drained))
        count(running, node, outcome)
        return announce(claim, *settle(running, node, outcome))
    finally:
        node.leave(running)


def claim_woken(job_id: str, node: Node) -> Claim | State | None:
    """Claim the job that a wake-up names; return the claim, or the state that forbids it, or None for an unknown id."""
    owner = new_owner()
    return persist(lambda: node.ledger.claim(job_id, node.place, owner=owner, decision=_decision(node)))


def go_on(node: Node, service: Service) -> None:
    """Take the first waiting job instead of one that others took before its wake-up was read: where many take, that is the
    fate of most wake-ups."""
    if node.goes_on(service):
        owner = new_owner()
        node.turn.next = persist(lambda: node.ledger.take(service, node.place, owner=owner, decision=_decision(node)))


def linger(node: Node, service: Service) -> None:
    """Look a few times more for a waiting job, one thread of the process at a time: under load the next one comes within
    milliseconds, and going on with it costs a tenth of being woken for it."""
    if not node.lingering.acquire(blocking=False):
        return
    try:
        for _ in range(_LOOKS):
            _pause.wait(_LOOK_S)
            go_on(node, service)
            if node.turn.next is not None or not node.goes_on(service):
                return
    finally:
        node.lingering.release()


def choose(claim: Claim, codes: Mapping[str, Code]) -> Code:
    """Return the code for the job's task."""
    return codes.get(claim.task, _unknown_task)


def _unknown_task(attempt: Attempt) -> Answer:
    raise TaskUnknown(f"this worker has no code for the task '{attempt.claim.task}'; it may come from a newer Tandem")


def call(code: Code, attempt: Attempt) -> Answer | Exception:
    """Run the code; what it raises is an outcome like any other."""
    try:
        return code(attempt)
    except TandemError as exc:
        return exc
    except _REDIS_AWAY as exc:
        return unavailable(exc)
    except Exception as exc:  # noqa: BLE001 - the boundary between a job and its worker: a bug fails the job, not the worker
        logs.event("job_crashed", level=logging.ERROR, exc_info=True, job=attempt.claim.id, attempt=attempt.claim.attempt)
        return exc


def count(running: Running, node: Node, outcome: Answer | Exception) -> None:
    """Count the attempt, and whether it failed by the engine's or our own fault. One that was not begun in earnest says
    nothing of this worker; one whose job was taken from it meanwhile has not failed."""
    if not isinstance(outcome, _NOT_BEGUN):
        fault = outcome.fault if isinstance(outcome, TandemError) else Fault.OURS
        failed = isinstance(outcome, Exception) and fault is not Fault.CALLER and not isinstance(outcome, JobStopped)
        node.attempts.ended(failed=failed and not running.lost.is_set())


def verdict(outcome: Answer | Exception, *, errors_before: int, settings: Settings) -> Verdict:
    """Decide what an outcome means. Retryable errors get another attempt, each after twice the wait, until there were
    `max_attempts` of them."""
    if isinstance(outcome, Answer):
        return Verdict(state=State.SUCCEEDED)
    if isinstance(outcome, JobStopped):  # the worker is going down: the attempt does not count against the job
        return Verdict(state=None)
    if isinstance(outcome, _NOT_THE_JOBS):  # nor do these count
        asked_s = outcome.retry_after_s if isinstance(outcome, EngineUnavailable) else 0.0
        return Verdict(state=None, retry_s=max(settings.retry_delay_s, asked_s), why=f"{outcome.code}: {outcome}")
    error = describe(outcome)
    if isinstance(outcome, TandemError) and outcome.retryable and errors_before + 1 < settings.max_attempts:
        return Verdict(state=None, error=error, retry_s=settings.retry_delay_s * 2.0 ** errors_before)
    return Verdict(state=State.FAILED, error=error)


def settle(running: Running, node: Node, outcome: Answer | Exception) -> tuple[Verdict, Settled]:
    """Tell the ledger, for as long as it takes to get an answer. A thread that may go on gets its next job with it."""
    claim = running.claim
    if running.lost.is_set():
        return Verdict(state=None), Settled.STALE
    judged = verdict(outcome, errors_before=claim.errors, settings=node.settings)
    if judged.state is None:
        because = "error" if judged.error else "drain"
        return judged, persist(lambda: node.ledger.release(claim, because=because, wait_s=judged.retry_s))
    state, end = judged.state, ending(outcome, judged.error)
    if not node.goes_on(claim.service):
        return judged, persist(lambda: node.ledger.settle(claim, state, end))
    owner = new_owner()
    settled, node.turn.next = persist(lambda: node.ledger.settle_and_take(
        claim, state, end, place=node.place, owner=owner, decision=_decision(node)))
    return judged, settled


def ending(outcome: Answer | Exception, error: bytes) -> Ending:
    """Return what to record of an outcome."""
    if not isinstance(outcome, Answer):
        return Ending(error=error)
    usage = msgspec.json.encode(outcome.usage) if outcome.usage is not None else b""
    return Ending(result=msgspec.json.encode(outcome.result), usage=usage, append=outcome.append)


def announce(claim: Claim, judged: Verdict, settled: Settled) -> str:
    """Write the attempt's one log line; return what became of it."""
    word = settled.value if judged.state is None or settled is Settled.STALE else judged.state.value
    level = logging.DEBUG if word == State.SUCCEEDED else logging.INFO  # the ordinary case is in the ledger
    more: dict[str, Any] = {"error": msgspec.json.decode(judged.error)} if judged.error else {}
    if judged.why:
        more |= {"why": judged.why, "again_in_s": judged.retry_s}
    logs.event(f"job_{word}", level=level, job=claim.id, attempt=claim.attempt, task=claim.task, **more)
    return word


def announce_refusal(job_id: str, state: State | None) -> str:
    """Write that a wake-up led to nothing; return why."""
    word = state.value if state else "unknown"
    logs.event("wakeup_ignored", job=job_id, state=word)
    return word


def describe(exc: Exception) -> bytes:
    """Return an error as its caller reads it. An error that is not ours is a bug: its text stays in the log."""
    if isinstance(exc, TandemError):
        error = {"code": exc.code, "detail": str(exc), "fault": exc.fault.value}
    else:
        error = {"code": "internal-error", "detail": f"the worker failed ({type(exc).__name__}); see its log",
                 "fault": Fault.OURS.value}
    return msgspec.json.encode(error)


def persist(step: Callable[[], Answered]) -> Answered:
    """Repeat a step of the ledger until Redis answers: the scripts are safe to repeat, and giving up would lose the
    result. A lease that runs out meanwhile makes the answer "stale"."""
    while True:
        try:
            return step()
        except StoreUnavailable as exc:
            logs.event("ledger_unreachable", why=str(exc))
            _pause.wait(_PAUSE_S)


def _decision(node: Node) -> bytes:
    """Why the job runs here, for its caller to read."""
    return msgspec.json.encode({"rule": "local-first", "server": node.place.server,
                                "detail": "a worker of a server of your own took it when its turn came"})
