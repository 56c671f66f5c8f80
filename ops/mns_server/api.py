"""The data plane's edge: every request passes here, and every failure becomes an answer here.

Admission, then the target and the operation, then an injected fault if one hits, then the operation, then the journal's
commit, and only then the answer: what a client has been told lasts.
"""

import logging
import secrets
import threading
from collections import Counter
from dataclasses import replace

from ops.mns_server import answers
from ops.mns_server.admission import VERSION, Admission
from ops.mns_server.errors import Refused
from ops.mns_server.faults import Fault, Faults
from ops.mns_server.http_server import Hangup, Request, Response
from ops.mns_server.operations import Operations, call_of
from ops.mns_server.service import Service
from ops.mns_server.targets import target_of

_log = logging.getLogger(__name__)

_PROXY_PAGE = b"<html>\n<head><title>502 Bad Gateway</title></head>\n<body><h1>502 Bad Gateway</h1></body>\n</html>\n"


class Api:
    """Answers requests. `requests` counts them by operation, those that faults hit included."""

    def __init__(self, service: Service, *, admission: Admission, faults: Faults) -> None:
        self.operations = Operations(service, faults)
        self._service, self._admission, self._faults = service, admission, faults
        self._lock = threading.Lock()
        self._requests: Counter[str] = Counter()
        self._closing = threading.Event()

    @property
    def requests(self) -> dict[str, int]:
        """How many requests came in by now, by operation."""
        with self._lock:
            return dict(self._requests)

    def close(self) -> None:
        """Let nobody wait any more for an injected latency's end."""
        self._closing.set()

    def answer(self, request: Request) -> Response:
        """Answer a request. Raises `Hangup` where a fault says so."""
        request_id = secrets.token_hex(12).upper()
        host = request.headers.get("host") or f"{self._service.account}.mns.local"
        try:
            self._admission.check(request)
            return self._perform(request, request_id, host)
        except Refused as refusal:
            return self._refused(refusal, request_id, host)
        except Hangup:
            raise
        except Exception:  # noqa: BLE001 - the outermost loop of a connection: the client gets the service's own 500
            _log.exception("mns-request-failed method=%s request_id=%s", request.method, request_id)
            return self._refused(Refused("InternalError", "We encountered an internal error."), request_id, host)

    def _perform(self, request: Request, request_id: str, host: str) -> Response:
        call = call_of(request, target_of(request.target), host)
        with self._lock:
            self._requests[call.operation] += 1
        hit = self._faults.strike(call.operation, call.target.queue)
        if hit.latency_s:
            self._closing.wait(hit.latency_s)
        if hit.decisive and (instead := _instead(hit.decisive)):
            return instead
        try:
            done = self.operations.perform(replace(call, hit=hit))
        finally:
            self._service.commit()
        if hit.decisive:
            raise Hangup
        headers = self._headers(request_id) | done.headers
        return Response(done.status, done.body, headers)

    def _refused(self, refusal: Refused, request_id: str, host: str) -> Response:
        body = answers.error(refusal, request_id=request_id, host=host)
        return Response(refusal.status, body, self._headers(request_id))

    def _headers(self, request_id: str) -> dict[str, str]:
        """The SDK looks for these names in just this spelling."""
        return {"Server": "AliyunMQS", "Content-Type": "text/xml;charset=utf-8", "Date": self._admission.date(),
                "x-mns-request-id": request_id, "x-mns-version": VERSION}


def _instead(fault: Fault) -> Response | None:
    """Return what is answered instead of doing it, or None if it is to be done. Raises `Hangup`, `Refused`."""
    if fault.kind == "status":
        raise Refused(fault.code, "This fault was injected.", status=fault.status)
    if fault.kind == "drop_before":
        raise Hangup
    if fault.kind == "html502":
        return Response(502, _PROXY_PAGE, {"Server": "proxy", "Content-Type": "text/html"})
    return None
