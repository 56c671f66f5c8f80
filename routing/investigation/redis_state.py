"""How Redis is: its slow log, its latency monitor and its main figures. Arguments of commands are left out, as they hold
prompts and keys."""

import functools
import hashlib
from pathlib import Path
from typing import Any

import redis

import app
from app.investigation_records import LatencyEvent, SlowCommand
from app.ledger.scripts import SOURCES

_MOST = 20  # commands of the slow log, and points of an event's history
_READ = 128  # of the slow log: as many as Redis keeps, unless it is told otherwise
_LATELY_MS = 600_000
_INFO = ("redis_version", "role", "uptime_in_seconds", "connected_clients", "blocked_clients", "used_memory",
         "used_memory_peak", "maxmemory", "mem_fragmentation_ratio", "instantaneous_ops_per_sec",
         "total_commands_processed", "evicted_keys", "rejected_connections", "latest_fork_usec", "aof_enabled",
         "aof_delayed_fsync", "aof_last_write_status", "aof_rewrite_in_progress", "rdb_last_bgsave_status",
         "connected_slaves", "master_link_status", "used_cpu_sys", "used_cpu_user")


def figures(client: redis.Redis) -> dict[str, str | int | float]:
    """Return the figures of INFO that matter here, and whether the monitor is on."""
    info = client.info("everything")
    found: dict[str, str | int | float] = {name: info[name] for name in _INFO
                                           if isinstance(info.get(name), str | int | float)}
    for setting in ("slowlog-log-slower-than", "latency-monitor-threshold"):
        found |= {name: str(value) for name, value in client.config_get(setting).items()}
    return found


def slow_log(client: redis.Redis, *, now_ms: int) -> tuple[SlowCommand, ...]:
    """Return the slow commands of the last minutes, slowest first."""
    found = [SlowCommand(at_s=int(each["start_time"]), took_ms=each["duration"] / 1000, command=_named(each["command"]))
             for each in client.slowlog_get(_READ) if each["start_time"] * 1000 >= now_ms - _LATELY_MS]
    return tuple(sorted(found, key=lambda each: -each.took_ms)[:_MOST])


def latency(client: redis.Redis) -> tuple[LatencyEvent, ...]:
    """Return what the latency monitor has noted; nothing where it is off (latency-monitor-threshold 0)."""
    found = []
    for name, at_s, latest_ms, worst_ms, *_ in client.execute_command("LATENCY", "LATEST"):
        history = client.execute_command("LATENCY", "HISTORY", name)[-_MOST:]
        found.append(LatencyEvent(event=_text(name), at_s=at_s, latest_ms=latest_ms, worst_ms=worst_ms,
                                  history=tuple((when_s, ms) for when_s, ms in history)))
    return tuple(found)


def _named(command: bytes) -> str:
    """Return a command's name, and whose script it ran."""
    words = command.split(b" ", 2)
    name = _text(words[0]).upper()[:40]
    if name in ("EVALSHA", "EVALSHA_RO") and len(words) > 1:
        return f"{name} {_scripts().get(_text(words[1]).lower(), 'of an unknown script')}"
    return name


@functools.cache
def _scripts() -> dict[str, str]:
    """Return our scripts' names by what Redis knows them by."""
    texts = {path.stem: path.read_text(encoding="utf-8") for path in (Path(app.__file__).parent / "lua").glob("*.lua")}
    texts |= {f"ledger.{name}": text for name, text in SOURCES.items()}
    return {hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest(): name for name, text in texts.items()}


def _text(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)
