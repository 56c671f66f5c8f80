"""wrk, the load generator for calls that may be repeated without end: a C program that costs the subject little CPU."""

import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from app.topology import Address
from ops.bench.call import Call
from ops.bench.errors import NotAsPromised, NotInstalled

CONNECTIONS = 64
_WARM_UP_S = 1
_TIMEOUT_S = 15  # an answer later than this is an error
_SCRIPT = Path(__file__).with_suffix(".lua")


@dataclass(frozen=True, slots=True)
class Load:
    """What wrk saw, all answers being good."""

    per_s: float
    mean_ms: float
    p99_ms: float


def check_installed() -> None:
    """Raise `NotInstalled` where there is no wrk."""
    if shutil.which("wrk") is None:
        raise NotInstalled("wrk was not found; `apt-get install wrk`")


def load(call: Call, address: Address, seconds: float) -> Load:
    """Repeat a call over 64 connections, after a warm-up. Raises `NotAsPromised` unless every answer is good."""
    warm_up(call, address)
    return load_warm(call, address, seconds)


def warm_up(call: Call, address: Address) -> None:
    """Make connections, fill caches, verify the token for the first time. Raises `NotAsPromised`."""
    call.once(address)  # an answer that is good, but not the one expected, is found here
    _run(call, address, _WARM_UP_S)


def load_warm(call: Call, address: Address, seconds: float) -> Load:
    """As `load`, where the warm-up has been."""
    return _run(call, address, max(round(seconds), 1))


def _run(call: Call, address: Address, seconds: int) -> Load:
    command = ["wrk", "--threads", "1", "--connections", str(CONNECTIONS), "--duration", f"{seconds}s",
               "--timeout", f"{_TIMEOUT_S}s", "--script", str(_SCRIPT), f"http://{address}{call.path}"]
    environ = {**os.environ, "BENCH_METHOD": call.method, "BENCH_BODY": call.body, "BENCH_TOKEN": call.token}
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    if done.returncode:
        raise NotAsPromised(f"wrk ended with status {done.returncode}: {done.stdout[-300:]}{done.stderr[-300:]}")
    seen = json.loads(done.stdout.splitlines()[-1])
    if seen["bad_status"] or seen["bad_connections"] or seen["timeouts"] or not seen["answers"]:
        raise NotAsPromised(f"{call.method} {call.path} under load: {json.dumps(seen)}; every answer must be good")
    return Load(seen["answers"] / seen["seconds"], seen["mean_ms"], seen["p99_ms"])
