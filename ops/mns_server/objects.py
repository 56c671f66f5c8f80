"""A small server of objects, for tests and for `make up`: as much of Alibaba Cloud OSS as a store of bodies needs.

PUT, GET, HEAD and DELETE of `/bucket/key` (path style), with V4 signatures checked and OSS's errors as XML; each bucket
that is asked for exists, unless they are named. Objects past the retention are dropped, as a bucket's lifecycle rule would.
It leaves out everything else, such as listing, ranges, rights, versions, parts and the other signatures.
"""

import base64
import hashlib
import logging
import re
import secrets
import socket
import threading
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from email.utils import formatdate
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote
from xml.sax.saxutils import escape

from ops.mns_server.object_shelves import FolderShelf, Kept, MemoryShelf, Shelf
from ops.mns_server.object_signature import Keys, Refusal, Signed, check

_log = logging.getLogger(__name__)

#: The largest object taken, in bytes; OSS itself takes 5 GB.
LARGEST_BYTES = 64 * 1024 * 1024
#: How long objects are kept unless told otherwise, in seconds: a day more than MNS keeps a message at most.
RETENTION_S = 8 * 86400.0

_SWEEP_EVERY_S = 60.0
_IDLE_S = 60.0  # after which a kept-open connection is closed
_CLOSE_WITHIN_S = 5.0
_BUCKET = re.compile(r"[a-z0-9][a-z0-9-]{1,61}[a-z0-9]", re.ASCII)
_CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,8})(;[^\r\n]*)?\r\n")


class ObjectServer(ThreadingHTTPServer):
    """A server that runs, on a thread, from when it is made until it is closed; also as a context."""

    request_queue_size = 128

    def __init__(self, host: str, port: int, folder: Path | None, keys: Keys | Callable[[], Keys], *,
                 retention_s: float = RETENTION_S, clock: Callable[[], float] = time.time,
                 buckets: Collection[str] | None = None) -> None:
        """Listen on `port` (0: any free one).

        Without a `folder`, objects are kept in memory. `keys` are (id, secret, STS token or ""), or a function that returns
        them, which is asked with each request; `buckets` those that there are, None: any. Raises OSError if the port cannot
        be had.
        """
        self.shelf: Shelf = MemoryShelf(clock=clock) if folder is None else FolderShelf(folder, clock=clock)
        self.clock, self.buckets = clock, buckets
        self.keys = keys if callable(keys) else lambda: keys
        self._retention_s, self._swept_at = retention_s, 0.0
        self._connections: dict[threading.Thread, socket.socket] = {}
        super().__init__((host, port), _Handler)
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, name="objects",
                                        daemon=True)
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return int(self.server_address[1])

    def close(self) -> None:
        """Stop, and end the connections; return when its threads are done. May be called again."""
        if self._thread.is_alive():
            self.shutdown()
            self._thread.join()
            self.server_close()
            self._hang_up()

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve one connection on a thread of its own."""
        self._connections = {thread: open_ for thread, open_ in self._connections.items() if thread.is_alive()}
        thread = threading.Thread(target=self.process_request_thread, args=(request, client_address), daemon=True)
        self._connections[thread] = request
        thread.start()

    def finish_request(self, request: Any, client_address: Any) -> None:
        """Serve one connection to its end."""
        try:
            super().finish_request(request, client_address)
        except OSError as exc:  # the client went away
            _log.debug("connection lost: %s", exc)

    def _hang_up(self) -> None:
        """End the connections that are open, and wait for their threads."""
        for connection in self._connections.values():
            with suppress(OSError):  # it is closed already
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self._connections:
            thread.join(_CLOSE_WITHIN_S)

    def sweep(self) -> None:
        """Drop the objects past the retention; now and then."""
        now = self.clock()
        if not 0 <= now - self._swept_at < _SWEEP_EVERY_S:
            self._swept_at = now
            self.shelf.drop_older(self._retention_s)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    timeout = _IDLE_S
    wbufsize = -1  # one write per answer
    server: ObjectServer

    def do_PUT(self) -> None:
        self._answer(self._put)

    def do_GET(self) -> None:
        self._answer(self._get)

    def do_HEAD(self) -> None:
        self._answer(self._get)

    def do_DELETE(self) -> None:
        self._answer(self._delete)

    def do_POST(self) -> None:
        self._answer(self._not_implemented)

    def version_string(self) -> str:
        return "AliyunOSS"

    def log_message(self, format: str, *args: Any) -> None:
        _log.debug(format, *args)

    def _answer(self, act: Callable[[str, str, bytes], None]) -> None:
        self._request_id = secrets.token_hex(12).upper()
        try:
            body = self._body()
            path, _, query = self.path.partition("?")
            resource = _decoded(path)
            headers = {name.lower(): value for name, value in self.headers.items()}
            check(Signed(self.command, resource, query, headers), self.server.keys(), now=self.server.clock())
            bucket, key = self._addressed(resource, query)
            self.server.sweep()
            act(bucket, key, body)
        except Refusal as refusal:
            self._refuse(refusal)
        except OSError as exc:
            if isinstance(exc, ConnectionError | TimeoutError):
                raise
            _log.warning("%s %s failed: %s", self.command, self.path, exc)
            self._refuse(Refusal(HTTPStatus.INTERNAL_SERVER_ERROR, "InternalError", "We encountered an internal error."))
        self.wfile.flush()

    def _addressed(self, resource: str, query: str) -> tuple[str, str]:
        bucket, _, key = resource.removeprefix("/").partition("/")
        if not _BUCKET.fullmatch(bucket):
            raise Refusal(HTTPStatus.BAD_REQUEST, "InvalidBucketName", "The specified bucket is not valid.")
        if self.server.buckets is not None and bucket not in self.server.buckets:
            raise Refusal(HTTPStatus.NOT_FOUND, "NoSuchBucket", "The specified bucket does not exist.",
                          details={"BucketName": bucket})
        if not key or query.partition("=")[0] not in ("", "objectMeta"):
            self._not_implemented(bucket, key, b"")
        if len(key.encode()) > 1023:
            raise Refusal(HTTPStatus.BAD_REQUEST, "InvalidObjectName", "The specified object is not valid.")
        return bucket, key

    def _put(self, bucket: str, key: str, body: bytes) -> None:
        digest = self.headers.get("Content-MD5")
        md5 = hashlib.md5(body, usedforsecurity=False).digest()
        if digest is not None and digest != base64.b64encode(md5).decode():
            raise Refusal(HTTPStatus.BAD_REQUEST, "InvalidDigest", "The Content-MD5 you specified was invalid.")
        self.server.shelf.put(bucket, key, body)
        self._send(HTTPStatus.OK, {"ETag": f'"{md5.hex().upper()}"', "Content-Length": "0"})

    def _get(self, bucket: str, key: str, _body: bytes) -> None:
        kept: Kept | None = self.server.shelf.get(bucket, key)
        if kept is None:
            raise Refusal(HTTPStatus.NOT_FOUND, "NoSuchKey", "The specified key does not exist.", details={"Key": key})
        md5 = hashlib.md5(kept.data, usedforsecurity=False).hexdigest().upper()
        self._send(HTTPStatus.OK, {
            "Content-Type": "application/octet-stream", "Content-Length": str(len(kept.data)), "ETag": f'"{md5}"',
            "Last-Modified": formatdate(kept.put_at, usegmt=True)}, kept.data)

    def _delete(self, bucket: str, key: str, _body: bytes) -> None:
        self.server.shelf.delete(bucket, key)
        self._send(HTTPStatus.NO_CONTENT, {"Content-Length": "0"})

    def _not_implemented(self, _bucket: str, _key: str, _body: bytes) -> None:
        raise Refusal(HTTPStatus.NOT_IMPLEMENTED, "NotImplemented", "This server implements single objects only.")

    def _refuse(self, refusal: Refusal) -> None:
        fields = {"Code": refusal.code, "Message": refusal.message, "RequestId": self._request_id,
                  "HostId": self.headers.get("Host", ""), **refusal.details}
        inner = "".join(f"  <{name}>{escape(value)}</{name}>\n" for name, value in fields.items())
        xml = f'<?xml version="1.0" encoding="UTF-8"?>\n<Error>\n{inner}</Error>\n'.encode(errors="replace")
        self._send(refusal.status, {"Content-Type": "application/xml", "Content-Length": str(len(xml))}, xml)

    def _send(self, status: HTTPStatus, headers: Mapping[str, str], body: bytes = b"") -> None:
        self.send_response(status)
        self.send_header("x-oss-request-id", self._request_id)
        if self.close_connection:
            self.send_header("Connection", "close")
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _body(self) -> bytes:
        """Return the request's body, so that the next request on the connection begins where it should."""
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":  # the SDK sends an empty body so
            return self._chunks()
        length = self.headers.get("Content-Length", "0")
        if not length.isdecimal() or int(length) > LARGEST_BYTES:
            raise self._unread(HTTPStatus.BAD_REQUEST, "EntityTooLarge", f"A body has at most {LARGEST_BYTES} bytes.")
        return self._exactly(int(length))

    def _chunks(self) -> bytes:
        body = bytearray()
        while True:
            found = _CHUNK_SIZE.fullmatch(self.rfile.readline(1024))
            if found is None or len(body) + int(found[1], 16) > LARGEST_BYTES:
                raise self._unread(HTTPStatus.BAD_REQUEST, "InvalidArgument", "The body's chunks are malformed or too big.")
            piece = self._exactly(int(found[1], 16))
            if self.rfile.readline(3) != b"\r\n":
                raise self._unread(HTTPStatus.BAD_REQUEST, "InvalidArgument", "A chunk does not end as it should.")
            if not piece:
                return bytes(body)
            body += piece

    def _exactly(self, length: int) -> bytes:
        data = self.rfile.read(length)
        if len(data) < length:
            raise ConnectionResetError(f"the client sent {len(data)} of {length} bytes")
        return data

    def _unread(self, status: HTTPStatus, code: str, message: str) -> Refusal:
        self.close_connection = True  # the rest of the body would be read as the next request
        return Refusal(status, code, message)


def _decoded(path: str) -> str:
    try:
        return unquote(path, errors="strict")
    except UnicodeDecodeError:
        raise Refusal(HTTPStatus.BAD_REQUEST, "InvalidObjectName", "The name of an object is UTF-8.") from None
