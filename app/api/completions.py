"""`POST /v1/chat/completions`: OpenAI's chat completions over the same ledger and queues as jobs.

Each choice is a job of the model service in the interactive lane. The client's going cancels them.

A failure that comes soon has its own status. After `_SOON_S` a stream begins with the role, and goes on with comments while
nothing is said; an answer without a stream begins with status 200 and blank lines, as DeepSeek's does, and a failure after
that is an error as the body. Log probabilities come in a stream's last chunk of a choice: a job tells them when it ends.
"""

import time
from collections.abc import Iterator
from typing import Any

import msgspec
from flask import Blueprint, Response, request

from app import logs
from app.accounts import Scope
from app.api import bodies, caller, models, openai_errors, request_times, submission
from app.api.completion_work import KEEP_S, ClientGone, CompletionWork
from app.api.events import HEADERS, paced
from app.completion import COMMENT, DONE, Heading, event
from app.completion_request import CompletionRequest, read
from app.completion_text import Answered, ChoiceText, answered
from app.errors import StoreUnavailable, TandemError
from app.job import Job, Lane, NewJob, Service, State
from app.transcript import Event

blueprint = Blueprint("completions", __name__, url_prefix="/v1/chat")

_SOON_S = 3.0  # a failure within this time is answered with its own status


@blueprint.post("/completions")
def create() -> Response:
    """Answer a conversation."""
    who = caller.current(Scope.JOBS_WRITE)
    wanted = read(bodies.json_body())
    request_times.waits()
    gateway = bodies.gateway()
    model = models.find(wanted.model)
    jobs = [_job(who, wanted, choice) for choice in range(wanted.n)]
    work = CompletionWork(gateway, who.tenant, request.environ.get("gunicorn.socket"))
    try:
        for job in jobs:
            work.add(submission.submitted(job), job.idempotency_key)
        heading = Heading(id=f"chatcmpl-{work.ids[0]}", created=int(time.time()), model=model, usage=wanted.wants_usage)
        return _streamed(wanted, heading, work) if wanted.stream else _whole(wanted, heading, work)
    except BaseException:  # whatever it is, nobody waits for the jobs any more
        work.close()
        raise


def _job(who: caller.Caller, wanted: CompletionRequest, choice: int) -> NewJob:
    decoded = wanted.input_of(choice)
    job = submission.new_job(who, Service.MODEL, decoded, msgspec.json.encode(decoded), lane=Lane.INTERACTIVE,
                             deadline_s=None, digested=wanted)
    if job.idempotency_key is None or not choice:
        return job
    return msgspec.structs.replace(job, idempotency_key=f"{job.idempotency_key}\n{choice}")  # a caller's key is printable


# without a stream


def _whole(wanted: CompletionRequest, heading: Heading, work: CompletionWork) -> Response:
    if work.wait(_SOON_S):
        status, body = _outcome(wanted, heading, work)
        if any(job.state is not State.SUCCEEDED for job in work.jobs):
            request_times.tells_of_job()
        work.close()  # of several choices, one may have failed before the others were done
        return bodies.json_response(body, status, _failure_headers(status))
    response = Response(_patient(wanted, heading, work), content_type="application/json")
    response.call_on_close(work.close)
    return response


def _patient(wanted: CompletionRequest, heading: Heading, work: CompletionWork) -> Iterator[bytes]:
    """Yield blank lines until the jobs have ended, then the body."""
    try:
        yield b"\n"
        while not work.wait(KEEP_S):
            yield b"\n"
        yield msgspec.json.encode(_outcome(wanted, heading, work)[1])
    except ClientGone:
        return
    except TandemError as exc:
        yield msgspec.json.encode(_error(exc))


def _outcome(wanted: CompletionRequest, heading: Heading, work: CompletionWork) -> tuple[int, dict[str, Any]]:
    """Return status and body for jobs that have ended, all or one that failed."""
    for job in work.jobs:
        if job.state is not State.SUCCEEDED:
            return openai_errors.of_job(job)
    try:
        answers = [_answered(wanted, job) for job in work.jobs]
    except TandemError as exc:
        return exc.status, _error(exc)
    return 200, heading.completion(answers, work.jobs)


def _answered(wanted: CompletionRequest, job: Job) -> Answered:
    return answered(msgspec.json.decode(job.result or b"{}"), tools=wanted.calls_tools, json=wanted.wants_json)


# with a stream


def _streamed(wanted: CompletionRequest, heading: Heading, work: CompletionWork) -> Response:
    begun_s, early = time.monotonic(), []
    events = work.events()
    for said in events:
        early.append(said)
        if said and (failure := _failure(said[1])):
            work.close()
            if isinstance(said[1], Event):
                request_times.tells_of_job()
            return bodies.json_response(failure[1], failure[0], _failure_headers(failure[0]))
        if (said and _speaks(said[1])) or time.monotonic() - begun_s >= _SOON_S:
            break
    body: Iterator[bytes] = _chunks(wanted, heading, work, _chained(early, events))
    connection = request.environ.get("gunicorn.socket")
    streams = bodies.gateway().streams
    if connection is not None:
        body = paced(body, connection, lambda: streams.closing, job_id=work.ids[0])
    response = Response(body, headers=HEADERS, content_type="text/event-stream; charset=utf-8")
    response.call_on_close(work.close)
    return response


def _chained(early: list[Any], events: Iterator[Any]) -> Iterator[Any]:
    yield from early
    yield from events


def _speaks(said: Event | TandemError) -> bool:
    return isinstance(said, Event) and (said.name == "token" or isinstance(said.data, Job))


def _failure(said: Event | TandemError) -> tuple[int, dict[str, Any]] | None:
    """Return status and body where a choice has failed."""
    if isinstance(said, TandemError):
        return openai_errors.status_of(said.status), _error(said)
    if isinstance(said.data, Job) and said.data.state is not State.SUCCEEDED:
        return openai_errors.of_job(said.data)
    return None


def _chunks(wanted: CompletionRequest, heading: Heading, work: CompletionWork, events: Iterator[Any]) -> Iterator[bytes]:
    """Yield the stream: roles, deltas, ends, the usage if it is wanted, and the end mark; or an error as the last."""
    texts = [ChoiceText(tools=wanted.calls_tools, json=wanted.wants_json) for _ in work.ids]
    try:
        yield b"".join(heading.chunk(index, {"role": "assistant", "content": "", "refusal": None})
                       for index in range(len(texts)))
        told_s = time.monotonic()
        for said in events:
            chunk = b""
            if said is not None:
                index, one = said
                if failure := _failure(one):
                    yield event(failure[1])
                    return
                chunk = _chunk(heading, index, texts[index], one)
            elif time.monotonic() - told_s >= KEEP_S:
                chunk = COMMENT
            if chunk:
                yield chunk
                told_s = time.monotonic()
        if not work.over:
            raise StoreUnavailable("this gateway is stopping; ask again")
        yield (heading.usage_chunk(work.jobs) if heading.usage else b"") + DONE
    except ClientGone:
        return
    except TandemError as exc:
        logs.event("completion_broken", job=work.ids[0], why=str(exc))
        yield event(_error(exc))
    finally:
        work.close()


def _chunk(heading: Heading, index: int, text: ChoiceText, said: Event) -> bytes:
    """Return the chunks that follow from an event of a choice. Raises `Diverged` and `NotJson`."""
    if said.name == "token":
        assert isinstance(said.data, dict)
        delta = text.said(said.data)
        return heading.chunk(index, delta) if delta else b""
    if said.name == "restarted":
        text.restarted()
    if isinstance(said.data, Job):
        last, whole = text.ended(msgspec.json.decode(said.data.result or b"{}"))
        rest = heading.chunk(index, last) if last else b""
        return rest + heading.chunk(index, {}, whole.finish_reason, whole.logprobs)
    return b""


def _error(exc: TandemError) -> dict[str, Any]:
    return openai_errors.body(openai_errors.status_of(exc.status), exc.code, str(exc))


def _failure_headers(status: int) -> list[tuple[str, str]]:
    """The jobs were tried again as often as it is worth; SDKs are told not to, except where nothing was wrong with them."""
    if status == 503:
        return [("Retry-After", "2")]
    return [("x-should-retry", "false")] if status >= 400 else []
