"""Tandem's model service: the whole stack, with the model."""

import os
import time
from contextlib import suppress
from pathlib import Path
from typing import ClassVar

import psutil

from ops.bench.engine_alone import at_once
from ops.bench.model_client import ModelClient
from ops.bench.subjects.tandem import Tandem
from ops.bench.subjects.writer import PROCESSOR, Writer
from ops.bench.writing import WARM_UP, Answer, Load, Timed, Written
from ops.pins import cpus_of

#: Where there are two CPUs, the labels with even numbers are the second: nothing but the model has one of those.
_PROCESSORS = {
    'processors = { auth = "P1", model = "P2", chat = "P3", cache = "P4", queue = "P5" }':
        'processors = { auth = "P1", model = "P2", chat = "P3", cache = "P5", queue = "P7" }',
    'processors = { auth = "P6", model = "P7", chat = "P8", cache = "P9", queue = "P10" }':
        'processors = { auth = "P4", model = "P6", chat = "P8", cache = "P9", queue = "P10" }'}
_OF_MODEL_WORKER = "-Q model"  # in its command line


class Service(Writer):
    """A stack of one server, called with an access token from a login."""

    name: ClassVar[str] = "service"
    form: ClassVar[str] = (
        "the whole stack of `make up` in the profile `standard`: one server, its gateway and its five workers, the model "
        "worker alone on its processor, everything else and the callers on the others; JWT, ledger and Flower as for "
        "tandem. The torch engine with 16 slots")

    def __init__(self, model: Path | None = None) -> None:
        super().__init__(model)
        self._tandem: Tandem | None = None

    def _start(self, folder: Path) -> None:
        self._tandem = Tandem({
            "TANDEM_PROFILE": "standard", "TANDEM_ENGINE": "torch", "TANDEM_MODEL": str(self.model),
            "TANDEM_DTYPE": "float32"}, edits=_PROCESSORS)
        self._tandem.start(folder)
        self._make_room()
        self.write(WARM_UP)

    def stop(self) -> None:
        """Stop the stack."""
        if self._tandem is not None:
            self._tandem.stop()
        self._tandem = None

    def write(self, load: Load) -> Written:
        """Be all the callers at once."""
        tandem = self._tandem
        assert tandem is not None, "start it first"

        def call(requests: list[Timed]) -> list[Answer]:
            os.sched_setaffinity(0, _others())  # of this thread
            answers = []
            with ModelClient(tandem.address, tandem.token) as client:
                for pause_s, request in requests:
                    time.sleep(pause_s)
                    answers.append(client.answer(request, listening=load.listening))
            return answers

        answers, took_s = at_once([[requests] for requests in load.timed()], call)
        return Written(answers=[answer for (answer,) in answers], took_s=took_s)

    def processes(self) -> list[psutil.Process]:
        """Return everything of it that runs."""
        assert self._tandem is not None, "start it first"
        return self._tandem.processes()

    def _make_room(self) -> None:
        """Move all that is not pinned off the model's processor: where CPUs are many, that is how it is anyway."""
        for process in self.processes():
            with suppress(psutil.NoSuchProcess, ProcessLookupError):
                if _OF_MODEL_WORKER not in " ".join(process.cmdline()):
                    for thread in process.threads():
                        os.sched_setaffinity(thread.id, _others())


def _others() -> set[int]:
    """Return the CPUs that the model does not have, or all where there is but one."""
    usable = os.sched_getaffinity(os.getpid())
    return usable - set(cpus_of([PROCESSOR], sorted(usable))) or usable
