"""Hears what the cloud reports: a part of each worker of the queue service, beside its jobs.

One thread takes reports from the results queue and has them recorded. A report is acknowledged when the ledger has answered
to each of its words, and not before: if this worker dies, another gets it. What cannot be read, or recorded ever, is put
aside in the queue `<prefix>-results-dead`, with the reason. While Redis is away, reports wait here, and their leases are
extended; while MNS is away, the thread tries again now and then, and nothing else in the worker hears of it.
"""

import logging
import threading
from collections.abc import Callable

import redis
from kombu import Consumer, Exchange, Message, Queue

from app import logs
from app.cloud_registry import CloudRegistry
from app.errors import StoreUnavailable
from app.ledger import CloudLedger, Ledger
from app.settings import Settings
from app.store import open_redis
from routing.cloud import broker, words
from routing.cloud.fleet import Fleet
from routing.cloud.link import Link
from routing.cloud.post import ERRORS, NotPosted, PerhapsPosted, Post
from routing.cloud.reading import MalformedReport, read
from routing.cloud.recording import Recorded, Recorder

_LOOK_S = 0.5  # so long the thread waits for a report before it looks whether it is to end
_PAUSE_S = 0.5  # after Redis failed
_MOST_REFUSALS = 60  # of one report by a Redis that is there: then it is the report, and others wait behind it
_AHEAD = 32  # reports that are taken before the first of them is acknowledged

#: Refusals of every write, whatever it is; so are those by the codes in `_is_refusal`, which redis-py has no classes for.
_OF_ITS_OWN = (redis.exceptions.OutOfMemoryError, redis.exceptions.ReadOnlyError)

#: Of the transport: an outage is told after so long, and a poll is short, as the worker's end has to wait for it.
_OPTIONS = {"outage_s": 10.0, "close_within_s": 4.0}


class Interrupted(Exception):
    """The worker stops: the report goes back to the queue."""


class Hearing:
    """The thread. `who` is the queue worker; `appeared` is told the name of each cloud worker that is new."""

    def __init__(self, settings: Settings, *, who: str, appeared: Callable[[str], None],
                 recorded: Recorded = lambda *_: None) -> None:
        client = open_redis(settings)
        self._settings = settings
        self._who = who
        self._appeared = appeared
        self._recorder = Recorder(Ledger(client, settings), CloudLedger(client, settings), recorded=recorded)
        self._fleet = Fleet(client, settings)
        self._link = Link(CloudRegistry(client), f"{who} hearing")
        self._dead = Post(settings)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._hear_for_ever, name="tandem-cloud-hearing", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End soon: what is being recorded is finished, if Redis is there; the rest is given back."""
        self._stopping.set()

    def join(self, timeout_s: float) -> None:
        """Wait for what `stop` began."""
        self._thread.join(timeout_s)

    def _hear_for_ever(self) -> None:
        while not self._stopping.is_set():
            try:
                self._hear()
            except (*ERRORS, NotPosted, PerhapsPosted) as exc:
                self._link.down(exc)
                self._stopping.wait(self._link.pause_s)
            except Interrupted:
                logs.event("cloud_report_given_back", level=logging.DEBUG, who=self._who)
            except Exception as exc:  # noqa: BLE001 - the thread's outermost loop: without it no answer would come home
                logs.event("cloud_hearing_failed", level=logging.ERROR, exc_info=True, who=self._who, why=str(exc))
                self._stopping.wait(_PAUSE_S)
        self._dead.close()
        self._link.end()

    def _hear(self) -> None:
        """Take reports until this thread is to end. Raises what the transport raises where that cannot go on."""
        name = broker.results_queue(self._settings)
        with broker.connected(self._settings, **_OPTIONS) as connection:
            consumer = Consumer(connection.channel(), [Queue(name, Exchange(""), routing_key=name)],
                                on_message=self._take, on_decode_error=self._take_damaged, prefetch_count=_AHEAD)
            with consumer:
                self._link.up()
                while not self._stopping.is_set():
                    try:
                        connection.drain_events(timeout=_LOOK_S)
                        self._link.up()
                    except TimeoutError:
                        self._link.tell()

    def _take(self, message: Message) -> None:
        """Record a report, put aside what cannot be, and acknowledge it. Raises `Interrupted`, `NotPosted` and
        `PerhapsPosted`, after each of which the report comes again, here or elsewhere."""
        try:
            report, faults = read(message)
            self._record(report, faults)
        except Interrupted:
            raise
        except MalformedReport as exc:
            faults = [str(exc)]
        except Exception as exc:  # noqa: BLE001 - the boundary between a report and this thread: a bug of ours that one meets
            # would have all that were taken with it given back, until they too were put aside as taken too often
            logs.event("cloud_report_crashed", level=logging.ERROR, exc_info=True, who=self._who, why=str(exc))
            faults = [f"recording it failed: {type(exc).__name__}: {exc}"]
        if faults:
            self._put_aside(message, "; ".join(faults))
        message.ack()

    def _take_damaged(self, message: Message, exc: Exception) -> None:
        """Put aside what kombu cannot decompress. Raises `NotPosted` and `PerhapsPosted`, as `_take`."""
        self._put_aside(message, f"the report cannot be read: {type(exc).__name__}: {exc}")
        message.ack()

    def _record(self, report: words.Report, faults: list[str]) -> None:
        """Record a report, for as long as it takes; add to `faults` what is wrong with it. Raises `Interrupted`."""
        refusals = 0
        while True:
            try:
                if self._fleet.hear(report.worker):
                    self._appeared(report.worker.name)
                self._recorder.record(report)
                return
            except MalformedReport as exc:
                faults.append(str(exc))
                return
            except StoreUnavailable as exc:
                refusals += _is_refusal(exc.__cause__)
                if refusals >= _MOST_REFUSALS:
                    faults.append(str(exc))
                    return
                logs.event("ledger_unreachable", who=self._who, why=str(exc))
            self._link.tell()
            if self._stopping.wait(_PAUSE_S):
                raise Interrupted

    def _put_aside(self, message: Message, why: str) -> None:
        name = broker.dead_queue(broker.results_queue(self._settings))
        self._dead.forward(name, message, why=why)
        logs.event("cloud_report_put_aside", level=logging.ERROR, who=self._who, queue=name, why=why)


def _is_refusal(exc: BaseException | None) -> bool:
    """Whether Redis took offence at what it was asked, and not at how it stands itself: full, say, or a replica."""
    return (isinstance(exc, redis.exceptions.ResponseError) and not isinstance(exc, _OF_ITS_OWN)
            and not str(exc).startswith(("MISCONF", "NOREPLICAS", "BUSY")))
