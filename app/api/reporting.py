"""Tells once a second what this gateway process measured, and reads what the routing task wants of it.

It runs in a thread (under gevent, a greenlet) of each process that serves, and ends with it. While Redis is away nothing is
told, and the requests go on being counted.
"""

import os
import time

import redis

from app.api.request_window import RequestWindow
from app.api.shedding import Shedding
from app.ledger import Ledger
from app.ledger.scripts import unavailable
from app.rounds import Rounds
from app.settings import Settings
from app.signal_board import SignalBoard

_REPORT_S = 1.0  # a third or less of what a report is believed for
_MOST_LOOKED = 500  # jobs whose first word is looked for in one report; of more that wait so long, some are enough


class Reporter:
    """Reports for one process. Start it in the process that serves, which is after gunicorn's fork."""

    def __init__(self, client: redis.Redis, settings: Settings, ledger: Ledger, window: RequestWindow,
                 shedding: Shedding) -> None:
        self._ledger = ledger
        self._board = SignalBoard(client)
        self._server = settings.server or "gateway"
        self._window = window
        self._shedding = shedding
        self._rounds = Rounds(lambda: self.report(time.monotonic()), every_s=_REPORT_S, name="reporting",
                              who=f"gateway of {self._server}")

    def start(self) -> None:
        """Begin."""
        self._rounds.start()

    def stop(self) -> None:
        """End after the present report."""
        self._rounds.stop()

    def join(self, timeout_s: float) -> None:
        """Wait for the end of the present report."""
        self._rounds.join(timeout_s)

    def report(self, now_s: float) -> None:
        """Report once. Raises `StoreUnavailable`."""
        try:
            self._listen(now_s)
        finally:
            self._window.turn(now_s)
        report = self._window.report(self._server, os.getpid(), self._board.now_ms(), now_s)
        self._board.put_gateway(report, self._window.take_seen())
        try:
            self._shedding.refresh()
        except (redis.exceptions.RedisError, OSError) as exc:
            raise unavailable(exc) from exc

    def _listen(self, now_s: float) -> None:
        """Count the jobs that have said their first word while somebody waits for them to end."""
        job_ids = list(self._window.unheard(now_s))[:_MOST_LOOKED]
        for job_id, after_s in zip(job_ids, self._ledger.first_words(job_ids), strict=True):
            if after_s is not None:
                self._window.answered(job_id, after_s)
