"""The cloud workers, as home knows them: who is heard of, what each newcomer must know, and what is left of those gone.

A stop goes to one worker where it is known who runs the job, and to all where that is not known. Whoever appears after
that would run what is void, so stops to all are remembered for a while, and told to newcomers.
"""

import msgspec
import redis

from app import logs
from app.cloud_registry import CloudRegistry
from app.ledger.scripts import unavailable
from app.settings import Settings
from routing.cloud import words

#: How long a stop to all is told to newcomers. A worker that comes later and takes a void errand runs it until its first
#: report is refused.
REMEMBERED_S = 600.0

#: The stops queue of a worker that is silent for so long is deleted.
GONE_S = 3600.0

_MOST_REMEMBERED = 10_000  # newest; a newcomer gets them in messages of a few hundred
_SHORTEST_LIFE_S = 15.0  # an entry outlives a lost report or two, however often they come
_LIFE_BEATS = 4

_VOID = "cloud:void"  # ZSET: tickets that stops to all named, by when they did (ms)


class Fleet:
    """Keeps the entries of cloud workers. Every method raises `StoreUnavailable`."""

    def __init__(self, client: redis.Redis, settings: Settings) -> None:
        self._client = client
        self._registry = CloudRegistry(client)
        self._life_s = max(_SHORTEST_LIFE_S, _LIFE_BEATS * settings.cloud_beat_s)

    def hear(self, worker: words.Worker) -> bool:
        """Note what a worker says of itself; return whether it is a newcomer."""
        appeared = self._registry.hear(worker.name, {
            "processor": worker.processor, "slots": worker.slots, "busy": worker.busy, "engine": worker.engine,
            "stopping": int(worker.stopping), "figures": msgspec.json.encode(worker.figures).decode()},
            life_s=self._life_s)
        if appeared:
            logs.event("cloud_worker_appeared", worker=worker.name, slots=worker.slots, engine=worker.engine)
        return appeared

    def live(self) -> list[str]:
        """Return the names of the workers that live."""
        return [worker.name for worker in self._registry.workers()]

    def known(self) -> set[str]:
        """Return the names of the workers that live, or have not been silent for `GONE_S`."""
        return set(self._registry.known())

    def remember(self, void: list[str]) -> None:
        """Remember tickets that stops to all named, for newcomers."""
        if not void:
            return
        try:
            seconds, micros = self._client.time()
            now_ms = seconds * 1000 + micros // 1000
            with self._client.pipeline(transaction=False) as pipeline:
                pipeline.zadd(_VOID, dict.fromkeys(void, now_ms))
                pipeline.zremrangebyscore(_VOID, "-inf", now_ms - 1000 * REMEMBERED_S)
                pipeline.zremrangebyrank(_VOID, 0, -_MOST_REMEMBERED - 1)
                pipeline.pexpire(_VOID, round(1000 * REMEMBERED_S))
                pipeline.execute()
        except (redis.exceptions.RedisError, OSError) as exc:
            raise unavailable(exc) from exc

    def remembered(self) -> list[str]:
        """Return the tickets that a newcomer must know to be void."""
        try:
            seconds, _ = self._client.time()
            found = self._client.zrangebyscore(_VOID, 1000 * (seconds - REMEMBERED_S), "+inf")
        except (redis.exceptions.RedisError, OSError) as exc:
            raise unavailable(exc) from exc
        return [ticket.decode() for ticket in found]

    def gone(self) -> list[str]:
        """Return the names of the workers that have been silent for `GONE_S`."""
        return self._registry.silent(GONE_S)

    def forget(self, name: str) -> None:
        """Forget a worker whose queue has been deleted."""
        self._registry.forget(name)
        logs.event("cloud_worker_forgotten", worker=name)
