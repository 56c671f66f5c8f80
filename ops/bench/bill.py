"""Who pays for a call or a job: the processor time of each kind of process in a stack."""

import os
import time
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress

import psutil

#: What a command line holds -> what the process is; the first that fits.
_KINDS = {
    "gunicorn": "gateways", "redis-server": "Redis", "flower": "Flower", "-Q model": "model workers",
    "-Q queue": "queue workers (recovery)", "celery": "other workers",
}
_OTHER = "supervisors"
_CLIENT = "this measurement"


def processor_s(supervisors: Iterable[int]) -> Counter[str]:
    """Return kind of process -> seconds of processor time until now: of all processes under these, of ourselves, and of
    what we ran."""
    ended = os.times()
    spent = Counter({_CLIENT: time.process_time() + ended.children_user + ended.children_system})
    for pid in supervisors:
        root = psutil.Process(pid)
        for process in [root, *root.children(recursive=True)]:
            with suppress(psutil.NoSuchProcess):
                times = process.cpu_times()
                spent[_kind(process.cmdline())] += times.user + times.system
    return spent


def table(what: str, spent_s: Counter[str], *, count: float, took_s: float) -> str:
    """Return as Markdown what each kind of process spent on one of `count`, called `what`."""
    spent = Counter({kind: 1e6 * seconds / count for kind, seconds in spent_s.items()})
    lines = [f"{what} takes {spent.total():.0f} µs of processor time, at {count / took_s:,.0f} a second, spent by:", "",
             "| process | µs | share |", "|---|---|---|"]
    lines += [f"| {kind} | {us:.0f} | {us / spent.total():.0%} |" for kind, us in spent.most_common()]
    return "\n".join(lines)


def _kind(command: list[str]) -> str:
    line = " ".join(command)
    return next((kind for mark, kind in _KINDS.items() if mark in line), _OTHER)
