"""The V4 signature of OSS (`OSS4-HMAC-SHA256`), checked as the service does; written from its documentation, not its SDKs.

Source: https://www.alibabacloud.com/help/en/oss/developer-reference/recommend-to-use-signature-version-4
"""

import hashlib
import hmac
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from urllib.parse import quote, unquote

#: How far a client's clock may be off, in seconds.
MOST_SKEW_S = 900

_ALGORITHM = "OSS4-HMAC-SHA256"
_AUTHORIZATION = re.compile(
    r"OSS4-HMAC-SHA256 +Credential=(?P<id>[^/,\s]+)/(?P<scope>(?P<date>\d{8})/[^/,\s]+/oss/aliyun_v4_request)"
    r"(?:, *AdditionalHeaders=(?P<additional>[^,\s]+))?, *Signature=(?P<signature>[0-9a-f]{64})", re.ASCII)
_TIME = "%Y%m%dT%H%M%SZ"

#: The keys that a server knows: id, secret, and the STS token that goes with them, or "".
Keys = Sequence[tuple[str, str, str]]


class Refusal(Exception):
    """An error of OSS: status, code and message, and what else stands in its XML."""

    def __init__(self, status: HTTPStatus, code: str, message: str, *, details: Mapping[str, str] | None = None) -> None:
        super().__init__(f"{code}: {message}")
        self.status, self.code, self.message, self.details = status, code, message, dict(details or {})


@dataclass(frozen=True, slots=True)
class Signed:
    """What of a request is signed: `headers` by lower-case names, `resource` as `/bucket/key`, decoded, `query` raw."""

    method: str
    resource: str
    query: str
    headers: Mapping[str, str]


def signature(request: Signed, *, secret: str, scope: str, time: str, additional: Sequence[str] = ()) -> str:
    """Return the signature, 64 hexadecimal digits. `scope` is `YYYYMMDD/region/oss/aliyun_v4_request`, `time` as in
    x-oss-date, `additional` the lower-case names of headers signed beside those that always are."""
    names = sorted(name for name in request.headers
                   if name.startswith("x-oss-") or name in ("content-type", "content-md5") or name in additional)
    canonical = "\n".join([
        request.method, quote(request.resource, safe="/"), _canonical_query(request.query),
        "".join(f"{name}:{request.headers[name].strip()}\n" for name in names),
        ";".join(sorted(additional)), request.headers.get("x-oss-content-sha256", "")])
    to_sign = "\n".join([_ALGORITHM, time, scope, hashlib.sha256(canonical.encode()).hexdigest()])
    key = f"aliyun_v4{secret}".encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    return hmac.digest(key, to_sign.encode(), "sha256").hex()


def check(request: Signed, keys: Keys, *, now: float) -> None:
    """Raise Refusal unless the request is signed with one of `keys`, at a time within MOST_SKEW_S of `now` (Unix time)."""
    authorization = request.headers.get("authorization")
    if authorization is None:
        raise Refusal(HTTPStatus.FORBIDDEN, "AccessDenied",
                      "You have no right to access this object because of bucket acl.")
    found = _AUTHORIZATION.fullmatch(authorization)
    if found is None:
        raise Refusal(HTTPStatus.BAD_REQUEST, "InvalidArgument", "Authorization is no OSS4-HMAC-SHA256 signature.")
    if request.headers.get("x-oss-content-sha256") != "UNSIGNED-PAYLOAD":
        raise Refusal(HTTPStatus.BAD_REQUEST, "InvalidArgument", "x-oss-content-sha256 must be UNSIGNED-PAYLOAD.")
    time = _checked_time(request, found["date"], now)
    known = [(secret, token) for key_id, secret, token in keys if key_id == found["id"]]
    if not known:
        raise Refusal(HTTPStatus.FORBIDDEN, "InvalidAccessKeyId",
                      "The OSS Access Key Id you provided does not exist in our records.",
                      details={"OSSAccessKeyId": found["id"]})
    additional = (found["additional"] or "").split(";") if found["additional"] else []
    tokens = [token for secret, token in known if hmac.compare_digest(
        signature(request, secret=secret, scope=found["scope"], time=time, additional=additional), found["signature"])]
    given = request.headers.get("x-oss-security-token", "").encode()
    if any(hmac.compare_digest(given, token.encode()) for token in tokens):
        return
    if tokens:
        raise Refusal(HTTPStatus.FORBIDDEN, "InvalidSecurityToken", "The security token you provided is invalid.")
    raise Refusal(HTTPStatus.FORBIDDEN, "SignatureDoesNotMatch",
                  "The request signature we calculated does not match the signature you provided. Check your key and "
                  "signing method.", details={"OSSAccessKeyId": found["id"], "SignatureProvided": found["signature"]})


def _canonical_query(query: str) -> str:
    pairs = []
    for pair in filter(None, query.split("&")):
        name, _, value = pair.partition("=")
        pairs.append((quote(unquote(name), safe=""), quote(unquote(value), safe="")))
    return "&".join(f"{name}={value}" if value else name for name, value in sorted(pairs))


def _checked_time(request: Signed, date: str, now: float) -> str:
    time = request.headers.get("x-oss-date", "")
    try:
        sent_at = datetime.strptime(time, _TIME).replace(tzinfo=UTC).timestamp()
    except ValueError:
        raise Refusal(HTTPStatus.FORBIDDEN, "AccessDenied", "OSS authentication requires a valid Date.") from None
    if abs(now - sent_at) > MOST_SKEW_S:
        raise Refusal(HTTPStatus.FORBIDDEN, "RequestTimeTooSkewed",
                      "The difference between the request time and the current time is too large.",
                      details={"MaxAllowedSkewMilliseconds": str(MOST_SKEW_S * 1000), "RequestTime": time,
                               "ServerTime": datetime.fromtimestamp(now, UTC).strftime(_TIME)})
    if not time.startswith(date):
        raise Refusal(HTTPStatus.BAD_REQUEST, "InvalidArgument", "The date of the Credential is not that of x-oss-date.")
    return time
