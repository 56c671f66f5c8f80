"""What can go wrong between us and MNS, and the one place where the SDK's and the network's errors become ours.

    MnsError
    +-- Transient            the same again, later, may well succeed
    |   +-- Unreachable      no answer: no network, no such host, a cut connection
    |   +-- ServiceFailed    an answer of the service, or of a proxy before it, that something failed there
    |   +-- Throttled        too many requests
    +-- Refused              the same again fails again until somebody changes something
    |   +-- WrongKey         unknown access key, or a secret that does not belong to it
    |   +-- ClockSkew        this machine's clock is off
    |   +-- NotAllowed       the user lacks a permission
    |   +-- QueueMissing     no such queue, and it may not be created
    |   +-- BadRequest       anything else that the service does not accept
    +-- Gone                 the message is no longer ours: its lease ran out, or it was deleted
    +-- TooLarge             the message does not fit, and there is no store for its body
    +-- BadBody              what arrived is no message of ours
    +-- Unroutable           an exchange that nobody has declared

A message says what happened, with the service's code and request number, and what to do next.
"""

import re
from typing import Any

from mns.mns_exception import MNSClientNetworkException, MNSExceptionBase, MNSServerException


class MnsError(Exception):
    """The root. `code` is the service's own, or empty."""

    code = ""


class Transient(MnsError):
    """Trying again later may succeed."""


class Unreachable(Transient):
    """No answer came. The request may have been carried out."""


class ServiceFailed(Transient):
    """The service, or a proxy before it, failed. The request may have been carried out."""


class Throttled(Transient):
    """Too many requests; this one was not carried out."""


class Refused(MnsError):
    """Trying again is of no use until somebody changes something."""


class WrongKey(Refused):
    """The access key is unknown, or its secret does not fit."""


class ClockSkew(Refused):
    """The request's date is more than 15 minutes off."""


class NotAllowed(Refused):
    """The user may not do that."""


class QueueMissing(Refused):
    """The queue does not exist."""


class BadRequest(Refused):
    """The service does not accept the request as it is."""


class Gone(MnsError):
    """The receipt handle is no longer good: the message was deleted, or its lease ran out and it may be another's."""


class TooLarge(MnsError):
    """The body exceeds what a message may hold, and no store is set for it."""


class BadBody(MnsError):
    """A message whose body this transport can make nothing of, now or later."""


class Unroutable(MnsError):
    """Published to an exchange that was never declared."""


_CODES: dict[str, tuple[type[MnsError], str]] = {
    "InvalidAccessKeyId": (WrongKey, "check the access key's id, that it is enabled, and that it belongs to this account"),
    "SignatureDoesNotMatch": (WrongKey, "check the access key's secret"),
    "SignatureNotMatch": (WrongKey, "check the access key's secret"),
    "InvalidSecurityToken": (WrongKey, "the STS token is not good: fetch a new one"),
    "InvalidSecurityTokenExpired": (WrongKey, "the STS token has expired: fetch a new one"),
    "TimeExpired": (ClockSkew, "this machine's clock is more than 15 minutes off: set it, and let NTP keep it"),
    "InvalidDateHeader": (ClockSkew, "set this machine's clock"),
    "AccessDenied": (NotAllowed, "give the RAM user the permission, for this queue"),
    "QueueNotExist": (QueueMissing, "create it in the console, or allow the transport to (create_missing)"),
    "QueueDeletedRecently": (ServiceFailed, "a queue's name is free again about a minute after the queue was deleted"),
    "MessageNotExist": (Gone, "its lease ran out or it was deleted"),
    "ReceiptHandleError": (Gone, "the receipt handle is not, or no longer, good"),
    "TooManyRequests": (Throttled, "send fewer requests, or ask for a higher quota"),
    "QpsLimitExceeded": (Throttled, "send fewer requests, or ask for a higher quota"),
    "InternalError": (ServiceFailed, "try again"),
    "InternalServerError": (ServiceFailed, "try again"),
    "ServiceUnavailable": (ServiceFailed, "try again"),
}


def translate(exc: Exception, *, doing: str, status: int = 0, action: str = "", key_id: str = "") -> MnsError:
    """Return the error of ours that an error of the SDK stands for. `doing` is the request, for people to read; `status` is
    the answer's HTTP status, which decides on a code that is not known; `action` is the right in RAM that the request
    needs, and `key_id` the access key that asked."""
    if isinstance(exc, MnsError):
        return exc
    if isinstance(exc, MNSServerException):
        said = f"{doing}: {_short(exc.message)} ({exc.type}, request {exc.request_id})"
        return _of_code(str(exc.type), said, status=status, action=action, key_id=key_id)
    if isinstance(exc, MNSExceptionBase) and not isinstance(exc, MNSClientNetworkException):
        return BadRequest(f"{doing}: the SDK does not send it ({exc.type}: {_short(exc.message)})")
    # with our own HTTP underneath, what the SDK calls a network exception is an answer that makes no sense
    return ServiceFailed(f"{doing}: the answer is damaged ({type(exc).__name__}: {_short(exc)}); try again")


def of_status(status: int, text: str, *, doing: str) -> MnsError:
    """Return the error for an answer with this HTTP status that did not come from MNS itself but, say, from a proxy."""
    said = f"{doing}: HTTP {status} and no answer of MNS ({_short(re.sub(r'<[^>]*>', ' ', text))})"
    if status == 429:
        return Throttled(f"{said}; send fewer requests")
    if status >= 500 or status == 408:
        return ServiceFailed(f"{said}; a proxy or load balancer answered: try again")
    return BadRequest(f"{said}; is this the address of an MNS endpoint?")


def _of_code(code: str, said: str, *, status: int, action: str, key_id: str) -> MnsError:
    kind, advice = _CODES.get(code) or _of_unknown_code(status)
    if kind is NotAllowed and action:
        advice += f" ({action})"
    if kind in (WrongKey, NotAllowed) and key_id:
        advice += f"; the access key's id is '{key_id}'"
    error = kind(f"{said}; {advice}")
    error.code = code
    return error


def _of_unknown_code(status: int) -> tuple[type[MnsError], str]:
    if status == 429:
        return Throttled, "send fewer requests"
    if status >= 500:
        return ServiceFailed, "try again"
    return (NotAllowed if status == 403 else BadRequest), "see the error codes of MNS"


def _short(text: Any, most: int = 300) -> str:
    words = " ".join(str(text).split())
    return words if len(words) <= most else f"{words[:most]}..."
