"""The home side of the cloud, as each worker of the queue service runs it: a thread that hears what cloud workers report,
and one that tells them what to stop. Neither takes part in the worker's jobs, and no trouble of theirs reaches these."""

import time

from app.settings import Settings
from routing.cloud.hearing import Hearing
from routing.cloud.recording import Recorded
from routing.cloud.stops import Stops


class Home:
    """The two threads. `who` is the queue worker; `recorded` is told of each answer that came from the cloud."""

    def __init__(self, settings: Settings, *, who: str, recorded: Recorded = lambda *_: None) -> None:
        self._stops = Stops(settings, who=who)
        self._hearing = Hearing(settings, who=who, appeared=self._stops.welcome, recorded=recorded)

    def start(self) -> None:
        """Begin."""
        self._stops.start()
        self._hearing.start()

    def stop(self) -> None:
        """Take nothing more, and give back what is not finished."""
        self._hearing.stop()
        self._stops.stop()

    def join(self, timeout_s: float) -> None:
        """Wait for what `stop` began; what is not given back by then comes again when its lease runs out."""
        end_s = time.monotonic() + timeout_s
        self._hearing.join(timeout_s)
        self._stops.join(max(end_s - time.monotonic(), 0.0))
