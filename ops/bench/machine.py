"""What the figures were measured on and with."""

import datetime
import os
import re
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

import psutil

from ops import embedded_redis
from ops.bench.environment import Environment
from ops.bench.figures import Spread
from ops.bench.subjects.peer import HOME

_OURS = ("celery", "flask", "gunicorn", "gevent", "redis")
_MODEL = ("torch", "transformers")
_PEERS = ("dramatiq", "huey")
_WRITES, _WRITTEN_BYTES = 200, 4096  # as a batch of a few submits makes them


def describe(arguments: Sequence[str], busy_percent: Sequence[float]) -> list[tuple[str, str]]:
    """Return what a reader needs to judge or repeat the run, as names and values."""
    busy = Spread.of(busy_percent)
    return [
        ("command", f"`{shlex.join(['python', '-m', 'ops.bench', *arguments])}`"),
        ("date", datetime.datetime.now(datetime.UTC).date().isoformat()),
        ("commit", _commit()),
        ("machine", f"{_processor()}, {os.cpu_count()} cores, {psutil.virtual_memory().total / 2**30:.0f} GiB"),
        ("disk", f"a write of {_WRITTEN_BYTES} bytes is safe on it after {_safe_after_ms():.2f} ms (median of {_WRITES}); "
         "Tandem's ledger waits for that, the peers do not"),
        ("other programs", f"kept the machine {busy.median:.0f}% busy ({busy.lowest:.0f}% to {busy.highest:.0f}%), as seen "
         "before each start of a subject; much more than 5% makes the figures worth little"),
        ("versions", ", ".join(f"{name} {version}" for name, version in _versions().items())),
    ]


def _safe_after_ms() -> float:
    """Return how long fsync takes where Redis's append-only file lies."""
    took_ms = []
    with tempfile.TemporaryFile(dir=HOME, buffering=0) as file:
        for _ in range(_WRITES):
            file.write(bytes(_WRITTEN_BYTES))
            began = time.perf_counter()
            os.fsync(file.fileno())
            took_ms.append(1000 * (time.perf_counter() - began))
    return statistics.median(took_ms)


def _commit() -> str:
    commit = _said("git", "rev-parse", "--short=12", "HEAD") or "unknown"
    return commit + (" with changes not committed" if _said("git", "status", "--porcelain") else "")


def _said(*command: str) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    except FileNotFoundError:
        return ""


def _processor() -> str:
    found = re.search(r"(?m)^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text())
    return found[1] if found else "a processor of unknown make"


def _versions() -> dict[str, str]:
    """Tandem and its peers run with the same versions of what they share; Environment.prepare has seen to it."""
    redis_server = re.search(r"v=(\S+)", _said(embedded_redis.find_program(), "--version"))
    return {
        "Python": sys.version.split()[0],
        **{"redis-py" if name == "redis" else name: metadata.version(name) for name in _OURS + _MODEL},
        "Redis": redis_server[1] if redis_server else "unknown",
        **{name: Environment(name, HOME).pins[name] for name in _PEERS},
    }
