"""What is known at home of the cloud: its workers, as they say themselves with each report, and whether the queues between
us can be reached.

    cloud:workers        ZSET    names of cloud workers, by when they were last heard of (ms)
    cloud:worker:<name>  HASH    what a live one says of itself; it disappears when nothing more is heard
    cloud:links          HASH    thread of a queue worker at home -> whether it reaches the queues, as JSON

The workers at home are in `app.registry`, which counts them for the windows of their services' queues; these do not count
there, as no queue at home feeds them. Every method raises `StoreUnavailable` when Redis cannot do it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import msgspec
import redis

from app import logs
from app.ledger.scripts import unavailable
from app.lua_script import LuaScript
from app.worker_entry import Figures

#: How often a thread says whether it reaches the queues.
LINK_SAID_S = 5.0
_BELIEVED_S = 15.0  # what it said: a worker that died says nothing
_TROUBLE_BELIEVED_S = 90.0  # that it does not reach them: it may say nothing for as long as it tries


@dataclass(frozen=True, slots=True, kw_only=True)
class CloudWorker:
    """A live cloud worker."""

    name: str  # Celery node name
    processor: str  # labels of the processors that it is pinned to, with commas; empty: not pinned
    slots: int
    busy: int
    engine: str
    stopping: bool  # it takes nothing new
    heard_s: float  # how long ago it was last heard of
    figures: Figures


class CloudLink(msgspec.Struct, frozen=True, kw_only=True):
    """How a thread of a queue worker stands with the queues."""

    who: str  # the thread, e.g. "queue@server-1 hearing"
    why: str  # it does not reach them; empty: it does
    for_s: float  # how long it had been so when it was said
    said_ms: int  # Unix time by Redis's clock

    @property
    def reachable(self) -> bool:
        """Whether it reaches them."""
        return not self.why


class CloudRegistry:
    """Reads and writes the entries."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._note = LuaScript(client, "hear_cloud_worker")

    def hear(self, name: str, fields: dict[str, str | int], *, life_s: float) -> bool:
        """Note what a worker says of itself; return whether it had not been heard of for `life_s`."""
        pairs = [part for pair in fields.items() for part in pair]
        return bool(self._note(("cloud:workers", f"cloud:worker:{name}"), name, round(life_s * 1000), *pairs))

    def workers(self) -> list[CloudWorker]:
        """Return the live workers, by name."""
        with _translating():
            now_ms = _now_ms(self._client)
            heard = {name.decode(): ms for name, ms in self._client.zrange("cloud:workers", 0, -1, withscores=True)}
            with self._client.pipeline(transaction=False) as pipeline:
                for name in sorted(heard):
                    pipeline.hgetall(f"cloud:worker:{name}")
                records = pipeline.execute()
        found = [_worker(name, record, now_ms - heard[name])
                 for name, record in zip(sorted(heard), records, strict=True) if record]
        return [worker for worker in found if worker is not None]

    def known(self) -> list[str]:
        """Return the names of the workers that were heard of, live or not, and are not forgotten."""
        with _translating():
            return [name.decode() for name in self._client.zrange("cloud:workers", 0, -1)]

    def silent(self, for_s: float) -> list[str]:
        """Return the names of those that were last heard of so long ago."""
        with _translating():
            until_ms = _now_ms(self._client) - round(for_s * 1000)
            return [name.decode() for name in self._client.zrangebyscore("cloud:workers", "-inf", until_ms)]

    def forget(self, name: str) -> None:
        """Forget a worker."""
        with _translating():
            self._client.zrem("cloud:workers", name)

    def say(self, who: str, why: str, *, for_s: float) -> None:
        """Say that a thread has not reached the queues for so long, and why; or, without a reason, that it has."""
        with _translating():
            link = CloudLink(who=who, why=why, for_s=round(for_s, 3), said_ms=_now_ms(self._client))
            self._client.hset("cloud:links", who, msgspec.json.encode(link))

    def hang_up(self, who: str) -> None:
        """The thread is no more."""
        with _translating():
            self._client.hdel("cloud:links", who)

    def links(self) -> list[CloudLink]:
        """Return what the living threads say, by name."""
        with _translating():
            now_ms = _now_ms(self._client)
            said = self._client.hgetall("cloud:links")
        found = [_link(who.decode(), text) for who, text in sorted(said.items())]
        return [link for link in found if link is not None
                and link.said_ms >= now_ms - 1000 * (_BELIEVED_S if link.reachable else _TROUBLE_BELIEVED_S)]


@contextmanager
def _translating() -> Iterator[None]:
    try:
        yield
    except (redis.exceptions.RedisError, OSError) as exc:
        raise unavailable(exc) from exc


def _now_ms(client: redis.Redis) -> int:
    seconds, micros = client.time()
    return int(seconds) * 1000 + int(micros) // 1000


def _worker(name: str, record: dict[bytes, bytes], silent_ms: float) -> CloudWorker | None:
    """Return a worker's entry, or None for one that cannot be read, as another version of Tandem might leave."""
    text = {key.decode(): value.decode(errors="replace") for key, value in record.items()}
    try:
        return CloudWorker(
            name=name, processor=text["processor"], slots=int(text["slots"]), busy=int(text["busy"]),
            engine=text["engine"], stopping=text["stopping"] == "1", heard_s=round(max(silent_ms, 0.0) / 1000, 3),
            figures=_numbers(msgspec.json.decode(text["figures"], type=dict[str, Any])))
    except (KeyError, ValueError, msgspec.MsgspecError) as exc:
        logs.event("cloud_worker_unreadable", worker=name, why=f"{type(exc).__name__}: {exc}")
        return None


def _numbers(figures: dict[str, Any]) -> Figures:
    """Return the figures that are numbers: what else a worker tells is not for operators' charts."""
    return {name: value for name, value in figures.items()
            if isinstance(value, int | float) and not isinstance(value, bool)}


def _link(who: str, text: bytes) -> CloudLink | None:
    try:
        return msgspec.json.decode(text, type=CloudLink)
    except msgspec.MsgspecError as exc:
        logs.event("cloud_link_unreadable", link=who, why=str(exc))
        return None
