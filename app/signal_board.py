"""Reads and writes what is measured: the one place that knows the keys of `app.signals`.

What is not written anew for `BELIEVED_S` disappears: nobody takes the last word of a dead process for the present. What
cannot be read, as another version of Tandem might leave it, counts as not there. Every method raises `StoreUnavailable`
when Redis cannot do it.
"""

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import msgspec
import redis

from app import logs
from app.ledger.scripts import unavailable
from app.lua_script import LuaScript
from app.signals import BELIEVED_S, BOUNDS_S, WINDOW_S, GatewayReport, ServerSignals

_BELIEVED_MS = round(BELIEVED_S * 1000)
_BATCH = 1000  # tenants that one command notes, so that none keeps Redis from others for long

Report = TypeVar("Report", GatewayReport, ServerSignals)


class SignalBoard:
    """The signals in Redis. Safe to share between threads."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._count_users = LuaScript(client, "count_users")

    def now_ms(self) -> int:
        """Return Unix time by Redis's clock."""
        with _translating():
            seconds, micros = self._client.time()
        return int(seconds) * 1000 + int(micros) // 1000

    def put_gateway(self, report: GatewayReport, tenants: Collection[str] = ()) -> None:
        """Publish what a gateway process has measured, and note that these tenants had a request."""
        seen = list(tenants)
        with _translating(), self._client.pipeline(transaction=False) as pipeline:
            pipeline.set(f"gateway:{report.server}:{report.pid}", msgspec.json.encode(report), px=_BELIEVED_MS)
            pipeline.zadd(f"gateways:{report.server}", {str(report.pid): report.at_ms})
            pipeline.zremrangebyscore(f"gateways:{report.server}", "-inf", report.at_ms - _BELIEVED_MS)
            for start in range(0, len(seen), _BATCH):
                pipeline.zadd("users", dict.fromkeys(seen[start:start + _BATCH], report.at_ms))
            pipeline.execute()

    def gateways(self, server: str) -> list[GatewayReport]:
        """Return what the live gateway processes of a server have measured."""
        with _translating():
            pids = self._client.zrange(f"gateways:{server}", 0, -1)
            found = self._client.mget([f"gateway:{server}:{pid.decode()}" for pid in pids]) if pids else []
        reports = [_read(text, GatewayReport) for text in found if text]
        return [report for report in reports if report and _has_our_bounds(report)]

    def put_server(self, signals: ServerSignals) -> None:
        """Publish what a server has measured of itself."""
        with _translating():
            self._client.set(f"signals:{signals.server}", msgspec.json.encode(signals), px=_BELIEVED_MS)

    def servers(self, names: Sequence[str]) -> dict[str, ServerSignals | None]:
        """Return what these servers have measured, None for each of which nothing is heard."""
        with _translating():
            found = self._client.mget([f"signals:{name}" for name in names]) if names else []
        return {name: _read(text, ServerSignals) if text else None for name, text in zip(names, found, strict=True)}

    def users(self) -> int:
        """Count the tenants that had a request, or a live job, in the last `WINDOW_S`."""
        return int(self._count_users(("users", "inflight"), WINDOW_S * 1000))


@contextmanager
def _translating() -> Iterator[None]:
    try:
        yield
    except (redis.exceptions.RedisError, OSError) as exc:
        raise unavailable(exc) from exc


def _has_our_bounds(report: GatewayReport) -> bool:
    """Whether its times can be added to others: another version of Tandem may have other buckets."""
    return len(report.calls.counts) == len(report.answers.counts) == len(BOUNDS_S) + 1


def _read(text: bytes, kind: type[Report]) -> Report | None:
    try:
        return msgspec.json.decode(text, type=kind)
    except msgspec.MsgspecError as exc:
        logs.event("signals_unreadable", kind=kind.__name__, why=str(exc))
        return None
