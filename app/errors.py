"""Every error Tandem raises on purpose, as one tree.

    TandemError
    |- SettingsError            a setting or the topology file is wrong; lists every fault at once
    |- CallerError              the request cannot be served as it is; trying again changes nothing
    |  |- MalformedRequest 400, InvalidInput 422, PayloadTooLarge 413, UnsupportedMedia 415
    |  |- RequestTimeout 408    the body did not come in time
    |  |- Unauthenticated 401, Forbidden 403
    |  |- JobUnknown 404, JobGone 410, IdempotencyMismatch 422, Conflict 409
    |  |- NotFound 404          something else than a job is not there, or not this caller's
    |  |  |- ModelUnknown        no model of this name is served
    |  |  `- ConversationDeleted a turn came to be answered, and its conversation was not there any more
    |  |- LimitExceeded 429     the tenant's limits are used up; try again later
    |  `- PromptTooLong 422     the prompt does not fit the model's context
    |- StoreUnavailable 503     Redis cannot be reached, or cannot write; try again
    |- ReducedCapacity 503      there is more to do than can be done soon: the job was not accepted; try again later
    |- EngineError              the model's side failed
    |  |- EngineTransient       another attempt may succeed
    |  |  |- Diverged           it began anew, and says something else than was sent to the caller
    |  |  `- EngineUnavailable  nothing is wrong with the request: the model's server is away or busy
    |  |- EngineOutOfMemory     this request was too big for the memory there is now
    |  `- EngineFailed          another attempt would fail in the same way
    |     `- NotJson            JSON was asked for, and the answer is none
    `- JobStopped               the job was cancelled or taken over while it ran; not a failure of the job

Each class answers three questions: is another try worth it (`retryable`), whose fault is it (`fault`), and which
HTTP status tells the caller so (`status`). Foreign exceptions are translated once, where the foreign library is called.
"""

from enum import StrEnum


class Fault(StrEnum):
    """Who has to change something for the error to go away."""

    CALLER = "caller"
    OURS = "ours"
    ENGINE = "engine"


class TandemError(Exception):
    """Base of the tree. `code` is stable and for programs; the message is for people and says what to do next."""

    code = "internal-error"
    title = "Internal error"
    status = 500
    retryable = False
    fault = Fault.OURS


class SettingsError(TandemError):
    """The environment or the topology file is wrong. `faults` holds every fault found, one sentence each."""

    code = "bad-settings"
    title = "Bad settings"

    def __init__(self, faults: list[str]) -> None:
        self.faults = faults
        super().__init__("refusing to start; fix " + ("this:" if len(faults) == 1 else f"these {len(faults)} faults:")
                         + "".join(f"\n  - {fault}" for fault in faults))


class CallerError(TandemError):
    """The request is at fault. `pointer` is a JSON pointer (RFC 6901) to the member at fault, "" for the whole body."""

    code = "bad-request"
    title = "Bad request"
    status = 400
    fault = Fault.CALLER

    def __init__(self, message: str, *, pointer: str | None = None) -> None:
        self.pointer = pointer
        super().__init__(message)


class MalformedRequest(CallerError):
    """The body is not JSON, or a header cannot be read."""

    code = "malformed-request"
    title = "Malformed request"


class RequestTimeout(CallerError):
    """The body did not come in time."""

    code = "request-timeout"
    title = "Request timeout"
    status = 408
    retryable = True


class InvalidInput(CallerError):
    """The body is JSON but not what this call takes."""

    code = "invalid-input"
    title = "Invalid input"
    status = 422


class PayloadTooLarge(CallerError):
    """The body is over the size limit."""

    code = "payload-too-large"
    title = "Payload too large"
    status = 413


class UnsupportedMedia(CallerError):
    """The body is not declared as JSON."""

    code = "unsupported-media-type"
    title = "Unsupported media type"
    status = 415


class Unauthenticated(CallerError):
    """No credentials, or they are wrong or expired."""

    code = "unauthenticated"
    title = "Unauthenticated"
    status = 401


class Forbidden(CallerError):
    """The credentials are good but do not allow this."""

    code = "forbidden"
    title = "Forbidden"
    status = 403


class JobUnknown(CallerError):
    """No such job for this caller."""

    code = "job-unknown"
    title = "Job unknown"
    status = 404


class JobGone(CallerError):
    """The job existed; its record is past retention."""

    code = "job-gone"
    title = "Job past retention"
    status = 410


class IdempotencyMismatch(CallerError):
    """The idempotency key was used before, with another body."""

    code = "idempotency-mismatch"
    title = "Idempotency key used with another body"
    status = 422


class Conflict(CallerError):
    """What is asked for does not go with how things stand."""

    code = "conflict"
    title = "Conflict"
    status = 409


class NotFound(CallerError):
    """There is no such thing for this caller: a conversation, a model, a dead delivery."""

    code = "not-found"
    title = "Not found"
    status = 404


class ModelUnknown(NotFound):
    """No model of this name is served."""

    code = "model-unknown"
    title = "Model unknown"


class ConversationDeleted(NotFound):
    """The conversation that a turn was asked in is not there any more."""

    code = "conversation-deleted"
    title = "Conversation deleted"


class LimitExceeded(CallerError):
    """A limit of the tenant is used up. `retry_after_s` says when it is worth another try."""

    code = "limit-exceeded"
    title = "Limit exceeded"
    status = 429
    retryable = True

    def __init__(self, message: str, *, retry_after_s: float = 1.0) -> None:
        self.retry_after_s = retry_after_s
        super().__init__(message)


class PromptTooLong(CallerError):
    """The prompt does not fit the model's context window."""

    code = "prompt-too-long"
    title = "Prompt too long"
    status = 422


class StoreUnavailable(TandemError):
    """Redis cannot be reached or cannot write. Nothing was promised; the same request may be sent again."""

    code = "store-unavailable"
    title = "Store unavailable"
    status = 503
    retryable = True


class ReducedCapacity(TandemError):
    """There is more to do than can be done soon. The job was not accepted; it is worth another try after
    `retry_after_s`."""

    code = "temporary-reduced-capacity"
    title = "Temporarily reduced capacity"
    status = 503
    retryable = True

    def __init__(self, message: str, *, retry_after_s: float = 10.0) -> None:
        self.retry_after_s = retry_after_s
        super().__init__(message)


class EngineError(TandemError):
    """The model's side failed."""

    code = "engine-error"
    title = "Engine error"
    status = 502
    fault = Fault.ENGINE


class EngineTransient(EngineError):
    """The engine failed in a way another attempt may not."""

    code = "engine-transient"
    title = "Engine failed for the moment"
    retryable = True


class Diverged(EngineTransient):
    """The job was begun anew, and says something else than was sent already."""

    code = "stream-diverged"
    title = "Stream diverged"


class EngineUnavailable(EngineTransient):
    """The model's server is away, or too busy to take the request. It does not count against the job, which waits on, for
    `retry_after_s` at least."""

    code = "engine-unavailable"
    title = "Engine unavailable"
    status = 503

    def __init__(self, message: str, *, retry_after_s: float = 0.0) -> None:
        self.retry_after_s = retry_after_s
        super().__init__(message)


class EngineOutOfMemory(EngineError):
    """The request did not fit the memory that was free; another attempt may find more."""

    code = "engine-out-of-memory"
    title = "Engine out of memory"
    retryable = True


class EngineFailed(EngineError):
    """The engine refused or failed for good."""

    code = "engine-failed"
    title = "Engine failed"


class NotJson(EngineFailed):
    """JSON was asked for, and the model answered something else."""

    code = "answer-not-json"
    title = "The answer is not JSON"


class JobStopped(TandemError):
    """The running job is no longer ours: cancelled, past its deadline, or taken over after a lost lease."""

    code = "job-stopped"
    title = "Job stopped"
