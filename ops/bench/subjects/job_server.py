"""Something that takes jobs over HTTP and says how they went."""

from abc import abstractmethod
from typing import Any

from app.topology import Address
from ops.bench.call import Call
from ops.bench.subjects.subject import Subject


class JobServer(Subject):
    """A subject of the rows that count jobs."""

    @property
    @abstractmethod
    def address(self) -> Address:
        """Where callers come in."""

    @abstractmethod
    def submit(self, prompt: str, *, stall_s: float = 0.0) -> Call:
        """Return the call that submits a job: its result is the prompt, after a stall. The answer's `id` names it."""

    @abstractmethod
    def poll(self, job_id: str) -> Call:
        """Return the call that reads a job."""

    def constant(self) -> Call | None:
        """Return a call that is answered with a constant through the same layers, where there is one."""
        return None

    @abstractmethod
    def text(self, answer: dict[str, Any]) -> str | None:
        """Return the result from a poll's answer, or None when the job has not succeeded."""

    @abstractmethod
    def finished(self) -> int:
        """Return how many results were recorded so far, without asking the subject itself."""
