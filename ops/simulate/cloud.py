"""The cloud, modelled: messages that take their time, workers with slots, an MNS that may be away, jobs that lapse."""

from collections import OrderedDict

from app.routing_rules import Rules
from ops.simulate.books import Books
from ops.simulate.clock import Clock
from ops.simulate.home import PACE_WEIGHT, Home
from ops.simulate.jobs import Job, Where
from ops.simulate.spend import Spend, price

#: Beats that a cloud worker may miss and still be taken to live.
_MISSED_BEATS = 3


#: An order to send is believed for so long, and carried out in batches of this size (routing.task, routing.acting_cloud).
BELIEVED_S = 2.0
_BATCH = 16


class Cloud:
    """Workers in the cloud, `slots` each, and the way there."""

    def __init__(self, slots: int, rules: Rules, home: Home, clock: Clock, books: Books) -> None:
        self.spend = Spend()
        self.workers = home.world.cloud_workers
        self.down_s: float | None = None  # since when MNS is away
        self.pace_s: float | None = None
        self.posts = self.posts_failed = self.begun = self.lapsed = 0
        self.sent: OrderedDict[Job, None] = OrderedDict()  # and not begun there, in the order of sending
        self.running: set[Job] = set()
        self._unheard: list[tuple[Job, int]] = []  # ended while MNS was away
        self._orphans = 0  # running jobs whose worker is gone, until their leases are over
        self._dead = False  # the workers are
        self._starting: list[float] = []  # when workers that are starting take jobs
        self._slots, self._rules, self._home, self._clock, self._books = slots, rules, home, clock, books
        self._world = home.world
        self._ordered = 0  # jobs that are still to leave
        self._turn = 0  # of sending: only the last one that was asked for comes
        self._until_s = 0.0  # when that is not believed any more
        self._posted_s = 0.0  # when MNS is free for the next message

    @property
    def live(self) -> int:
        """Jobs that are here."""
        return len(self.sent) + len(self.running) + len(self._unheard) + self._orphans

    @property
    def slots(self) -> int:
        """Of all workers that live."""
        return 0 if self._dead else self.workers * self._slots

    def known_workers(self) -> int:
        """Workers that home has heard of lately."""
        silent_s = 0.0 if self.down_s is None else self._clock.now_s - self.down_s
        lost = self._dead or silent_s > _MISSED_BEATS * self._world.settings.cloud_beat_s
        return 0 if lost else self.workers

    def order(self, jobs: int) -> None:
        """So many jobs are to leave, in place of what was ordered before, as long as that may be believed."""
        self._ordered, self._until_s = jobs, self._clock.now_s + BELIEVED_S
        self._work(None, self._turn)

    def _work(self, _what: None, turn: int) -> None:
        """Send the next batch as soon as the one before is posted: those that would wait longest, until a cap, or MNS,
        keeps them here."""
        clock, line = self._clock, self._home.line
        if turn != self._turn:
            return
        while self._ordered and line and self._posted_s <= clock.now_s < self._until_s:
            for _ in range(min(self._ordered, _BATCH, len(line))):
                self._ordered -= 1
                if not self._send(line.take_last()):
                    self._ordered = 0
                    return
        if self._ordered and clock.now_s < self._posted_s < self._until_s:
            self._turn += 1
            clock.at(self._posted_s, self._work, None, self._turn)

    def _send(self, job: Job) -> bool:
        """Send a job; return whether it went."""
        if self.down_s is not None:
            self.posts_failed += 1
        else:
            job.cost = self.spend.reserve(self._clock.now_s, job.worst_tokens, self._rules)
            if job.cost is not None:
                self._post(job)
                return True
        self._home.line.join_again(job, paid_back=job.first_s is None)
        return False

    def _post(self, job: Job) -> None:
        now_s = self._clock.now_s
        self._posted_s = max(self._posted_s, now_s) + self._world.cloud_post_s
        job.sent_s, job.there_s = now_s, self._posted_s + self._world.cloud_start_s
        job.moves(Where.SENT)
        self.posts += 1
        self.sent[job] = None
        self._clock.at(job.there_s, self._look, None)

    def recall(self, count: int) -> int:
        """Bring home those sent last and not begun; return how many came."""
        home = 0
        while self.sent and home < count:
            self._bring_home(self.sent.popitem()[0])
            home += 1
        return home

    def tick(self) -> None:
        """A second is over: what was not begun in time comes home, workers that were starting take jobs."""
        now_s, wait_s = self._clock.now_s, self._world.settings.cloud_wait_s
        while self.sent and (job := next(iter(self.sent))).sent_s + wait_s <= now_s:
            del self.sent[job]
            self.lapsed += 1
            self._bring_home(job)
        self.workers += sum(1 for due_s in self._starting if due_s <= now_s)
        self._starting = [due_s for due_s in self._starting if due_s > now_s]
        self.spend.look(now_s)
        self._look(None, 0)

    def want(self, workers: int) -> None:
        """There should be so many workers. Those that start take their time; those that end finish their jobs first."""
        missing = workers - self.workers - len(self._starting)
        if missing >= 0:
            self._starting += [self._clock.now_s + self._world.cloud_worker_start_s] * missing
            return
        ending = min(-missing, len(self._starting))
        self._starting = self._starting[:len(self._starting) - ending]
        self.workers += missing + ending

    def lose_mns(self) -> None:
        """MNS is away: nothing comes or goes, and what runs there falls silent."""
        if self.down_s is None:
            self.down_s = self._clock.now_s
            silent_s = self._clock.now_s + self._world.settings.cloud_lease_s
            self._clock.at(silent_s, self._all_silent, self._clock.now_s)

    def find_mns(self) -> None:
        """MNS is back, and says what ended meanwhile."""
        self.down_s = None
        ended, self._unheard = self._unheard, []
        for job, stamp in ended:
            if job.stamp == stamp:
                self._settle(job)
        self._look(None, 0)

    def lose_workers(self) -> None:
        """The workers are gone, with all that ran there; the leases of that run out."""
        self._dead = True
        lease_over_s = self._clock.now_s + self._world.settings.cloud_lease_s
        for job in sorted(self.running, key=lambda job: job.begun_s):  # a set has no order that stays
            self._orphans += 1
            self._clock.at(lease_over_s, self._lease_over, job, job.moves(Where.ORPHANED))
        self.running.clear()

    def find_workers(self) -> None:
        """The workers are there again."""
        self._dead = False
        self._look(None, 0)

    def _look(self, _what: None, _stamp: int) -> None:
        """Begin what is there, as far as there are free slots."""
        now_s = self._clock.now_s
        while self.down_s is None and self.sent and len(self.running) < self.slots:
            job = next(iter(self.sent))
            if job.there_s > now_s:
                return
            del self.sent[job]
            self.begun += 1
            self.running.add(job)
            run_s = job.run_s * self._world.cloud_pace
            self._clock.at(now_s + run_s, self._end, job, job.moves(Where.CLOUD))
            if self._books.begin(job, now_s, in_cloud=True):
                self._home.heard(job, run_s)

    def _end(self, job: Job, stamp: int) -> None:
        if job.stamp != stamp:
            return
        self.running.remove(job)
        if self.down_s is None:
            self._settle(job)
            self._look(None, 0)
        else:
            self._unheard.append((job, stamp))

    def _settle(self, job: Job) -> None:
        run_s = job.run_s * self._world.cloud_pace
        self.pace_s = run_s if self.pace_s is None else self.pace_s + PACE_WEIGHT * (run_s - self.pace_s)
        if job.cost is not None:
            self.spend.settle(job.cost, price(job.tokens, self._rules))
        self._books.end(job, self._clock.now_s, succeeded=True, in_cloud=True)

    def _all_silent(self, since_s: float, _stamp: int) -> None:
        """Nothing was heard for a whole lease: what ran there comes home."""
        if self.down_s != since_s:
            return
        silent = [*sorted(self.running, key=lambda job: job.begun_s), *(job for job, _ in self._unheard)]
        self.running.clear()
        self._unheard.clear()
        for job in silent:
            self._lapse(job)

    def _lease_over(self, job: Job, stamp: int) -> None:
        if job.stamp == stamp:
            self._orphans -= 1
            self._lapse(job)

    def _lapse(self, job: Job) -> None:
        """A run that nothing is heard of: nobody knows what it did cost, so the reserve stays."""
        self.lapsed += 1
        if self._home.lost_worker(job):
            self._home.take_back(job)

    def _bring_home(self, job: Job) -> None:
        """A job that nobody has begun costs nothing."""
        if job.cost is not None:
            self.spend.settle(job.cost, 0.0)
        self._home.take_back(job, paid_back=job.first_s is None)
