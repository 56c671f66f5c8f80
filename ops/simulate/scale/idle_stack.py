"""What servers ask of Redis when nobody asks anything of them: beats, reports, looks. A real stack, for some seconds."""

import time
from dataclasses import dataclass
from pathlib import Path

import redis

from ops.sandbox import Sandbox

_SETTLED_S = 5.0  # after its start, before it is looked at


@dataclass(frozen=True, slots=True, kw_only=True)
class Idle:
    """Of one server of two, the other services that a stack has included."""

    connections: float
    commands_s: float
    scripts_s: float
    redis_percent: float  # of a processor


def measure(folder: Path, *, seconds: float) -> Idle:
    """Start the stack of two servers that the topology file describes, look, and stop it."""
    stack = Sandbox.lay(folder)
    stack.up()
    try:
        with stack.client() as client:
            time.sleep(_SETTLED_S)
            before, began = _counts(client), time.perf_counter()
            time.sleep(seconds)
            after, took_s = _counts(client), time.perf_counter() - began
            connections = int(client.info("clients")["connected_clients"]) - 1  # this one
    finally:
        stack.down()
    commands, scripts, used_s = ((now - then) / took_s for now, then in zip(after, before, strict=True))
    return Idle(connections=connections / 2, commands_s=commands / 2, scripts_s=scripts / 2, redis_percent=100 * used_s / 2)


def _counts(client: redis.Redis) -> tuple[float, float, float]:
    commands, used = client.info("commandstats"), client.info("cpu")
    return (float(client.info("stats")["total_commands_processed"]),
            float(commands.get("cmdstat_evalsha", {}).get("calls", 0)),
            float(used["used_cpu_user"] + used["used_cpu_sys"]))
