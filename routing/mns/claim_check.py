"""Bodies too long for a message: the body goes into a store, and a reference to it into the message.

A reference is JSON text, `{"ref":NAME,"sha256":DIGEST,"size":BYTES}`, so exactly that no body of a Celery or kombu message
reads so; a body that does nevertheless goes into the store as well. Whoever takes the message gets the very bytes that were
put, or an error. The object is to be deleted once the message is deleted for good, and not before: until then the message
may be given to another.
"""

import hashlib
import re
from dataclasses import dataclass

from routing.mns.errors import BadBody, Refused, TooLarge
from routing.mns.stores import ObjectMissing, ObjectNameBad, Store, checked

_REFERENCE = re.compile(
    r'\{"ref":"([A-Za-z0-9._/-]{1,200})","sha256":"([0-9a-f]{64})","size":(0|[1-9][0-9]{0,11})\}', re.ASCII)


class BodyMissing(BadBody):
    """The object that the message refers to is not in the store: this is a message delivered once more after it was done
    with and deleted, or the two sides use different stores."""


class BodyTampered(BadBody):
    """What lies in the store is not what was put there."""


class NoStore(Refused):
    """The message refers to a store, and this side was given none."""


@dataclass(frozen=True, slots=True)
class _Reference:
    name: str
    sha256: str
    size: int  # bytes

    def text(self) -> str:
        return f'{{"ref":"{self.name}","sha256":"{self.sha256}","size":{self.size}}}'


def pack(body: str, *, limit: int, store: Store | None, name: str) -> str:
    """Return what to put into the message: `body` itself if its UTF-8 has at most `limit` bytes, else a reference, after
    the body was put into `store` as `name`, which must be fresh. Raises TooLarge without a store, and what the store
    raises: StoreFailed."""
    data = body.encode()
    if len(data) <= limit and _parsed(body) is None:
        return body
    if store is None:
        raise TooLarge(f"a body of {len(data)} bytes does not fit: a message takes {limit}. Set a store for such bodies "
                       "(the transport option `store`: oss://... or file:///...)")
    reference = _Reference(checked(name), hashlib.sha256(data).hexdigest(), len(data)).text()
    if len(reference) > limit:
        raise TooLarge(f"not even the reference to a body, of {len(reference)} bytes, fits: a message takes {limit}; raise "
                       "the queue's MaximumMessageSize")
    store.put(name, data)
    return reference


def unpack(body: str, store: Store | None) -> str:
    """Return the body that was packed. Raises BodyMissing and BodyTampered, which stay so; NoStore; and of what the store
    raises StoreUnavailable, which is worth trying again, and StoreRefused."""
    reference = _parsed(body)
    if reference is None:
        return body
    if store is None:
        raise NoStore(f"the message's body of {reference.size} bytes lies in a store, as {reference.name}, and no store is "
                      "set here; set the same one as the sender's (the transport option `store`)")
    try:
        data = store.get(checked(reference.name))
    except (ObjectMissing, ObjectNameBad) as exc:
        raise BodyMissing(f"the message's body of {reference.size} bytes is not to be had: {exc}") from exc
    if len(data) != reference.size or hashlib.sha256(data).hexdigest() != reference.sha256:
        raise BodyTampered(f"the object {reference.name} in {store} is not the body that was put there: {len(data)} bytes "
                           f"instead of {reference.size}, or other ones; someone else writes to this store")
    try:
        return data.decode()
    except UnicodeDecodeError as exc:
        raise BodyTampered(f"the object {reference.name} in {store} is no text, so the reference to it was not made "
                           "by this transport") from exc


def reference(body: str) -> str | None:
    """Return the name of the object that `body` refers to, to be deleted after the message; None if it is a body itself, or
    refers to what no store of ours holds."""
    parsed = _parsed(body)
    try:
        return None if parsed is None else checked(parsed.name)
    except ObjectNameBad:
        return None


def _parsed(body: str) -> _Reference | None:
    found = _REFERENCE.fullmatch(body)
    return _Reference(found[1], found[2], int(found[3])) if found else None
