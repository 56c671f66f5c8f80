"""How many requests this process has answered and how long they took, by route and class of status, since it began; and
those of the last minute, for the routing task (`app.api.request_window`).

Counted on the hot path, so by hand: a dictionary and lists of numbers, two microseconds or three a request. gevent switches
at none of its steps; under plain threads a count may get lost.
"""

import os
import time
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from flask import Flask, Request, Response, request
from prometheus_client.core import HistogramMetricFamily
from werkzeug.routing import Rule

from app.api.request_window import RequestWindow

#: Bounds in seconds; 0.5 is what a mean answer may take at the load that Tandem is made for.
BOUNDS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)

_BEGAN = "tandem.began"
_APART = "tandem.apart"  # why the time of the request is not a call's
_WAITS, _SHED, _OF_JOB = "waits", "shed", "of job"

#: Blueprints of which nothing counts in the last minute: what looks after the gateway itself, and pages.
_NOT_SERVICE = {"service", "metrics", "pages", "console", "routing"}

#: Blueprints that stream what happens elsewhere: how soon that begins says nothing of us.
_STREAMS = {"events", "tenant_events"}

_NO_ROUTE = ("none", "none")  # a path or a method that is not served: callers must not make labels of their own


@dataclass(slots=True)
class _Times:
    counted: bool  # in the last minute
    timed: bool  # as calls
    failed: bool
    total_s: float = 0.0
    counts: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS_S) + 1))

    @classmethod
    def of(cls, rule: Rule | None, status_class: int) -> "_Times":
        part = rule.endpoint.partition(".")[0] if rule else ""
        counted = status_class != 4 and part not in _NOT_SERVICE
        return cls(counted=counted, timed=counted and part not in _STREAMS, failed=status_class == 5)


class RequestTimes:
    """The times of a process's requests. For a stream it is the time until its first byte. `window` has those of the last
    minute, without what callers got wrong (4xx) and what was refused for there being too much."""

    def __init__(self) -> None:
        self.window = RequestWindow()
        self._times: dict[tuple[str, str, int], _Times] = {}

    def begin(self, environ: dict[str, Any]) -> None:
        """Note that a request has come."""
        environ[_BEGAN] = time.perf_counter()

    def end(self, response: Response) -> Response:
        """Count the request at hand."""
        here: Request = request._get_current_object()  # type: ignore[attr-defined]  # each look through the proxy costs
        environ, rule = here.environ, here.url_rule
        took_s = time.perf_counter() - environ[_BEGAN]
        route, method = (rule.rule, environ["REQUEST_METHOD"]) if rule else _NO_ROUTE
        key = (route, method, response.status_code // 100)
        times = self._times.get(key)
        if times is None:
            times = self._times[key] = _Times.of(rule, key[2])
        times.total_s += took_s
        times.counts[bisect_left(BOUNDS_S, took_s)] += 1
        if times.counted and (apart := environ.get(_APART)) is not _SHED:
            self.window.now.request(took_s if times.timed and apart is None else None,
                                    failed=times.failed and apart is not _OF_JOB)
        return response

    def collect(self, gateway: str) -> Iterator[HistogramMetricFamily]:
        """Return the histogram, with the process's id: a gateway may have several, and a scrape reaches one of them."""
        family = HistogramMetricFamily(
            "tandem_gateway_request_duration_seconds", "Time to answer a request (of a stream: to begin it)",
            labels=("gateway", "process", "route", "method", "status"))
        for (route, method, status), times in list(self._times.items()):
            reached, buckets = 0, []
            for bound, count in zip((*map(str, BOUNDS_S), "+Inf"), times.counts, strict=True):
                reached += count
                buckets.append((bound, reached))
            family.add_metric((gateway, str(os.getpid()), route, method, f"{status}xx"), buckets, times.total_s)
        yield family


def waits() -> None:
    """The request at hand waits for a job, so how long it takes is not a call's time."""
    request.environ[_APART] = _WAITS


def shed() -> None:
    """The request at hand is refused because there is too much to do: it says nothing of how we do."""
    request.environ[_APART] = _SHED


def tells_of_job() -> None:
    """The request at hand tells that a job failed, or came too late: that is counted where the job ran, be it another
    server or the cloud, and is no failure of this one."""
    request.environ[_APART] = _OF_JOB


def install(app: Flask) -> RequestTimes:
    """Time every request of the application."""
    times = RequestTimes()
    serve = app.wsgi_app

    def timed(environ: dict[str, Any], start_response: Any) -> Any:
        times.begin(environ)
        return serve(environ, start_response)

    app.wsgi_app = timed  # type: ignore[method-assign]
    app.after_request(times.end)
    return times
