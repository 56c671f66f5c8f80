"""What is measured: something that takes jobs over HTTP and says how they went."""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar

from app.topology import Address
from ops.bench.call import Call


class JobServer(ABC):
    """A subject. Between `start` and `stop` it is the only one running."""

    #: What it is called in tables and on the command line.
    name: ClassVar[str]
    #: What it consists of, for the reader of the results.
    form: ClassVar[str]

    @abstractmethod
    def prepare(self) -> None:
        """Install what it needs. Raises `NotInstalled`."""

    @abstractmethod
    def start(self, folder: Path) -> None:
        """Start it, with fresh data in `folder`."""

    @abstractmethod
    def stop(self) -> None:
        """Stop whatever of it runs, also after a start that failed."""

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
