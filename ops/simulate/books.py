"""What a run writes down of its jobs: how many came, waited and ended, so that none is lost unseen."""

from array import array
from collections import Counter

from app.job import Lane
from ops.simulate.jobs import Job, Where


class Books:
    """Counts of the whole run, and of the present second."""

    def __init__(self) -> None:
        self.accepted = 0
        self.succeeded = 0
        self.failed = 0
        self.shed: Counter[Lane] = Counter()
        self.unreachable = 0  # came while no server was up
        self.waits_s = array("d")  # from acceptance to the first attempt, of each job that began
        self.responses_s = array("d")  # from acceptance to the end, of each that succeeded
        self.begun: list[tuple[float, bool]] = []  # when each ended job's last attempt began, and whether in the cloud
        self.now_begun = 0  # in this second, at home and in the cloud
        self.now_begun_cloud = 0

    @property
    def ended(self) -> int:
        """All that are over."""
        return self.succeeded + self.failed

    def begin(self, job: Job, now_s: float, *, in_cloud: bool) -> bool:
        """An attempt begins; return whether it is the job's first."""
        job.begun_s = now_s
        self.now_begun += 1
        self.now_begun_cloud += in_cloud
        if job.first_s is not None:
            return False
        job.first_s = now_s
        self.waits_s.append(now_s - job.accepted_s)
        return True

    def end(self, job: Job, now_s: float, *, succeeded: bool, in_cloud: bool = False) -> None:
        """A job is over."""
        job.moves(Where.ENDED)
        self.begun.append((job.begun_s, in_cloud))
        if succeeded:
            self.succeeded += 1
            self.responses_s.append(now_s - job.accepted_s)
        else:
            self.failed += 1

    def tick(self) -> None:
        """The next second begins."""
        self.now_begun = self.now_begun_cloud = 0
