"""Tandem's engine alone, in one process."""

from typing import ClassVar

from ops.bench.subjects.writer import PinnedWriter

_ROWS = 32  # as many as any row of the benchmarks asks for at once


class Engine(PinnedWriter):
    """`TorchEngine` and threads that call it."""

    name: ClassVar[str] = "engine"
    form: ClassVar[str] = (
        "Tandem's torch engine in a process of its own, without gateway, queue or worker, called by a thread a request")

    def command(self) -> list[str]:
        """A module of ours."""
        return ["-m", "ops.bench.engine_alone", str(self.model), str(_ROWS)]
