"""How many requests this process has answered and how long they took, by route and class of status.

Counted on the hot path, so by hand: a dictionary and a list of numbers, a microsecond or two a request. gevent switches at
none of its steps; under plain threads a count may get lost.
"""

import os
import time
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from flask import Flask, Request, Response, request
from prometheus_client.core import HistogramMetricFamily

#: Bounds in seconds; 0.5 is what a mean answer may take at the load that Tandem is made for.
BOUNDS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)

_BEGAN = "tandem.began"
_NO_ROUTE = ("none", "none")  # a path or a method that is not served: callers must not make labels of their own


@dataclass(slots=True)
class _Times:
    total_s: float = 0.0
    counts: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS_S) + 1))


class RequestTimes:
    """The times of a process's requests. For a stream it is the time until its first byte."""

    def __init__(self) -> None:
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
            times = self._times[key] = _Times()
        times.total_s += took_s
        times.counts[bisect_left(BOUNDS_S, took_s)] += 1
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
