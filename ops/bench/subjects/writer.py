"""Something that holds a model and writes tokens: the subjects of the rows about the model service.

Those that are a single process are pinned to the processor of server-1's model worker, as that worker is.
"""

import os
import random
import select
import subprocess
import sys
from abc import abstractmethod
from pathlib import Path

import msgspec

from ops.bench.endless import endless_model
from ops.bench.errors import NotAsPromised
from ops.bench.programs import Programs
from ops.bench.subjects.subject import Subject
from ops.bench.writing import Load, Written
from ops.pins import cpus_of

PROCESSOR = 2  # P2, which topology.toml has for the model service of server-1
_ANSWER_S = 300
_WORDS = ("sea", "land", "river", "stone", "light", "house", "wind", "tree", "road", "bird", "fish", "ship", "hill", "star",
          "rain", "snow", "field", "door", "king", "song", "fire", "night", "bread", "glass", "horse", "iron", "cloud")


class Writer(Subject):
    """Holds the demo model in float32. Subjects that were started as often are asked the same."""

    def __init__(self, model: Path | None = None) -> None:
        """`model` is a folder; the endless demo model by default."""
        self._model = model
        self._starts = 0
        self._random = random.Random()

    @property
    def model(self) -> Path:
        """The model's folder."""
        assert self._model is not None, "prepare it first"
        return self._model

    def prepare(self) -> None:
        """Have the model."""
        self._model = self._model or endless_model()

    def start(self, folder: Path) -> None:
        """Start it, warm."""
        self._starts += 1
        self._random.seed(self._starts)
        folder.mkdir(parents=True, exist_ok=True)
        self._start(folder)

    def words(self, count: int) -> str:
        """Return words at random, about a token each, that were not given since the start."""
        return " ".join(self._random.choices(_WORDS, k=count))

    @abstractmethod
    def _start(self, folder: Path) -> None: ...

    @abstractmethod
    def write(self, load: Load) -> Written:
        """Write what the load asks for. Raises `NotAsPromised`."""


class PinnedWriter(Writer):
    """A process of its own, which `ops.bench.writing` speaks with."""

    def __init__(self, model: Path | None = None) -> None:
        super().__init__(model)
        self._programs: Programs | None = None
        self._process: subprocess.Popen[bytes] | None = None

    @abstractmethod
    def command(self) -> list[str]:
        """Return the arguments of Python."""

    def _start(self, folder: Path) -> None:
        self._programs = Programs(folder)
        cpus = ",".join(str(cpu) for cpu in cpus_of([PROCESSOR]))
        self._process = self._programs.start(
            "writer", ["taskset", "--cpu-list", cpus, sys.executable, *self.command()], pipes=True,
            environ={**os.environ, "OMP_WAIT_POLICY": "PASSIVE", "TQDM_DISABLE": "1"})
        self._written()

    def stop(self) -> None:
        """End the process."""
        if self._programs is not None:
            self._programs.stop()
        self._programs = self._process = None

    def write(self, load: Load) -> Written:
        """Have the process do it."""
        assert self._process is not None, "start it first"
        assert self._process.stdin is not None, "it has pipes"
        self._process.stdin.write(msgspec.json.encode(load) + b"\n")
        self._process.stdin.flush()
        return self._written()

    def _written(self) -> Written:
        assert self._process is not None, "start it first"
        assert self._process.stdout is not None, "it has pipes"
        assert self._programs is not None, "start makes it"
        if not select.select([self._process.stdout], [], [], _ANSWER_S)[0]:
            raise NotAsPromised(f"{self.name} did not answer for {_ANSWER_S} s; see {self._programs.log('writer')}")
        line = self._process.stdout.readline()
        if not line:
            os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOWAIT)
            self._programs.check()
        return msgspec.json.decode(line, type=Written)
