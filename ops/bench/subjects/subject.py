"""What is measured."""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar


class Subject(ABC):
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
