"""The chat service: a turn of a conversation, answered by the model service.

The model's part is a job of its own, in the chat's lane. It ends with the chat: where the chat is over without an answer,
so is its part; where another attempt of the chat follows, that finds the part again, and its answer.

The history lies where `app.conversations` says. The caller's turn and the reply are appended in the same step that
records the result, so a conversation holds a reply if and only if its job succeeded. Where it has outgrown the window
of the model, the model is not shown its oldest turns (`app.window`).
"""

import time
from functools import cache

import msgspec
import redis

from app.conversations import turns_key
from app.errors import EngineFailed, EngineTransient, JobStopped, JobUnknown
from app.inputs import ChatInput, Message, ModelInput, Sampling
from app.job import Job, NewJob, Service, State, model_part
from app.window import Window
from workers import resources
from workers.attempt import Answer, Attempt, SlotsTaken, verdict
from workers.tasks import job_task

_LONGEST_WAIT_S = 3600.0  # for the model's part, where the job has no deadline of its own


@job_task("chat.reply")
def reply(attempt: Attempt) -> Answer:
    """Answer a turn, with the turns before it. Result: `text`, `finish_reason`, `model`, `conversation`, `model_job`,
    `dropped_turns`: how many turns the model was not shown."""
    slots = resources.held().chat_slots
    if not slots.acquire(blocking=False):
        raise SlotsTaken("the other slots of this worker are kept for the model's part of chats")
    try:
        return _reply(attempt)
    except Exception as exc:  # whatever it is, it is settled elsewhere
        if _ends_with(exc, attempt):
            _end_part(attempt)
        raise
    finally:
        slots.release()


def _ends_with(exc: Exception, attempt: Attempt) -> bool:
    """Whether this is the end of the chat; if not, another attempt needs the model's part."""
    if isinstance(exc, JobStopped):  # cancelled or past its deadline; else the worker goes down, or lost the job
        return attempt.node.ledger.read(attempt.claim.id).state.terminal
    judged = verdict(exc, errors_before=attempt.claim.errors, settings=attempt.node.settings)
    return judged.state is State.FAILED


def _end_part(attempt: Attempt) -> None:
    try:
        attempt.node.ledger.cancel(model_part(attempt.claim.id))
    except JobUnknown:  # it never came to that
        return


def _reply(attempt: Attempt) -> Answer:
    request = msgspec.json.decode(attempt.claim.input, type=ChatInput)
    key = turns_key(attempt.claim.tenant, request.conversation)
    turns = [msgspec.json.decode(turn, type=Message) for turn in resources.held().client.lrange(key, 0, -1)]
    asked = Message(role="user", content=request.message)
    sampling = {name: getattr(request, name) for name in Sampling.__struct_fields__}
    shown = _window().fitting(turns, asked, max_tokens=request.max_tokens)
    job = _through_the_model(attempt, ModelInput(messages=shown.messages, **sampling))
    result = msgspec.json.decode(job.result or b"{}")
    answered = Message(role="assistant", content=result["text"] or " ")
    return Answer(
        result={**result, "conversation": request.conversation, "model_job": job.id,
                "dropped_turns": shown.dropped_turns},
        usage=msgspec.json.decode(job.usage) if job.usage else None,
        append=(key, [msgspec.json.encode(asked), msgspec.json.encode(answered)]))


@cache
def _window_on(client: redis.Redis) -> Window:
    return Window(client)


def _window() -> Window:
    return _window_on(resources.held().client)


def _through_the_model(attempt: Attempt, request: ModelInput) -> Job:
    """Submit the model's part as a job of its own and wait for it."""
    claim, ledger = attempt.claim, attempt.node.ledger
    job_id = model_part(claim.id)
    left_s = (claim.deadline_ms - time.time() * 1000) / 1000 if claim.deadline_ms else None
    part = NewJob(id=job_id, service=Service.MODEL, task="model.generate", tenant=claim.tenant, parent=claim.id,
                  input=msgspec.json.encode(request), lane=claim.lane, trace=claim.trace,
                  deadline_s=max(left_s, 0.001) if left_s is not None else None)
    announcements = resources.held().announcements
    with announcements.waiter(job_id) as event:
        attempt.node.wake_when_lost(claim, event)
        ledger.submit(part)
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
