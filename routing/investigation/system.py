"""What one queue worker sees of the whole: slow jobs, queues and workers, the signals' levels, Redis, the cloud."""

import time
from collections.abc import Callable, Sequence
from typing import TypeVar

import msgspec
import redis

from app import cloud_state, queues
from app.errors import StoreUnavailable
from app.investigation_records import LevelShown, QueueState, SlowCommand, SystemPart
from app.job import Service
from app.queues import Queue
from app.registry import Registry
from app.routing_records import Shown
from app.settings import Settings
from routing.investigation import jobs, redis_state
from routing.investigation.server import worker_states

Found = TypeVar("Found")


def look(client: redis.Redis, settings: Settings, servers: Sequence[str], *, who: str, now_ms: int) -> SystemPart:
    """Return what there is to see now. What cannot be seen is left out, with a note that says why."""
    began_s = time.monotonic()
    notes: list[str] = []

    def tried(what: str, see: Callable[[], Found], nothing: Found) -> Found:
        try:
            return see()
        except (redis.exceptions.RedisError, StoreUnavailable, OSError) as exc:
            notes.append(f"{what} cannot be told: {type(exc).__name__}: {exc}")
            return nothing

    # before we add to it
    slow_log: tuple[SlowCommand, ...] = tried("Redis's slow log", lambda: redis_state.slow_log(client, now_ms=now_ms), ())
    found: dict[Service, Queue] = tried("how the queues stand", lambda: queues.read(client), {})
    shown = tried("how routing stood", lambda: _shown(client), None)
    part = SystemPart(
        who=who, at_ms=now_ms, servers=tuple(servers), took_s=0.0,
        slowest=tried("which jobs were slowest", lambda: jobs.ended(client, now_ms=now_ms), ()),
        running=tried("which jobs run", lambda: jobs.running(client, now_ms=now_ms), ()),
        waiting=tried("which jobs wait", lambda: jobs.waiting(client, now_ms=now_ms), ()),
        queues=tuple(_queue(service, queue) for service, queue in found.items()),
        workers=tried("how the workers are", lambda: worker_states(Registry(client).workers(), now_ms), ()),
        cloud=tried("how the cloud stands", lambda: _cloud(client, settings, found), {}),
        levels=_levels(shown) if shown else (), reason=shown.decision.reason if shown else "nobody leads routing",
        redis=tried("Redis's figures", lambda: redis_state.figures(client), {}),
        slow_log=slow_log, latency=tried("Redis's latency", lambda: redis_state.latency(client), ()))
    return msgspec.structs.replace(part, notes=tuple(notes), took_s=round(time.monotonic() - began_s, 3))


def _shown(client: redis.Redis) -> Shown | None:
    text = client.get("routing:shown")
    try:
        return msgspec.json.decode(text, type=Shown) if text else None
    except msgspec.MsgspecError as exc:
        raise StoreUnavailable(f"the round that is shown cannot be read ({exc}); another version of Tandem leads") from exc


def _levels(shown: Shown) -> tuple[LevelShown, ...]:
    return tuple(LevelShown(signal=name, level=gauge.level, value=gauge.value, since_s=gauge.since_s)
                 for name, gauge in sorted(shown.remembered.gauges.items()))


def _queue(service: Service, queue: Queue) -> QueueState:
    return QueueState(service=service.value, waiting=queue.waiting, woken=queue.woken, running=queue.running,
                      in_cloud=queue.in_cloud, sent=queue.sent, held=queue.held, oldest_s=queue.oldest_s)


def _cloud(client: redis.Redis, settings: Settings,
           found: dict[Service, Queue]) -> dict[str, str | int | float | bool | None]:
    cloud = cloud_state.read(client, settings, found)
    if cloud is None:
        return {}
    return {"reachable": cloud.reachable, "sent": cloud.sent, "running": cloud.running, "workers": len(cloud.workers),
            "slots": sum(worker.slots for worker in cloud.workers), "busy": sum(worker.busy for worker in cloud.workers),
            "unreached": "; ".join(f"{link.who}: {link.why}" for link in cloud.links if not link.reachable)}
