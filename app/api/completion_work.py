"""The jobs behind one completion: waits for them, follows them, and cancels them when the client has gone.

Whether the client is there is asked of its connection, every second; a server without one (a test's) is not asked.
"""

import queue
import select
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING

from gevent import monkey

from app import logs
from app.errors import JobGone, JobUnknown, StoreUnavailable, TandemError
from app.following import Following
from app.job import Job
from app.ledger import Submission, Submitted
from app.transcript import Event

if TYPE_CHECKING:
    from app.api import Gateway

_LOOK_S = 1.0  # between two looks at the connection
KEEP_S = 10.0  # without a word for so long, the client is told that we are there

_poll = monkey.get_original("select", "poll")  # gevent's own does not know POLLRDHUP; this one never waits here
_GONE = select.POLLRDHUP | select.POLLHUP | select.POLLERR | select.POLLNVAL


class ClientGone(TandemError):
    """The client has closed its connection: nobody reads the answer."""

    code = "client-gone"
    title = "Client gone"
    status = 499


class CompletionWork:
    """The jobs of one completion, a job for each choice, in their order. `close` cancels what is not over, but for jobs
    that an earlier request with the same idempotency key made: they are that one's."""

    def __init__(self, gateway: "Gateway", tenant: str, connection: socket.socket | None) -> None:
        self._gateway = gateway
        self._tenant = tenant
        self._connection = connection
        self.ids: list[str] = []
        self._own: dict[str, str] = {}  # job that this request made -> its idempotency key, '' for none
        self._window = gateway.request_times.window
        self._ended: dict[str, Job] = {}
        self._heard: queue.SimpleQueue[tuple[int, Event | TandemError | None]] | None = None

    def add(self, submission: Submission, idempotency_key: str | None) -> None:
        """The next choice's job was submitted."""
        self.ids.append(submission.job_id)
        if submission.outcome is not Submitted.REPLAYED:
            self._own[submission.job_id] = idempotency_key or ""
            self._window.waits(submission.job_id)

    @property
    def jobs(self) -> list[Job]:
        """The jobs that have ended, in the order of the choices."""
        return [self._ended[job_id] for job_id in self.ids if job_id in self._ended]

    @property
    def over(self) -> bool:
        """Whether all have ended."""
        return len(self._ended) == len(self.ids)

    def close(self) -> None:
        """Cancel the jobs that are still live, so that who comes again with the same idempotency key is answered. May be
        called twice."""
        for job_id in self._own:
            if self._heard is not None:
                self._window.heard(job_id)
            self._window.forget(job_id)  # without a stream nobody has listened for a first word
        for job_id, key in self._own.items():
            if job_id in self._ended:
                continue
            try:
                with suppress(JobUnknown, JobGone):
                    self._gateway.ledger.cancel(job_id, self._tenant, freed_key=key)
            except StoreUnavailable as exc:  # it will run for nobody
                logs.event("completion_not_cancelled", job=job_id, why=str(exc))

    def wait(self, timeout_s: float) -> bool:
        """Wait until all jobs have ended, or one without success; False after `timeout_s`. Raises `ClientGone`."""
        end_s = time.monotonic() + timeout_s
        for job_id in self.ids:
            if job_id not in self._ended and not self._wait_for(job_id, end_s):
                return False
            if not self._ended[job_id].result:
                return True
        return True

    def events(self) -> Iterator[tuple[int, Event | TandemError] | None]:
        """Yield what the choices say, as it comes, and None each second without a word; until all have said their last.
        Raises `ClientGone`."""
        self._heard = self._heard or self._follow()
        open_feeds = len(self.ids)
        while open_feeds:
            try:
                index, event = self._heard.get(timeout=_LOOK_S)
            except queue.Empty:
                if self._is_gone():
                    raise ClientGone("the client has closed its connection") from None
                yield None
                continue
            if event is None:
                open_feeds -= 1
                continue
            if isinstance(event, Event) and isinstance(event.data, Job):
                self._ended[self.ids[index]] = event.data
                self._window.heard(self.ids[index], event.data)
            elif isinstance(event, Event) and event.name == "token":
                self._window.heard(self.ids[index])
            yield index, event

    def _wait_for(self, job_id: str, end_s: float) -> bool:
        gateway = self._gateway
        with gateway.announcements.waiter(job_id) as event:
            job = gateway.announcements.wait(
                event, lambda: gateway.ledger.read(job_id, self._tenant), timeout_s=max(end_s - time.monotonic(), 0.0),
                stopped=self._is_gone, every_s=_LOOK_S)
        if job.state.terminal:
            self._ended[job_id] = job
            self._window.heard(job_id, job)
            return True
        if self._is_gone():
            self._window.heard(job_id, job)
            raise ClientGone("the client has closed its connection")
        return False

    def _follow(self) -> "queue.SimpleQueue[tuple[int, Event | TandemError | None]]":
        heard: queue.SimpleQueue[tuple[int, Event | TandemError | None]] = queue.SimpleQueue()
        for index, job_id in enumerate(self.ids):
            threading.Thread(target=self._feed, args=(index, job_id, heard), name="tandem-completion", daemon=True).start()
        return heard

    def _feed(self, index: int, job_id: str, heard: "queue.SimpleQueue[tuple[int, Event | TandemError | None]]") -> None:
        """Hand on a job's events. It ends with the job, and so with `close` too."""
        gateway, following = self._gateway, Following(job_id, self._tenant, ledger=self._gateway.ledger)
        try:
            for event in following.begin():
                heard.put((index, event))
            for events in following.events(gateway.streams, gateway.announcements):
                for event in events:
                    heard.put((index, event))
        except TandemError as exc:
            heard.put((index, exc))
        finally:
            heard.put((index, None))

    def _is_gone(self) -> bool:
        if self._connection is None:
            return False
        poll = _poll()
        try:
            poll.register(self._connection, select.POLLRDHUP)
        except ValueError:  # it is closed
            return True
        return any(events & _GONE for _, events in poll.poll(0))


