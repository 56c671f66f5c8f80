"""The ledger of the Celery tests on MNS: one SQLite file that the tests and all worker processes write to.

A run that begins owns its job from then on, and only the owner settles, once: so a message that comes twice, or again after
its taker died, does no harm. Each begin and each settlement is written down as it happens, for the tests to count.
"""

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

_SCHEMA = """
CREATE TABLE IF NOT EXISTS job (id TEXT PRIMARY KEY, owner TEXT, settled_by TEXT);
CREATE TABLE IF NOT EXISTS run (id TEXT PRIMARY KEY, job TEXT, worker TEXT, began_s REAL, ended_s REAL);
CREATE TABLE IF NOT EXISTS settlement (job TEXT, run TEXT, settled_s REAL);
"""


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a job; times are Unix times."""

    id: str
    job: str
    worker: str
    began_s: float
    ended_s: float | None


@dataclass(frozen=True, slots=True)
class TaskLedger:
    """What became of the jobs."""

    path: Path

    def lay(self) -> None:
        """Make the file."""
        with self._open() as db:
            db.executescript(_SCHEMA)

    def begin(self, job: str, run: str, *, worker: str) -> bool:
        """Make `run` the owner; False: the job is settled, there is nothing to do."""
        with self._open() as db:
            db.execute("INSERT OR IGNORE INTO job (id) VALUES (?)", (job,))
            owned = db.execute("UPDATE job SET owner = ? WHERE id = ? AND settled_by IS NULL", (run, job)).rowcount == 1
            if owned:
                db.execute("INSERT INTO run VALUES (?, ?, ?, ?, NULL)", (run, job, worker, time.time()))
            return owned

    def settle(self, job: str, run: str) -> bool:
        """Settle the job; False: another run owns it or has settled it."""
        with self._open() as db:
            db.execute("UPDATE run SET ended_s = ? WHERE id = ?", (time.time(), run))
            won = db.execute("UPDATE job SET settled_by = owner WHERE id = ? AND owner = ? AND settled_by IS NULL",
                             (job, run)).rowcount == 1
            if won:
                db.execute("INSERT INTO settlement VALUES (?, ?, ?)", (job, run, time.time()))
            return won

    def settled(self, job: str) -> bool:
        """Tell whether the job is settled."""
        with self._open() as db:
            return bool(db.execute("SELECT 1 FROM job WHERE id = ? AND settled_by IS NOT NULL", (job,)).fetchall())

    def settlements(self) -> list[str]:
        """The jobs, once for each settlement."""
        with self._open() as db:
            return [job for (job,) in db.execute("SELECT job FROM settlement")]

    def runs(self, job: str | None = None) -> list[Run]:
        """All runs that began, or those of one job, in order."""
        with self._open() as db:
            rows = db.execute("SELECT id, job, worker, began_s, ended_s FROM run WHERE ? IN (job, '') ORDER BY began_s",
                              (job or "",))
            return [Run(*row) for row in rows]

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        with closing(sqlite3.connect(self.path, timeout=30, isolation_level="IMMEDIATE")) as db:
            db.execute("PRAGMA synchronous = OFF")  # what dies here are processes, not the machine
            with db:
                yield db
