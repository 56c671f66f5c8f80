"""Samples where a gateway's processor time goes. gunicorn reads this file as its configuration:

    GUNICORN_CMD_ARGS=--config=python:ops.bench.sampler

The kernel interrupts the process after every few ms of processor time (ITIMER_PROF); the time since the last interrupt is
put down to the function at work. Unlike cProfile this slows nothing down and is not confused by greenlets. Time in C
counts for the Python function that called it.
"""

import json
import os
import signal
import time
from collections import defaultdict
from pathlib import Path
from types import FrameType
from typing import Any

#: Names the folder that the samples are written to, when the gateway ends.
FOLDER_VARIABLE = "BENCH_SAMPLES"

_EVERY_S = 0.004  # of processor time: the kernel's tick is not finer

#: Whole Unix second -> function -> processor seconds.
_seen: defaultdict[int, dict[str, float]] = defaultdict(dict)
_last = [0.0]  # processor seconds of the process at the last sample


def post_worker_init(_worker: Any) -> None:
    """Begin; gunicorn calls it in each gateway process, ready to serve."""
    _last[0] = time.process_time()
    signal.signal(signal.SIGPROF, _sample)
    signal.setitimer(signal.ITIMER_PROF, _EVERY_S, _EVERY_S)


def _sample(_number: int, frame: FrameType | None) -> None:
    now, before = time.process_time(), _last[0]
    _last[0] = now
    if frame is not None:
        function = f"{frame.f_code.co_filename}:{frame.f_code.co_name}"
        second = _seen[int(time.time())]
        second[function] = second.get(function, 0.0) + now - before


def worker_exit(_server: Any, _worker: Any) -> None:
    """Write down what was seen; gunicorn calls it in each gateway process as it ends."""
    signal.setitimer(signal.ITIMER_PROF, 0)
    path = Path(os.environ[FOLDER_VARIABLE]) / f"{os.getpid()}.json"
    path.write_text(json.dumps(_seen))
