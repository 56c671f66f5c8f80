"""Programs that a measurement starts, and the certainty that they end with it."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from ops.bench.errors import NotAsPromised

_GRACE_S = 3.0  # from SIGTERM to SIGKILL; nothing of a peer needs saving
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Programs:
    """Programs in process groups of their own, so that their children end with them. Logs go to `folder`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str, command: list[str], *, cwd: Path | None = None, environ: Mapping[str, str] | None = None,
              pipes: bool = False) -> "subprocess.Popen[bytes]":
        """Start one; with `pipes` its standard input and output are the caller's."""
        with self.log(name).open("wb") as log:
            self._running[name] = process = subprocess.Popen(
                command, cwd=cwd, env=environ, stdin=subprocess.PIPE if pipes else subprocess.DEVNULL,
                stdout=subprocess.PIPE if pipes else log, stderr=log, start_new_session=True)
        return process

    def log(self, name: str) -> Path:
        """Where a program's output goes."""
        return self._folder / f"{name}.log"

    def check(self) -> None:
        """Raise `NotAsPromised` when one has ended."""
        for name, process in self._running.items():
            if _ended(process):
                tail = " / ".join(self.log(name).read_text(errors="replace").splitlines()[-3:])
                raise NotAsPromised(f"{name} ended by itself: {tail or 'it said nothing'}")

    def stop(self) -> None:
        """End them all, the last started first."""
        while self._running:
            _, process = self._running.popitem()
            _end(process)
            for pipe in filter(None, (process.stdin, process.stdout)):
                with suppress(BrokenPipeError):
                    pipe.close()


def _end(process: "subprocess.Popen[bytes]") -> None:
    """End a process group. Its leader is reaped last: until then its id can belong to nobody else."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
        give_up_at = time.monotonic() + _GRACE_S
        while not _ended(process) and time.monotonic() < give_up_at:
            time.sleep(0.02)
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _ended(process: "subprocess.Popen[bytes]") -> bool:
    """Say whether it has ended, without reaping it."""
    return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def interruptible() -> None:
    """Let SIGTERM and SIGHUP do what Ctrl-C does: stop what was started, and end."""
    for number in _SIGNALS:
        signal.signal(number, signal.default_int_handler)


@contextmanager
def undisturbed() -> Iterator[None]:
    """Put signals off until the end of the block: a second Ctrl-C must not leave half of the programs running."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
