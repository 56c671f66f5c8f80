"""Does something at a steady pace, in a thread of its own, until it is told to stop."""

import logging
import threading
import time
from collections.abc import Callable

from app import logs
from app.errors import StoreUnavailable


class Rounds:
    """Calls `do` every so often, and `ending` after the last time. A round that takes too long moves the next ones, and
    none is made up for; one that fails is followed by the next. `name` is the thread's, and the log's; `who` is for the
    log."""

    def __init__(self, do: Callable[[], object], *, every_s: float, name: str, who: str,
                 ending: Callable[[], object] = lambda: None) -> None:
        self._do = do
        self._ending = ending
        self._every_s = every_s
        self._name = name
        self._who = who
        self._away = False
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run_for_ever, name=f"tandem-{name}", daemon=True)

    def start(self) -> None:
        """Begin, with a round at once."""
        self._thread.start()

    def stop(self) -> None:
        """End after the present round."""
        self._stopping.set()

    def join(self, timeout_s: float) -> None:
        """Wait for the end of the present round, if there ever was one."""
        if self._thread.ident is not None:
            self._thread.join(timeout_s)

    def _run_for_ever(self) -> None:
        due_s = time.monotonic()
        while not self._stopping.wait(max(due_s - time.monotonic(), 0.0)):
            self._round(self._do)
            due_s = max(due_s + self._every_s, time.monotonic())
        self._round(self._ending)

    def _round(self, do: Callable[[], object]) -> None:
        try:
            do()
        except StoreUnavailable as exc:
            if not self._away:  # an outage is told once, and not every second
                logs.event(f"{self._name}_unheard", who=self._who, why=str(exc))
            self._away = True
        except Exception as exc:  # noqa: BLE001 - the thread's outermost loop: without it there would be no further round
            logs.event(f"{self._name}_failed", level=logging.ERROR, exc_info=True, who=self._who, why=str(exc))
        else:
            self._away = False
