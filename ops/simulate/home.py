"""The servers at home, modelled: slots that take jobs, what they report of themselves, failures and leases."""

import random

from app import topology
from app.job import Service
from ops.simulate.books import Books
from ops.simulate.clock import Clock
from ops.simulate.jobs import Job, Line, Where
from ops.simulate.windows import Counts, Durations
from ops.simulate.world import World

#: How fast the pace follows the last run (settle.lua).
PACE_WEIGHT = 0.1


class Server:
    """One server: the slots of its model worker, and its gateway."""

    def __init__(self, number: int, spec: topology.Server) -> None:
        worker = next(worker for worker in spec.workers if Service.MODEL in worker.services)
        self.number = number
        self.name = spec.name
        self.first, self.most = worker.concurrency, worker.most  # slots at the beginning, and grown
        self.slots = worker.concurrency
        self.running: set[Job] = set()
        self.up = True
        self.down_s = 0.0  # since when it is not up
        self.held: tuple[str, ...] = ()
        self.takes_none = False  # of the model service's jobs, by the policy's wish
        self.said: dict[str, float | None] = {}  # by the trace's events: cpu, memory, errors, calls
        self.answers = Durations()
        self.requests = Counts()
        self.attempts = Counts()

    @property
    def free(self) -> bool:
        """Whether it takes a job now."""
        return self.up and not self.takes_none and len(self.running) < self.slots

    def hold(self, services: tuple[str, ...]) -> None:
        """It takes nothing new of these services, and of all others it does."""
        self.held = services
        self.takes_none = Service.MODEL.value in services


class Home:
    """All servers, and the line before them."""

    def __init__(self, servers: tuple[topology.Server, ...], world: World, clock: Clock, books: Books) -> None:
        self.world = world
        self.servers = [Server(number, spec) for number, spec in enumerate(servers)]
        self.by_name = {server.name: server for server in self.servers}
        self.line = Line()
        self.elsewhere = 0  # live jobs that are delayed or have lost their worker
        self.pace_s: float | None = None
        self.ended = 0  # jobs that ever ended here
        self._clock = clock
        self._books = books
        self._random = random.Random(world.seed + 1)

    def accept(self, job: Job) -> None:
        """A new job waits, or begins."""
        self._books.accepted += 1
        server = None if self.line else self._freest()
        if server is None:
            self.line.join(job)
        else:
            self.line.pass_by(job)
            self._begin(job, server)

    def take_back(self, job: Job, *, paid_back: bool = False) -> None:
        """A job waits again, or begins."""
        job.moves(Where.WAITING)
        self.line.join_again(job, paid_back=paid_back)
        self._offer()

    def fill(self) -> None:
        """Begin all that can begin."""
        while self.line and self._offer():
            pass

    def fail(self, server: Server) -> None:
        """A server is gone, with all that ran there; the leases of that run out."""
        if not server.up:
            return
        server.up, server.down_s = False, self._clock.now_s
        settings = self.world.settings
        for job in sorted(server.running, key=lambda job: job.begun_s):  # a set has no order that stays
            self.elsewhere += 1
            since_beat_s = self._random.uniform(0, settings.beat_s)
            self._clock.at(self._clock.now_s + settings.lease_s - since_beat_s, self._lease_over, job,
                           job.moves(Where.ORPHANED))
        server.running.clear()
        server.answers, server.requests, server.attempts = Durations(), Counts(), Counts()

    def back(self, server: Server) -> None:
        """A server is there again, as if just started."""
        server.up = True
        server.hold(())
        self.fill()

    def grow(self, *, grown: bool) -> None:
        """The pools have their largest size, or their first."""
        for server in self.servers:
            server.slots = server.most if grown else server.first

    def tick(self) -> None:
        """The next second begins."""
        for server in self.servers:
            server.answers.tick()
            server.requests.tick()
            server.attempts.tick()

    def lost_worker(self, job: Job) -> bool:
        """An attempt has lost its worker; return whether the job may have another, else it is over."""
        job.lost += 1
        if job.lost < self.world.settings.max_lost:
            return True
        self._books.end(job, self._clock.now_s, succeeded=False)
        return False

    def heard(self, job: Job, run_s: float) -> None:
        """A job begins, and its caller hears of it: the gateway notes how long its first word took."""
        begun_s = self._clock.now_s - job.accepted_s
        self.servers[job.gateway].answers.add(begun_s + self.world.first_word * run_s)

    def _offer(self) -> bool:
        """Begin the first in line; return whether there was a server for it."""
        server = self._freest()
        if server is not None:
            self._begin(self.line.take_first(), server)
        return server is not None

    def _freest(self) -> Server | None:
        """Return the server with the smallest part of its slots busy, of those that take a job."""
        best, least = None, 1.0
        for server in self.servers:
            if server.up and not server.takes_none and (load := len(server.running) / server.slots) < least:
                best, least = server, load
        return best

    def _begin(self, job: Job, server: Server) -> None:
        now_s, world = self._clock.now_s, self.world
        server.running.add(job)
        run_s = job.run_s * (1 + max(len(server.running) / server.first - 1, 0.0) * world.crowding)
        failing = (server.said.get("errors") or 0.0) > 100 * self._random.random()
        self._clock.at(now_s + run_s, self._end, (job, server, failing), job.moves(Where.HOME))
        if self._books.begin(job, now_s, in_cloud=False):
            self.heard(job, run_s)

    def _end(self, what: tuple[Job, Server, bool], stamp: int) -> None:
        job, server, failed = what
        if job.stamp != stamp:
            return
        server.running.remove(job)
        server.attempts.add(1, int(failed))
        if failed:
            self._retry(job)
        else:
            run_s = self._clock.now_s - job.begun_s
            self.pace_s = run_s if self.pace_s is None else self.pace_s + PACE_WEIGHT * (run_s - self.pace_s)
            self.ended += 1
            self._books.end(job, self._clock.now_s, succeeded=True)
        if self.line and server.free:
            self._begin(self.line.take_first(), server)

    def _retry(self, job: Job) -> None:
        job.errors += 1
        settings = self.world.settings
        if job.errors >= settings.max_attempts:
            self._books.end(job, self._clock.now_s, succeeded=False)
            return
        self.elsewhere += 1
        wait_s = settings.retry_delay_s * 2 ** (job.errors - 1)
        self._clock.at(self._clock.now_s + wait_s, self._delay_over, job, job.moves(Where.DELAYED))

    def _delay_over(self, job: Job, stamp: int) -> None:
        if job.stamp == stamp:
            self.elsewhere -= 1
            self.take_back(job)

    def _lease_over(self, job: Job, stamp: int) -> None:
        if job.stamp == stamp:
            self.elsewhere -= 1
            if self.lost_worker(job):
                self.take_back(job)
