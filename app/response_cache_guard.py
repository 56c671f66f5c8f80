"""Keeps requests from waiting for a cache that does not work: a breaker for each of its servers.

After some faults in a row a server is left alone for a while, then one call tries it. One line is logged when a server is
left alone, and one when it answers again.
"""

import logging
import threading
import time
from collections.abc import Callable
from typing import TypeVar

import redis

from app import logs
from app.breaker import Breaker, Pass, State
from app.errors import StoreUnavailable
from app.ledger.scripts import unavailable
from app.response_cache_figures import Figures

Answer = TypeVar("Answer")

FAULTS = 5  # in a row; so many calls may wait for a server that hangs
COOLDOWN_S = 2.0  # then one call in so long does; it is also how late a promoted replica may be found
_QUIET_S = 60.0  # between two lines about refusals, as by a server that is full

#: The server's own faults; with any other error it did answer.
_SERVER_FAULTS = (redis.exceptions.ConnectionError, redis.exceptions.TimeoutError, redis.exceptions.ClusterDownError,
                  redis.exceptions.InvalidResponse, OSError)


class Guard:
    """Makes the calls that may be made. Safe to share between threads."""

    def __init__(self, figures: Figures) -> None:
        self._figures = figures
        self._lock = threading.Lock()
        self._breakers: dict[str, Breaker] = {}
        self._quiet_until_s = 0.0

    def run(self, server: str, call: Callable[[], Answer]) -> Answer:
        """Return what a call of a server returns. Raises `StoreUnavailable` when it fails, or is not made."""
        with self._lock:
            breaker = self._breakers.setdefault(server, Breaker(threshold=FAULTS, cooldown_s=COOLDOWN_S))
            passed = breaker.admit(time.monotonic())
        if passed is None:
            raise StoreUnavailable(f"{server} is left alone: it failed {FAULTS} times in a row")
        try:
            answer = call()
        except (redis.exceptions.RedisError, OSError) as exc:
            self._failed(server, breaker, passed, exc)
            raise unavailable(exc) from exc
        except BaseException:  # a killed greenlet: another call may be the trial
            with self._lock:
                breaker.given_up(passed)
            raise
        self._answered(server, breaker, passed)
        return answer

    def _answered(self, server: str, breaker: Breaker, passed: Pass) -> None:
        with self._lock:
            was_open = breaker.state is not State.CLOSED
            breaker.answered(passed)
            closed = was_open and breaker.state is State.CLOSED
        if closed:
            self._figures.answers_again(server)
            logs.event("response_cache_answers_again", server=server)

    def _failed(self, server: str, breaker: Breaker, passed: Pass, exc: Exception) -> None:
        self._figures.count(errors=1)
        if not isinstance(exc, _SERVER_FAULTS):
            self._answered(server, breaker, passed)
            self._refused(server, exc)
            return
        with self._lock:
            before, opened = breaker.state, breaker.opened
            breaker.failed(passed, time.monotonic())
            opens = breaker.opened > opened
        if opens:
            self._figures.left_alone(server, COOLDOWN_S)
        if opens and before is State.CLOSED:
            logs.event("response_cache_left_alone", level=logging.WARNING, server=server,
                       why=f"{type(exc).__name__}: {exc}", faults=FAULTS)

    def _refused(self, server: str, exc: Exception) -> None:
        now_s = time.monotonic()
        if now_s >= self._quiet_until_s:
            self._quiet_until_s = now_s + _QUIET_S
            logs.event("response_cache_refused", level=logging.WARNING, server=server, why=f"{type(exc).__name__}: {exc}")
