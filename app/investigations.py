"""Investigations: reports of what was slow, and where its time went, kept for a week.

    investigations      ZSET  ids, by when they were asked for (ms)
    investigation:<id>  HASH  asked: `Asked` as JSON; system: `SystemPart`; server:<name>: `ServerPart`; bytes: of all of it

One asks, by an alert or by hand; each server's queue worker contributes what it sees of its server, and one of them what
it sees of the whole (routing.investigation). Promises: asking twice is asking once; a part is kept once; reports are
bounded in number, and in bytes, at the cost of the oldest. Every method raises `StoreUnavailable` when Redis cannot do it.
"""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

import msgspec
import redis

from app import logs
from app.errors import NotFound
from app.investigation_records import Asked, Listed, ProcessStacks, Report, ServerPart, SystemPart, id_of, may_be_id
from app.ledger.scripts import unavailable
from app.lua_script import LuaScript
from app.routing_records import Alert

KEPT_MS = 604_800_000  # reports: a week
_MOST = 200  # reports
_MOST_BYTES = 33_554_432  # of all reports
_MOST_PART_BYTES = 131_072  # of one part

#: A part is asked for within this time: what a server sees later says nothing about what was slow.
WANTED_MS = 60_000

_INDEX, _SYSTEM, _SERVER = "investigations", "system", "server:"

Record = TypeVar("Record")


class Investigations:
    """Asks for, contributes to and reads reports. Safe to share between threads."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._ask = LuaScript(client, "investigation_ask")
        self._contribute = LuaScript(client, "investigation_contribute")

    def ask(self, alert: Alert) -> str:
        """Ask for a report because of an alert; return its id, which is `id_of(alert.id)`."""
        return self._asked(id_of(alert.id), who="routing", why=alert.detail or alert.name, alert=alert)

    def ask_by_hand(self, who: str, why: str) -> str:
        """Ask for a report because an operator wants one; return its id."""
        return self._asked(f"by-hand-{self.now_ms()}-{secrets.token_hex(2)}", who=who, why=why)

    def _asked(self, report_id: str, *, who: str, why: str, alert: Alert | None = None) -> str:
        asked = Asked(id=report_id, at_ms=self.now_ms(), who=who, why=why, alert=alert)
        self._ask((_INDEX, _key(report_id)), report_id, msgspec.json.encode(asked).decode(), asked.at_ms, KEPT_MS, _MOST)
        return report_id

    def now_ms(self) -> int:
        """Return Redis's time."""
        with _translating():
            seconds, micros = self._client.time()
        return int(seconds) * 1000 + int(micros) // 1000

    def pending(self, server: str) -> list[str]:
        """Return the ids of the reports that want this server's part, oldest first."""
        return self._without(_SERVER + server)

    def pending_system(self) -> list[str]:
        """Return the ids of the reports that want the part about the whole, oldest first."""
        return self._without(_SYSTEM)

    def _without(self, part: str) -> list[str]:
        with _translating():
            fresh = self._client.zrangebyscore(_INDEX, self.now_ms() - WANTED_MS, "+inf")
            if not fresh:
                return []
            with self._client.pipeline(transaction=False) as pipeline:
                for report_id in fresh:
                    pipeline.hexists(_key(report_id.decode()), part)
                there = pipeline.execute()
        return [report_id.decode() for report_id, is_there in zip(fresh, there, strict=True) if not is_there]

    def contribute(self, report_id: str, server: str, part: ServerPart) -> bool:
        """Add a server's part; False where it is there already, or there is no such report."""
        return self._add(report_id, _SERVER + server, _fitted(part))

    def contribute_system(self, report_id: str, part: SystemPart) -> bool:
        """Add the part about the whole; False where it is there already, or there is no such report."""
        return self._add(report_id, _SYSTEM, msgspec.json.encode(part))

    def _add(self, report_id: str, name: str, part: bytes) -> bool:
        return bool(self._contribute((_INDEX, _key(report_id)), report_id, name, part.decode(), _MOST_BYTES))

    def list(self, limit: int = 50) -> list[Listed]:
        """Return the newest reports, newest first."""
        with _translating():
            ids = [each.decode() for each in self._client.zrevrange(_INDEX, 0, limit - 1)]
            with self._client.pipeline(transaction=False) as pipeline:
                for report_id in ids:
                    pipeline.hget(_key(report_id), "asked")
                    pipeline.hkeys(_key(report_id))
                found = pipeline.execute()
        listed = []
        for text, names in zip(found[::2], found[1::2], strict=True):
            if text and (asked := _read(text, Asked)):
                parts = (name.decode().removeprefix(_SERVER) for name in names if name not in (b"asked", b"bytes"))
                listed.append(Listed(asked=asked, parts=tuple(sorted(parts))))
        return listed

    def count(self) -> int:
        """Return how many reports are kept."""
        with _translating():
            return int(self._client.zcard(_INDEX))

    def read(self, report_id: str) -> Report:
        """Return a report, as far as it has come. Raises `NotFound`."""
        kept: dict[str, bytes] = {}
        if may_be_id(report_id):
            with _translating():
                kept = {name.decode(): text for name, text in self._client.hgetall(_key(report_id)).items()}
        asked = _read(kept["asked"], Asked) if "asked" in kept else None
        if asked is None:
            raise NotFound("there is no report of this id: they are kept for a week, and `celery -A workers route "
                           "investigation` lists those there are")
        servers = {name.removeprefix(_SERVER): _read(text, ServerPart) for name, text in sorted(kept.items())
                   if name.startswith(_SERVER)}
        return Report(asked=asked, system=_read(kept[_SYSTEM], SystemPart) if _SYSTEM in kept else None,
                      servers={name: part for name, part in servers.items() if part is not None})


def _fitted(part: ServerPart) -> bytes:
    """Return a part as JSON; where it is too long, without the threads that tell least, and with a note that says so."""
    while len(text := msgspec.json.encode(part)) > _MOST_PART_BYTES:
        longest = max(part.stacks, key=lambda each: len(each.threads), default=None)
        if longest is None or not longest.threads:
            return msgspec.json.encode(msgspec.structs.replace(part, stacks=(), workers=(), notes=("it was too long",)))
        stacks = tuple(_shortened(each) if each is longest else each for each in part.stacks)
        part = msgspec.structs.replace(part, stacks=stacks)
    return text


def _shortened(process: ProcessStacks) -> ProcessStacks:
    """Return a process's stacks without the last quarter."""
    kept = process.threads[:len(process.threads) * 3 // 4]
    return msgspec.structs.replace(process, threads=kept, note="some threads that waited are left out")


def _key(report_id: str) -> str:
    return f"investigation:{report_id}"


def _read(text: bytes, kind: type[Record]) -> Record | None:
    """Return a record, None for one that cannot be read, as another version of Tandem might leave."""
    try:
        return msgspec.json.decode(text, type=kind)
    except msgspec.MsgspecError as exc:
        logs.event("investigation_unreadable", kind=kind.__name__, why=str(exc))
        return None


@contextmanager
def _translating() -> Iterator[None]:
    try:
        yield
    except (redis.exceptions.RedisError, OSError) as exc:
        raise unavailable(exc) from exc
