"""Where the threads of workers are, by py-spy, from the outside: a worker that hangs could not say it itself.

py-spy only reads the worker's memory (`--nonblocking`) and never stops it, because a py-spy that is killed, or loops, in
between leaves a stopped worker behind (https://github.com/benfred/py-spy/issues/390), and because stopping one that is
stopped already, as a paused one is, fails. The cost: a stack that changes while it is read may be mixed from two moments,
or cannot be read, and then it is tried again.
"""

import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

from app.investigation_records import ProcessStacks, ThreadStack
from app.worker_entry import WorkerEntry

#: For all workers of a server together: a report is to be there within seconds.
TIME_S = 8.0
_ONE_S = 3.0  # for one of them
_TRIES = 3
_MOST_FRAMES = 30  # of a stack, innermost first
_MOST_GROUPS = 60  # of threads at the same place, per process
_MOST_NAMES = 3  # of a group's threads that are named
_MOST_TEXT = 200  # characters of a name
_BEGINNINGS = {"Thread.run", "Thread._bootstrap_inner", "Thread._bootstrap"}

FORBIDDEN = ("not permitted: the queue worker may not read the memory of other processes; give it CAP_SYS_PTRACE (in "
             "Docker: --cap-add SYS_PTRACE), or set kernel.yama.ptrace_scope to 0 where both run as one user")


class _Frame(msgspec.Struct):
    name: str
    short_filename: str | None = None
    filename: str = ""
    line: int = 0


class _Thread(msgspec.Struct):
    active: bool
    owns_gil: bool
    frames: list[_Frame]
    thread_name: str | None = None


def program() -> Path:
    """Return py-spy's program, which is installed beside this interpreter."""
    return Path(sys.executable).with_name("py-spy")


def stacks_of(workers: Sequence[WorkerEntry]) -> tuple[ProcessStacks, ...]:
    """Return the stacks of these workers, which run on this machine, within `TIME_S`."""
    end_s = time.monotonic() + TIME_S
    return tuple(_stacks(worker, end_s) for worker in workers)


def _stacks(worker: WorkerEntry, end_s: float) -> ProcessStacks:
    told = ProcessStacks(worker=worker.name, pid=worker.pid, busy=worker.busy)
    note = "there was no time left for it"
    for _ in range(_TRIES):
        left_s = min(end_s - time.monotonic(), _ONE_S)
        if left_s <= 0:
            break
        try:
            threads = _dump(worker.pid, left_s)
        except subprocess.TimeoutExpired:
            note = f"py-spy did not end within {left_s:.1f} s"
        except (OSError, _Unreadable) as exc:
            note = str(exc)
            if note == FORBIDDEN or isinstance(exc, OSError):
                break
        else:
            return _grouped(told, threads)
    return msgspec.structs.replace(told, note=note)


class _Unreadable(Exception):
    """py-spy could not read the stacks, and says why."""


def _dump(pid: int, timeout_s: float) -> list[_Thread]:
    done = subprocess.run([str(program()), "dump", "--pid", str(pid), "--json", "--nonblocking"], capture_output=True,
                          timeout=timeout_s, check=False, stdin=subprocess.DEVNULL)
    if done.returncode:
        raise _Unreadable(_reason(done.stderr.decode(errors="replace")))
    try:
        return msgspec.json.decode(done.stdout, type=list[_Thread])
    except msgspec.MsgspecError as exc:
        raise _Unreadable(f"what py-spy wrote cannot be read ({exc})") from exc


def _reason(said: str) -> str:
    if "permission denied" in said.lower() or "not permitted" in said.lower():
        return FORBIDDEN
    lines = [line.strip() for line in said.partition("Stack backtrace")[0].splitlines() if line.strip()]
    return f"py-spy: {' '.join(lines)[:300] or 'no reason given'}"


def _grouped(told: ProcessStacks, threads: Sequence[_Thread]) -> ProcessStacks:
    """Return the threads by where they are: those that hold the interpreter first, then those that run."""
    groups: dict[tuple[str, ...], list[_Thread]] = {}
    for thread in threads:
        groups.setdefault(_frames(thread), []).append(thread)
    found = [ThreadStack(
        names=tuple(dict.fromkeys((each.thread_name or "unnamed")[:_MOST_TEXT] for each in group))[:_MOST_NAMES],
        count=len(group), active=any(each.active for each in group), holds_gil=any(each.owns_gil for each in group),
        frames=frames) for frames, group in groups.items()]
    found.sort(key=lambda each: (not each.holds_gil, not each.active, -each.count))
    note = "" if len(found) <= _MOST_GROUPS else f"{len(found) - _MOST_GROUPS} more places where threads wait are left out"
    return msgspec.structs.replace(told, threads=tuple(found[:_MOST_GROUPS]), note=note)


def _frames(thread: _Thread) -> tuple[str, ...]:
    """Return a thread's frames, innermost first, without those by which every thread begins."""
    frames = thread.frames
    while len(frames) > 1 and frames[-1].name in _BEGINNINGS:
        frames = frames[:-1]
    return tuple(f"{frame.name} ({frame.short_filename or frame.filename}:{frame.line})"[:_MOST_TEXT]
                 for frame in frames[:_MOST_FRAMES])
