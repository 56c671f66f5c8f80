"""Which processes of the machine use the most, over a short while. Of a command line, which may hold a secret, nothing is
told but the program, and the module or script that an interpreter runs."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil

from app.investigation_records import Process

_OVER_S = 0.5  # how long their use of CPUs is watched
_MOST = 10
_MB = 1_048_576
_MOST_NAME = 60  # characters


def top(workers: Mapping[int, str]) -> tuple[tuple[Process, ...], tuple[Process, ...]]:
    """Return the processes that use the most CPU, and those that use the most memory. `workers` are node names by pid."""
    before = {each.pid: used for each in psutil.process_iter() if (used := _cpu_s(each)) is not None}
    began_s = time.monotonic()
    time.sleep(_OVER_S)
    found = []
    for each in psutil.process_iter():
        if each.pid in before and (process := _process(each, before[each.pid], began_s, workers.get(each.pid, ""))):
            found.append(process)
    by_cpu = sorted(found, key=lambda each: -each.cpu_percent)[:_MOST]
    by_memory = sorted(found, key=lambda each: -each.memory_mb)[:_MOST]
    return tuple(by_cpu), tuple(by_memory)


def program(name: str, command_line: Sequence[str]) -> str:
    """Return what a process is: its program's name, and of Python's the module or script, too."""
    if not name.startswith("python"):
        return name
    arguments = list(command_line[1:])
    while arguments and arguments[0].startswith("-"):
        if arguments[0] == "-m" and len(arguments) > 1:
            return f"{name} -m {arguments[1]}"[:_MOST_NAME]
        if arguments[0] == "-c":
            return f"{name} -c"
        arguments = arguments[2:] if arguments[0] in ("-W", "-X") else arguments[1:]
    return f"{name} {Path(arguments[0]).name}"[:_MOST_NAME] if arguments else name


def _cpu_s(process: psutil.Process) -> float | None:
    try:
        times = process.cpu_times()
    except psutil.Error:  # it ended, or is another user's
        return None
    return float(times.user + times.system)


def _process(each: psutil.Process, before_s: float, began_s: float, worker: str) -> Process | None:
    try:
        with each.oneshot():
            used_s = _cpu_s(each)
            if used_s is None:
                return None
            share = max(used_s - before_s, 0.0) / max(time.monotonic() - began_s, 0.001)
            return Process(pid=each.pid, name=program(each.name(), each.cmdline()), worker=worker,
                           cpu_percent=round(100 * share, 1), memory_mb=round(each.memory_info().rss / _MB, 1),
                           threads=each.num_threads())
    except psutil.Error:
        return None
