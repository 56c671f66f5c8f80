"""A store in a bucket of Alibaba Cloud OSS, through its official SDK; importing this imports the SDK.

What the SDK does here: it signs (V4) with keys that it asks the provider for before each request, and tries three times if
the network or the service has trouble; putting the same bytes twice does no harm. What it leaves to us, and the reasons: a
session of `requests` that ignores the environment, since a netrc there would replace the signature and the SDK of MNS knows
no proxies either; one client for each process, since a fork must not share sockets; and its errors, translated once.
"""

import os
import threading
from typing import Any, NoReturn
from urllib.parse import urlsplit

import alibabacloud_oss_v2 as sdk
import requests
from alibabacloud_oss_v2 import exceptions as sdk_errors
from alibabacloud_oss_v2.transport import RequestsHttpClient

from routing.mns.keys import CredentialsUnusable, Provider
from routing.mns.stores import (
    LARGEST_BYTES,
    ObjectMissing,
    StoreFailed,
    StoreRefused,
    StoreUnavailable,
    checked,
    small_enough,
)

_CONNECT_TIMEOUT_S = 5.0
_READ_TIMEOUT_S = 20.0  # between two pieces of an answer
_ATTEMPTS = 3
_CONNECTIONS = 16  # kept open; more are made when needed

#: What OSS says, and what whoever runs this can do about it.
_ADVICE = {
    "NoSuchBucket": "there is no such bucket; create it in the region named, or correct the store's URL",
    "AccessDenied": "the keys may not do this; grant oss:PutObject, oss:GetObject and oss:DeleteObject on it",
    "InvalidAccessKeyId": "the access key id is not known; correct the keys",
    "SignatureDoesNotMatch": "the access key secret does not fit the id; correct the keys",
    "InvalidSecurityToken": "the STS token does not fit the keys; renew them",
    "SecurityTokenExpired": "the STS token has expired; see to what renews it",
    "RequestTimeTooSkewed": "this machine's clock is more than 15 minutes off; set it right",
}
_SERVER_TROUBLE = 500
_PASSING_STATUS = (408, 429)


class OssStore:
    """The objects under `prefix` in a bucket. See `stores.Store`, and `stores.open_store` for the arguments."""

    def __init__(self, bucket: str, prefix: str, *, region: str, endpoint: str, credentials: Provider) -> None:
        self._bucket, self._prefix, self._region = bucket, prefix, region
        self._endpoint, self._credentials = endpoint, credentials
        self._lock, self._pid = threading.Lock(), os.getpid()
        self._made: tuple[sdk.Client, requests.Session] | None = None

    def __repr__(self) -> str:
        where = f" at {self._endpoint}" if self._endpoint else ""
        return f"OssStore({self._bucket}/{self._prefix} in {self._region}{where})"

    def put(self, name: str, data: bytes) -> None:
        """See Store."""
        request = sdk.PutObjectRequest(bucket=self._bucket, key=self._key(name), body=data)
        try:
            self._client().put_object(request)
        except sdk_errors.BaseError as exc:
            self._fail("put", name, exc)

    def get(self, name: str) -> bytes:
        """See Store."""
        request = sdk.GetObjectRequest(bucket=self._bucket, key=self._key(name))
        try:
            with self._client().get_object(request).body as body:
                return small_enough(_read(body), self, name)
        except (sdk_errors.BaseError, requests.RequestException) as exc:  # the latter while the body is read
            self._fail("get", name, exc)

    def delete(self, name: str) -> None:
        """See Store."""
        request = sdk.DeleteObjectRequest(bucket=self._bucket, key=self._key(name))
        try:
            self._client().delete_object(request)
        except sdk_errors.BaseError as exc:
            self._fail("delete", name, exc)

    def close(self) -> None:
        """Close the connections kept open. The next call opens new ones."""
        with self._lock:
            made, self._made = self._made, None
        if made is not None:
            made[1].close()

    def _key(self, name: str) -> str:
        return f"{self._prefix}/{checked(name)}" if self._prefix else checked(name)

    def _client(self) -> sdk.Client:
        if self._pid != os.getpid():  # the parent's sockets, and a lock that may have been held at the fork
            self._lock, self._pid, self._made = threading.Lock(), os.getpid(), None
        with self._lock:
            if self._made is None:
                self._made = self._make()
            return self._made[0]

    def _make(self) -> tuple[sdk.Client, requests.Session]:
        session = requests.Session()
        session.trust_env = False
        for scheme in ("http://", "https://"):
            session.mount(scheme, requests.adapters.HTTPAdapter(pool_maxsize=_CONNECTIONS))
        config = sdk.Config(
            region=self._region, endpoint=self._endpoint or None, credentials_provider=self._credentials,
            retry_max_attempts=_ATTEMPTS, use_path_style=not _is_alibaba(self._endpoint),
            http_client=RequestsHttpClient(session=session, connect_timeout=_CONNECT_TIMEOUT_S,
                                           readwrite_timeout=_READ_TIMEOUT_S))
        return sdk.Client(config), session

    def _fail(self, verb: str, name: str, exc: Exception) -> NoReturn:
        cause = exc.unwrap() if isinstance(exc, sdk_errors.OperationError) else exc
        if isinstance(cause, sdk_errors.CredentialsFetchError):
            cause = cause.kwargs["error"]
        if isinstance(cause, CredentialsUnusable):
            raise cause
        raise self._translated(verb, name, cause) from exc

    def _translated(self, verb: str, name: str, cause: Any) -> StoreFailed:
        what = f"{self}: cannot {verb} {name}"
        if not isinstance(cause, sdk_errors.ServiceError):
            if isinstance(cause, (sdk_errors.RequestError, sdk_errors.ResponseError, requests.RequestException)):
                return StoreUnavailable(f"{what}: no answer ({_innermost(cause)}); is the network up, and the region or "
                                        "endpoint right?")
            return StoreRefused(f"{what}: {cause}")
        said = f"{what}: {cause.code}, status {cause.status_code}, request {cause.request_id or 'without an id'}"
        if cause.code == "NoSuchKey":
            return ObjectMissing(f"{said}; it was deleted, or put into another bucket or prefix")
        if cause.code in _ADVICE:
            return StoreRefused(f"{said}: {_ADVICE[cause.code]}")
        if cause.status_code >= _SERVER_TROUBLE or cause.status_code in _PASSING_STATUS:
            return StoreUnavailable(f"{said}; it may pass")
        return StoreRefused(f"{said}: {cause.message}")


def _read(body: Any) -> bytes:
    data = bytearray()
    for piece in body.iter_bytes():
        data += piece
        if len(data) > LARGEST_BYTES:
            break
    return bytes(data)


def _is_alibaba(endpoint: str) -> bool:
    """Whether the bucket is addressed by host name, as OSS demands; without an endpoint it is OSS's own."""
    return not endpoint or (urlsplit(endpoint).hostname or "").endswith(".aliyuncs.com")


def _innermost(exc: BaseException) -> str:
    """Return the name of what failed at the bottom, such as ConnectionRefusedError: the layers above only repeat it."""
    seen = {id(exc)}
    while True:
        below = next((arg for arg in (*exc.args, getattr(exc, "reason", None), exc.__cause__, exc.__context__,
                                      getattr(exc, "kwargs", {}).get("error"))
                      if isinstance(arg, BaseException) and id(arg) not in seen), None)
        if below is None:
            return type(exc).__name__
        seen.add(id(below))
        exc = below
