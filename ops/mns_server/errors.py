"""The refusals of the service: a code, the HTTP status that goes with it, and a sentence.

The table is that of the service's documentation ("Error codes", as of 2026). Every refusal that a client can see is a
`Refused`; whatever else is raised becomes InternalError at the edge (`api.py`).
"""

from collections.abc import Mapping
from types import MappingProxyType

#: HTTP status of each code.
STATUS: Mapping[str, int] = MappingProxyType({
    "AccessDenied": 403,
    "InternalError": 500,
    "InvalidAccessKeyId": 403,
    "InvalidArgument": 400,
    "InvalidAuthorizationHeader": 400,
    "InvalidDateHeader": 400,
    "InvalidDegist": 400,  # so the service spells it
    "InvalidQueryString": 400,
    "InvalidQueueName": 400,
    "InvalidRequestURL": 400,
    "InvalidVersionHeader": 400,
    "MalformedXML": 400,
    "MessageNotExist": 404,
    "MissingAuthorizationHeader": 400,
    "MissingDateHeader": 400,
    "MissingReceiptHandle": 400,
    "MissingVersionHeader": 400,
    "MissingVisibilityTimeout": 400,
    "QpsLimitExceeded": 400,
    "QueueAlreadyExist": 409,
    "QueueNameLengthError": 400,
    "QueueNotExist": 404,
    "ReceiptHandleError": 400,
    "SignatureDoesNotMatch": 403,
    "TimeExpired": 408,
    "TooManyRequests": 429,
    "TopicNotExist": 404,
})


class Refused(Exception):
    """The service will not do what it was asked to. `code` is one of `STATUS`, or an injected fault's with its `status`."""

    def __init__(self, code: str, message: str, *, status: int | None = None) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.status = STATUS[code] if status is None else status


def queue_missing() -> Refused:
    """The queue that a request names does not exist."""
    return Refused("QueueNotExist", "The queue name you provided is not exist.")


def message_missing() -> Refused:
    """There is no message to hand out, or none that the handle still is good for."""
    return Refused("MessageNotExist", "Message not exist.")
