"""Messages between kombu's dictionaries and the text that MNS carries.

On the wire: base64 of JSON, which is kombu's message, or of a reference to where that lies (`claim_check`).
"""

import base64
import math
import uuid
import zlib
from datetime import UTC, datetime
from typing import Any

from kombu.utils.json import dumps, loads

from routing.mns import claim_check
from routing.mns.errors import BadBody
from routing.mns.stores import Store

#: kombu's name for the compression, by which the receiving side finds how to undo it.
_COMPRESSION = "application/x-gzip"

#: What JSON with kombu's own types in it raises.
_UNREADABLE = (ValueError, TypeError, AttributeError, LookupError, ArithmeticError, RecursionError)


def compressed(message: dict[str, Any], above: int) -> None:
    """Compress the body of a kombu message in place, if it has more than `above` bytes and gets smaller by it."""
    body = message["body"]
    data = body.encode() if isinstance(body, str) else bytes(body or b"")
    if len(data) <= above or message["headers"].get("compression"):
        return
    smaller = zlib.compress(data)
    if len(smaller) * 4 / 3 < len(data):
        message["body"] = smaller
        message["headers"] = {**message["headers"], "compression": _COMPRESSION}


def sealed(message: dict[str, Any], *, queue: str, message_bytes: int, store: Store | None) -> str:
    """Return the body for MNS, at most `message_bytes` long. Raises TooLarge, and what the store raises."""
    text = dumps(message, ensure_ascii=False)
    if not _encodes(text):
        text = dumps(message)  # half of a surrogate pair, which UTF-8 cannot hold and JSON can
    text = claim_check.pack(text, limit=message_bytes // 4 * 3, store=store, name=f"{queue}/{uuid.uuid4().hex}")
    return base64.b64encode(text.encode()).decode()


def object_of(body: str) -> str | None:
    """Return the name of the object in the store that the body from MNS refers to; None if it refers to none."""
    try:
        return claim_check.reference(_text(body))
    except BadBody:
        return None


def opened(body: str, store: Store | None) -> dict[str, Any]:
    """Return kombu's message. Raises BadBody, and what `claim_check.unpack` and the store raise."""
    text = claim_check.unpack(_text(body), store)
    try:
        message = loads(text)
    except _UNREADABLE as exc:
        raise BadBody(f"the body is not JSON ({exc})") from exc
    if not isinstance(message, dict) or "body" not in message:
        raise BadBody("the body is JSON, but no message of kombu")
    properties = message.get("properties")
    if not isinstance(properties, dict) or not isinstance(properties.setdefault("delivery_info", {}), dict):
        raise BadBody("the body is no message of kombu: it has no properties, or they are no objects")
    if not isinstance(message.get("headers") or {}, dict) or not _decodes(message["body"], properties.get("body_encoding")):
        raise BadBody("the body is no message of kombu: its headers are no object, or its own body is not encoded as it "
                      "says")
    return message


def delay_s(message: dict[str, Any], *, now: datetime | None = None) -> int:
    """Return how long from now the message is to stay hidden, in whole seconds, rounded up: till Celery's `eta`, or for as
    long as the property `delay_seconds` says."""
    asked = message["properties"].get("delay_seconds")
    if isinstance(asked, (int, float)) and not isinstance(asked, bool):
        return max(0, math.ceil(asked))
    eta = eta_of(message)
    return 0 if eta is None else max(0, math.ceil((eta - (now or datetime.now(UTC))).total_seconds()))


def eta_of(message: dict[str, Any]) -> datetime | None:
    """Return when Celery is to run the message's task; None: at once. An ETA that names no zone is UTC."""
    eta: Any = (message.get("headers") or {}).get("eta")
    try:
        moment = eta if isinstance(eta, datetime) else datetime.fromisoformat(eta)
    except (TypeError, ValueError):
        return None  # none, or not one that we can read; Celery sees to it
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


def _text(body: str) -> str:
    if body[:1] in ("{", "["):
        return body  # sent raw by another client; base64 never begins so
    try:
        return base64.b64decode(body, validate=True).decode()
    except ValueError as exc:  # of base64, or of UTF-8
        raise BadBody("the body is neither base64 of text nor JSON") from exc


def _decodes(body: Any, encoding: Any) -> bool:
    """Whether kombu will be able to decode the body: what fails there fails in the consumer's main loop."""
    if encoding is None or encoding == "utf-8":
        return body is None or isinstance(body, str)
    if encoding != "base64" or not isinstance(body, str):
        return False
    try:
        base64.b64decode(body)
    except ValueError:
        return False
    return True


def _encodes(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
