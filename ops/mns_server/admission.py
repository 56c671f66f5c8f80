"""Whether a request may come in at all: header by header, in the service's order, before anything else is looked at.

    Authorization there and well-formed -> date there, well-formed, within 15 minutes -> protocol version -> the key is
    known -> the signature is right -> the token of a temporary key -> Content-MD5
"""

import functools
import hmac
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import formatdate

from ops.mns_server import signature
from ops.mns_server.errors import Refused
from ops.mns_server.http_server import Request
from ops.mns_server.keys import Key, Keys

VERSION = "2015-06-06"
_SKEW_S = 15 * 60.0
_DATE = "%a, %d %b %Y %H:%M:%S GMT"


class Admission:
    """Judges requests by its keys and the time of day, which `skew_s` puts forward (to provoke TimeExpired)."""

    def __init__(self, keys: Keys) -> None:
        self.keys = keys
        self.skew_s = 0.0

    def check(self, request: Request) -> None:
        """Raise `Refused` if the request may not come in."""
        headers = request.headers
        if not (authorization := headers.get("authorization")):
            raise Refused("MissingAuthorizationHeader", "Authorization header is required.")
        key_id, signed = signature.split_authorization(authorization)
        check_date(headers, now_s=self.now_s())
        if not (version := headers.get("x-mns-version")):
            raise Refused("MissingVersionHeader", "The x-mns-version header is required.")
        if version != VERSION:
            raise Refused("InvalidVersionHeader", f"The x-mns-version header should be {VERSION}.")
        key = self.keys.find(key_id)
        if key is None:
            raise Refused("InvalidAccessKeyId", "The AccessKey Id you provided is not exist.")
        text = signature.string_to_sign(request.method, request.target, headers)
        if not signature.is_signed(key.secret, signed, text):
            raise Refused("SignatureDoesNotMatch", "The request signature we calculated does not match the signature you "
                                                   "provided. Check your key and signing method.")
        _check_token(headers, key)
        _check_digest(request)

    def now_s(self) -> float:
        """Return the time of day, in s since 1970, as this server has it."""
        return time.time() + self.skew_s

    def date(self) -> str:
        """Return the time of day for a header."""
        return formatdate(self.now_s(), usegmt=True)


def check_date(headers: Mapping[str, str], *, now_s: float) -> None:
    """Raise `Refused` unless the request was made within 15 minutes of `now_s`. `x-mns-date` comes before Date."""
    text = headers.get("x-mns-date") or headers.get("date")
    if not text:
        raise Refused("MissingDateHeader", "Date header is required.")
    made_s = _seconds(text)
    if made_s is None:
        raise Refused("InvalidDateHeader", "The Date header should be a GMT time as Thu, 09 Jul 2015 03:01:34 GMT.")
    if abs(now_s - made_s) > _SKEW_S:
        raise Refused("TimeExpired", "The http request you sent is expired.")


@functools.lru_cache(maxsize=256)  # all requests of one second say the same
def _seconds(text: str) -> float | None:
    try:
        return datetime.strptime(text, _DATE).replace(tzinfo=UTC).timestamp()
    except ValueError:
        return None


def _check_token(headers: Mapping[str, str], key: Key) -> None:
    """A temporary key is only half a key. Neither half's absence has a code of its own in the service's table, so that it
    is taken for what it comes to: a key that is not known. [assumption]"""
    if not hmac.compare_digest(headers.get("security-token", "").encode(), key.token.encode()):
        raise Refused("InvalidAccessKeyId", "The security token you provided does not belong to this AccessKey Id, or is "
                                            "expired.")


def _check_digest(request: Request) -> None:
    given = request.headers.get("content-md5")
    if given and given != signature.content_md5(request.body):
        raise Refused("InvalidDegist", "The Content-MD5 you specified did not match what we received.")
