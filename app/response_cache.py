"""The response cache: answers that were given, for those who ask the same again; and the cache service's own values.

It lies on the main Redis, on one of its own, or on a cluster (`app.response_cache_store`). A broken cache is an empty one:
`get` and `put` never raise, and wait for it little (`app.response_cache_guard`).

    answers:{bucket}:generation             of everything
    answers:{bucket}:generation:<scope>     of a scope: a tenant, or all that share
    answers:{bucket}:entry:<scope>:<mark>   both generations as they were, then the answer, packed
    cached:<tenant>:<key>                   a value of the cache service

A bucket is a slot of a cluster, so an answer is read with its generations in one round trip. Forgetting is deleting the
generations; the next answer that is kept makes fresh ones, which no older answer carries. A generation that Redis evicts
thus forgets answers, and never brings old ones back. An answer under way while others are forgotten is kept.
"""

import uuid
import zlib
from pathlib import Path
from typing import Any

import msgspec
import redis

from app import logs
from app.errors import StoreUnavailable
from app.response_cache_figures import BYTES, INDEX, Figures
from app.response_cache_guard import Guard
from app.response_cache_store import open_store
from app.settings import Settings

#: zlib's. An answer of 3 kB shrinks to 53 % in 47 us and one of 20 kB to 41 % in 0.6 ms; at level 1 to 55 % in 39 us and to
#: 45 % in 0.3 ms. Nobody waits for it, and unpacking is as quick.
_LEVEL = 6

_ENTRY_COSTS = 500  # bytes of Redis for an entry besides its value: keys and the index, rounded up
_GENERATION_BYTES = 16

_KEEP = (Path(__file__).parent / "lua" / "keep_answer.lua").read_text(encoding="utf-8")
_READ_VALUE = "return {redis.call('GET', KEYS[1]), redis.call('PTTL', KEYS[1])}"


class Entry(msgspec.Struct, frozen=True):
    """An answer: the model that gave it; its result and its usage as JSON."""

    model: str
    result: bytes
    usage: bytes


class ResponseCache:
    """Finds and keeps answers and values. Safe to share between threads, and between greenlets."""

    def __init__(self, settings: Settings, client: redis.Redis) -> None:
        """`client` is of the main Redis; nothing connects before the first use."""
        self._settings = settings
        self._store = open_store(settings, client)
        self._figures = Figures(client)
        self._guard = Guard(self._figures)
        self._life_ms = max(1, round(settings.cache_ttl_s * 1000))

    def get(self, scope: str, fingerprint: str) -> Entry | None:
        """Return the answer that is kept; None where there is none, or the cache is broken."""
        keys = self._keys(scope, fingerprint)
        try:
            kept = self._guard.run(self._store.server(keys[0]), lambda: self._store.run(lambda redis: redis.mget(keys)))
        except StoreUnavailable:
            kept = [None, None, None]
        entry = _opened(keys[0], *kept)
        self._figures.count(**{"hits" if entry else "misses": 1})
        return entry

    def put(self, scope: str, fingerprint: str, entry: Entry) -> None:
        """Keep an answer, unless it is too large or the cache is broken."""
        whole = msgspec.msgpack.encode(entry)
        if len(whole) > self._settings.cache_entry_bytes:
            return
        packed = zlib.compress(whole, _LEVEL)
        keys = self._keys(scope, fingerprint)
        args: list[Any] = [packed, uuid.uuid4().hex[:_GENERATION_BYTES], self._life_ms]
        if self._store.bounded_here:
            keys += [INDEX, BYTES]
            args += [self._settings.cache_max_bytes, _ENTRY_COSTS]
        try:
            self._guard.run(self._store.server(keys[0]), lambda: self._store.run(
                lambda redis: redis.eval(_KEEP, len(keys), *keys, *args)))
        except StoreUnavailable:
            return
        self._figures.count(stores=1, bytes_stored=len(packed))

    def invalidate(self, scope: str | None) -> None:
        """Forget the answers of a scope; of all of them with None. Values of the cache service stay.

        Takes as long however many there are. Raises redis-py's errors; part of them may be forgotten then.
        """
        for bucket in range(self._store.buckets):
            self._delete(_generation(bucket, scope))

    def figures(self) -> dict[str, float]:
        """Return what all processes counted: `hits`, `misses`, `stores`, `errors` (calls that failed) and `bytes_stored`;
        `breaker_open`, how many processes leave how many servers alone now; and on the main Redis `entries` and
        `bytes_held`. Raises redis-py's errors."""
        return self._figures.read(held=self._store.bounded_here)

    def value(self, tenant: str, key: str) -> tuple[bytes, int] | None:
        """Return a value, and for how many milliseconds it will be kept. Raises redis-py's errors."""
        value, left_ms = self._store.run(lambda redis: redis.eval(_READ_VALUE, 1, _value(tenant, key)))
        return None if value is None else (value, left_ms)

    def keep_value(self, tenant: str, key: str, value: bytes, ttl_s: int) -> None:
        """Keep a value. Raises redis-py's errors."""
        self._store.run(lambda redis: redis.set(_value(tenant, key), value, ex=ttl_s))

    def forget_value(self, tenant: str, key: str) -> bool:
        """Forget a value; tell whether there was one. Raises redis-py's errors."""
        return self._delete(_value(tenant, key))

    def _delete(self, key: str) -> bool:
        return bool(self._store.run(lambda redis: redis.delete(key)))

    def _keys(self, scope: str, fingerprint: str) -> list[str]:
        """Return the keys of an entry and of its generations."""
        bucket = zlib.crc32(fingerprint.encode()) % self._store.buckets
        return [f"answers:{{{bucket}}}:entry:{scope}:{fingerprint}", _generation(bucket, None), _generation(bucket, scope)]


def _generation(bucket: int, scope: str | None) -> str:
    return f"answers:{{{bucket}}}:generation" + (f":{scope}" if scope is not None else "")


def _value(tenant: str, key: str) -> str:
    return f"cached:{tenant}:{key}"


def _opened(key: str, kept: bytes | None, everything: bytes | None, scope: bytes | None) -> Entry | None:
    """Return the answer in what was kept; None where it was forgotten, or cannot be read."""
    if kept is None or everything is None or scope is None or not kept.startswith(everything + scope):
        return None
    try:
        return msgspec.msgpack.decode(zlib.decompress(kept[len(everything + scope):]), type=Entry)
    except (zlib.error, msgspec.DecodeError) as exc:
        logs.event("response_cache_unreadable", key=key, why=str(exc))
        return None
