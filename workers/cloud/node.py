"""What a cloud worker's process holds: its engine, its runs, what it knows to be void, and its courier.

A ticket is run once at a time here, however often MNS delivers it. A run is stopped, between two tokens, when home says
that it is void, when it takes longer than any job may, and when the worker has no more time to finish it. That its message
may have gone to another worker, as in an outage of MNS, does not stop it: home takes the word of the first run that it
heard of, and calls the other void.
"""

import secrets
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from app.settings import Settings
from routing.cloud import words
from routing.cloud.broker import LONGEST_LEASE_S
from routing.cloud.post import Post
from workers.cloud.courier import Courier, Posting
from workers.cloud.speaker import Speaker
from workers.cloud.voids import Voids
from workers.engine import Engine

_DELIVER_S = 2.0  # for the ends of runs that were given back, after which MNS counts as away


@dataclass(slots=True, eq=False)
class Run:
    """A run of an errand. `message` is MNS's id of the message that brought it."""

    errand: words.Errand
    id: str
    message: str | None
    speaker: Speaker
    began_s: float  # by the node's clock
    stop: threading.Event = field(default_factory=threading.Event)
    over: threading.Event = field(default_factory=threading.Event)
    void: bool = False  # nobody wants to hear of it
    why: str = ""  # it was stopped

    @property
    def short(self) -> str:
        """Its name for the log."""
        return words.short(self.id)


class CloudNode:
    """This process. `slots` is how many runs it has at a time, `processors` the labels of those it is pinned to."""

    def __init__(self, settings: Settings, engine: Engine, *, name: str, slots: int, processors: Sequence[str],
                 post: Posting | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self.settings = settings
        self.engine = engine
        self.name = name
        self.voids = Voids()
        self.courier = Courier(settings, post or Post(settings), self.worker)
        self._slots = slots
        self._processors = ",".join(processors)
        self._clock = clock
        self._runs: dict[str, Run] = {}  # by ticket
        self._drained_s: float | None = None  # when it goes down: when the time for finishing is up
        self._lock = threading.Lock()

    def worker(self) -> words.Worker:
        """Return what this worker says of itself."""
        return words.Worker(name=self.name, processor=self._processors, slots=self._slots, busy=len(self._runs),
                            engine=self.settings.engine, figures=dict(self.engine.figures()),
                            stopping=self._drained_s is not None)

    def enter(self, errand: words.Errand, message: str | None) -> tuple[Run, bool] | None:
        """Return the run of an errand, and whether it begins now; else it is in progress already. None: it is void."""
        with self._lock:
            if run := self._runs.get(errand.ticket):
                return run, False
            if errand.ticket in self.voids:
                return None
            name = f"{errand.ticket}.{secrets.token_hex(4)}"
            run = Run(errand, name, message, self.courier.begin(errand.job, errand.ticket, name),
                      self._clock())
            self._runs[errand.ticket] = run
            return run, True

    def leave(self, run: Run) -> None:
        """A run is over, one way or the other: nothing more is said of it, not even that it lives."""
        if not run.speaker.delivered.is_set():
            self.courier.drop(run.speaker)
        with self._lock:
            del self._runs[run.errand.ticket]
        run.over.set()

    def void(self, names: Sequence[str]) -> list[Run]:
        """These tickets and runs are void: what is running of them stops. Return that."""
        self.voids.add(names)
        gone = set(names)
        with self._lock:
            runs = [run for run in self._runs.values() if gone & {run.id, run.errand.ticket} and not run.void]
        for run in runs:
            run.void = True
            run.why = "home called it void"
            run.stop.set()
        return runs

    def lose(self, message: str) -> list[Run]:
        """The lease of a message has run out: MNS may give it to another worker. Its run goes on, but for one that has had
        the longest lease that there is, and so may be stuck. Return what stops."""
        old_s = self._clock() - LONGEST_LEASE_S
        with self._lock:
            runs = [run for run in self._runs.values() if run.message == message and run.began_s <= old_s]
        for run in runs:
            run.why = run.why or f"it ran for {LONGEST_LEASE_S:g} s, longer than any job may in the cloud"
            run.stop.set()
        return runs

    def drain(self, *, within_s: float | None = None) -> None:
        """The worker is going down: it has so long, else `shutdown_s`, for what it runs. Takes no lock: it is called by
        signals' handlers."""
        until_s = self._clock() + (self.settings.shutdown_s if within_s is None else within_s)
        self._drained_s = until_s if self._drained_s is None else min(until_s, self._drained_s)

    @property
    def done(self) -> bool:
        """Whether the worker goes down, and nothing runs any more."""
        return self._drained_s is not None and not self._runs

    @property
    def drained(self) -> bool:
        """Whether the time for finishing is up: what still runs is given back."""
        return self._drained_s is not None and self._clock() >= self._drained_s

    @property
    def gives_up(self) -> bool:
        """Whether an end that MNS has not taken yet is given up, too."""
        return self._drained_s is not None and self._clock() >= self._drained_s + _DELIVER_S
