"""Runs the command that makes the number of cloud workers what it should be: `scale_command`, with the number as its last
argument. One at a time, in a thread of its own, and not for ever.

The command is to bring about that there are so many, also where it is run again; see `ops.scale_cloud`, which runs where no
other command is set.
"""

import contextlib
import logging
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from typing import IO

from app import logs
from app.settings import Settings

_DEFAULT = (sys.executable, "-m", "ops.scale_cloud")
_MOST_S = 300.0  # a command that takes longer, as to start a machine somewhere may, is given up
_SHOWN = 2000  # characters of what a command that failed said last


class Scaling:
    """Has it run. For one thread."""

    def __init__(self, settings: Settings, *, most_s: float = _MOST_S, clock: Callable[[], float] = time.monotonic) -> None:
        self._command = tuple(shlex.split(settings.scale_command)) or _DEFAULT
        self._most_s = most_s
        self._clock = clock
        self._thread: threading.Thread | None = None
        self._wanted: int | None = None
        self._asked_s = float("-inf")

    def want(self, workers: int | None, *, live: int, every_s: float) -> None:
        """There should be so many cloud workers, which may be none, and so many live: run the command if that differs, but
        not again for the same number before `every_s` is over, nor while it still runs. None: no wish."""
        if workers is None or workers == live or (self._thread and self._thread.is_alive()):
            return
        if workers == self._wanted and self._clock() - self._asked_s < every_s:
            return
        self._wanted, self._asked_s = workers, self._clock()
        self._thread = threading.Thread(target=run, args=((*self._command, str(workers)),), kwargs={"most_s": self._most_s},
                                        name="tandem-routing-scaling", daemon=True)
        self._thread.start()

    def join(self, timeout_s: float) -> None:
        """Wait for the end of the command that runs, if any."""
        if self._thread:
            self._thread.join(timeout_s)


def run(command: Sequence[str], *, most_s: float) -> bool:
    """Run a command to its end, in a process group of its own; return whether it succeeded. What it said is logged where
    it did not. It goes into a file, not a pipe, which what the command leaves running would hold open."""
    began_s = time.monotonic()
    with tempfile.TemporaryFile() as said:
        why = _end_of(command, said, most_s)
        if why:
            said.seek(0)
            logs.event("scale_command_failed", level=logging.WARNING, command=shlex.join(command), why=why,
                       said=said.read().decode(errors="replace")[-_SHOWN:])
            return False
    logs.event("scale_command_ran", command=shlex.join(command), took_s=round(time.monotonic() - began_s, 3))
    return True


def _end_of(command: Sequence[str], said: IO[bytes], most_s: float) -> str:
    """Return why the command failed; nothing where it did not."""
    try:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=said, stderr=said, start_new_session=True)
    except OSError as exc:
        return str(exc)
    try:
        code = process.wait(most_s)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return f"it took longer than {most_s:g} s"
    return f"it ended with {code}" if code else ""
