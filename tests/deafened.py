"""Makes a process deaf: its main thread stops, and all its other threads go on, as when a main loop hangs for good."""

import ctypes
import os
from types import TracebackType

_SEIZE, _INTERRUPT, _DETACH = 0x4206, 0x4207, 17  # linux/ptrace.h
_ALL = 0x40000000  # __WALL: children or not

_libc = ctypes.CDLL(None, use_errno=True)


class Deafened:
    """A process whose main thread this thread holds. It must be left by the thread that entered it."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._gone = False

    def __enter__(self) -> "Deafened":
        _ptrace(_SEIZE, self.pid)
        _ptrace(_INTERRUPT, self.pid)
        _, status = os.waitpid(self.pid, _ALL)
        assert os.WIFSTOPPED(status), f"pid {self.pid} did not stop: {status:#x}"
        return self

    def is_gone(self) -> bool:
        """Whether the process has ended meanwhile. Its parent learns of that only when this was asked."""
        if not self._gone:
            pid, status = os.waitpid(self.pid, _ALL | os.WNOHANG)
            self._gone = pid == self.pid and (os.WIFEXITED(status) or os.WIFSIGNALED(status))
        return self._gone

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None) -> None:
        if not self.is_gone():
            _ptrace(_DETACH, self.pid)


def _ptrace(request: int, pid: int) -> None:
    if _libc.ptrace(ctypes.c_long(request), ctypes.c_long(pid), None, None) == -1:
        number = ctypes.get_errno()
        raise OSError(number, f"ptrace {request:#x} of pid {pid}: {os.strerror(number)}; this needs the right to trace "
                              "the processes they start (CAP_SYS_PTRACE, or kernel.yama.ptrace_scope 0)")
