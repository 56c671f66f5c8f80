"""Receipt handles: `<MessageId>-<base64 of "priority received_ms visibility_ms ...">`, as recordings of the service show.

Only the latest handle of a message is good, and only until the message becomes visible again; that is the queue's to
judge. Here a handle is made and taken apart; what could never have been one is ReceiptHandleError.
"""

import base64
import binascii
import re
import secrets

from ops.mns_server.errors import Refused

_SHAPE = re.compile(r"([0-9A-F]{32})-([A-Za-z0-9+/]+={0,2})")
_INSIDE = re.compile(rb"\d+ \d+ \d+ \d+ \d+ \S+ \d+ \d+\|[0-9a-z]+")


def tail(*, priority: int, now_ms: int, visibility_ms: int, dequeues: int, order: int) -> str:
    """Return the second part of a new handle."""
    text = f"{priority} {now_ms} {visibility_ms} {dequeues} 0 local-1 0 {order}|{secrets.token_hex(3)}"
    return base64.b64encode(text.encode()).decode()


def whole(message_id: str, tail: str) -> str:
    """Return the handle."""
    return f"{message_id}-{tail}"


def parts(handle: str) -> tuple[str, str]:
    """Return the message's id and the tail. Raises `Refused` (ReceiptHandleError)."""
    shape = _SHAPE.fullmatch(handle.strip())
    if shape is None or not _INSIDE.fullmatch(_decoded(shape[2])):
        raise Refused("ReceiptHandleError", "The receipt handle you provide is not valid.")
    return shape[1], shape[2]


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        return b""
