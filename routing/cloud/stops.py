"""Tells cloud workers which tickets and runs are void: a part of each worker of the queue service.

The ledger keeps a stream of what became void; the queue workers take from it as consumers of one group, so each entry is
told by one of them, and what that one does not finish, another takes over. A run goes to the worker that runs it; a ticket
that nobody is known to have begun goes to all who live. While MNS is away, entries wait in the stream.
"""

import logging
import queue
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence

from app import logs
from app.cloud_registry import CloudRegistry
from app.errors import StoreUnavailable
from app.job import new_job_id
from app.ledger import CloudLedger, Stop
from app.settings import Settings
from app.store import open_redis
from routing.cloud import broker, words
from routing.cloud.fleet import Fleet
from routing.cloud.link import Link
from routing.cloud.post import NotPosted, PerhapsPosted, Post
from routing.mns.errors import BadRequest, NotAllowed, QueueMissing

_BLOCK_MS = 500  # how long one look at the stream waits: so long a stop of the worker may, too
_PAUSE_S = 0.5  # after Redis failed
_TIDY_S = 60.0  # between two looks for what workers that are gone have left
_MOST_TOLD = 500  # tickets in one message: some kilobytes

_OF_ONE_QUEUE = (QueueMissing, NotAllowed, BadRequest)  # errors that need not be those of another
_DELETED_JUST_NOW = "QueueDeletedRecently"  # the code for a queue that its worker deleted when it went, for a minute after


class Stops:
    """The thread. `who` is the queue worker."""

    def __init__(self, settings: Settings, *, who: str) -> None:
        self._who = who
        self._settings = settings
        client = open_redis(settings, timeout_s=_BLOCK_MS / 1000 + settings.redis_timeout_s)
        self._ledger = CloudLedger(client, settings)
        self._fleet = Fleet(client, settings)
        self._link = Link(CloudRegistry(client), f"{who} stops")
        self._post = Post(settings)
        self._taken: list[Stop] = []  # from the stream, and not told yet
        self._newcomers: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._tidy_s = 0.0
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._tell_for_ever, name="tandem-cloud-stops", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End soon."""
        self._stopping.set()

    def join(self, timeout_s: float) -> None:
        """Wait for what `stop` began."""
        self._thread.join(timeout_s)

    def welcome(self, worker: str) -> None:
        """A worker has appeared: tell it what it must not run. From any thread. Little is lost where this process dies
        before: what the worker runs in vain, it is told to stop with its first report."""
        self._newcomers.put(worker)

    def _tell_for_ever(self) -> None:
        while not self._stopping.is_set():
            try:
                self._round()
            except StoreUnavailable as exc:
                logs.event("cloud_stops_unreachable", who=self._who, why=str(exc))
                self._stopping.wait(_PAUSE_S)
            except (NotPosted, PerhapsPosted) as exc:  # told twice does no harm
                self._link.down(exc)
                self._stopping.wait(self._link.pause_s)
            except Exception as exc:  # noqa: BLE001 - the thread's outermost loop: without it no cloud worker would stop
                logs.event("cloud_stops_failed", level=logging.ERROR, exc_info=True, who=self._who, why=str(exc))
                self._stopping.wait(_PAUSE_S)
        self._post.close()
        self._link.end()

    def _round(self) -> None:
        """Tell what is to be told; what was taken before, and could not be told, first."""
        self._link.tell()
        if not self._taken:
            self._taken = self._ledger.stops(self._who, block_ms=_BLOCK_MS)
        self._fleet.remember([stop.void for stop in self._taken if not stop.worker])
        for worker, void in self._addressed(self._taken):
            self._tell(worker, void)
        self._ledger.stopped([stop.entry_id for stop in self._taken])
        self._taken = []
        self._welcome_all()
        if time.monotonic() >= self._tidy_s:
            self._tidy_s = time.monotonic() + _TIDY_S
            self._tidy()
        if self._link.is_down:  # and what could not be told needs to be told no more, so nothing else would find MNS back
            self._post.reach()
            self._link.up()

    def _addressed(self, stops: Sequence[Stop]) -> Iterator[tuple[str, list[str]]]:
        """Yield each worker with what it must know. One that was forgotten needs to know nothing: its queue is gone."""
        if not stops:
            return
        told: dict[str, list[str]] = defaultdict(list)
        live, known = self._fleet.live(), self._fleet.known()
        for stop in stops:
            for worker in [stop.worker] if stop.worker else live:
                if worker in known:
                    told[worker].append(stop.void)
        yield from told.items()

    def _welcome_all(self) -> None:
        while not self._newcomers.empty():
            worker = self._newcomers.get()
            try:
                self._tell(worker, self._fleet.remembered())
            except (StoreUnavailable, NotPosted, PerhapsPosted):
                self._newcomers.put(worker)
                raise

    def _tell(self, worker: str, void: Sequence[str]) -> None:
        """Tell a worker what is void. What MNS will never take, because of this worker's queue, is not tried again: others
        would wait behind it, and the worker learns of it by what becomes of its reports. Raises `NotPosted` and
        `PerhapsPosted`."""
        for start in range(0, len(void), _MOST_TOLD):
            stops = words.Stops(void=list(void[start:start + _MOST_TOLD]))
            try:
                self._post.send(broker.stops_queue(self._settings, worker), broker.STOP_TASK, words.body("stops", stops),
                                message_id=new_job_id())
            except (NotPosted, PerhapsPosted) as exc:
                if not _is_of_one_queue(exc):
                    raise
                logs.event("cloud_stops_refused", level=logging.WARNING, worker=worker, void=len(void), why=str(exc))
                return
            self._link.up()
            logs.event("cloud_stops_told", level=logging.DEBUG, worker=worker, void=len(stops.void))

    def _tidy(self) -> None:
        """Forget workers that are gone, and delete their stops queues, where these can be made again. A queue that MNS does
        not let us delete stays, or nobody behind it would be forgotten. Raises `NotPosted` where MNS is away."""
        for worker in self._fleet.gone():
            try:
                if self._settings.mns_create_queues:
                    self._post.delete(broker.stops_queue(self._settings, worker))
                    self._link.up()
            except NotPosted as exc:
                if not _is_of_one_queue(exc):
                    raise
                logs.event("cloud_stops_queue_left", level=logging.WARNING, worker=worker, why=str(exc))
            self._fleet.forget(worker)


def _is_of_one_queue(exc: NotPosted | PerhapsPosted) -> bool:
    """Whether what MNS said is about this queue, and need not be so of another."""
    return isinstance(exc.__cause__, _OF_ONE_QUEUE) or getattr(exc.__cause__, "code", "") == _DELETED_JUST_NOW
