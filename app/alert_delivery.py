"""How far the delivery of alerts has come, hook by hook, kept in Redis so that another worker goes on where one died.

    alerts:hook:<name>   HASH  position: the last entry of the stream `alerts` that the hook needs no more; moved: it has
                               been at an entry before; told: when its last messages went (ms, with commas); and of the
                               message under way, if any: last, its last entry; packed, when it was made up (ms); attempts;
                               next, when it is tried again (ms)
    alerts:told:<name>   ZSET  "opened <alert>" and "closed <alert>" that the hook has been told, by when (ms)
    alerts:delivery      HASH  "<index> <figure>": the hooks' figures for operators, by their place in the setting

A message is written down before it is sent: one that is sent again, by whomever, holds the same alerts under the same id.
The position only moves past a message that was delivered, or given up. Every method raises `StoreUnavailable` when Redis
cannot do it.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import msgspec
import redis

from app import logs
from app.alert_hooks import AlertHook
from app.ledger.scripts import unavailable
from app.lua_script import LuaScript
from app.routing_records import AlertEvent

_STREAM = "alerts"
_FIGURES = "alerts:delivery"

#: Alerts that were already there when a hook is first seen are told if they are no older than this: a stack that starts
#: into trouble opens them before its couriers run.
_FIRST_LOOK_MS = 300_000

#: Events that one message tells of at most.
MOST_EVENTS = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Pack:
    """A message under way: the entries after the hook's position, up to `last`."""

    id: str
    last: str
    packed_ms: int
    attempts: int  # that failed
    next_ms: int  # it is not tried before


@dataclass(frozen=True, slots=True, kw_only=True)
class HookState:
    """How far a hook has come."""

    position: str
    moved: bool  # the position is that of an entry, not of a time
    told_ms: tuple[int, ...]  # when its last messages went, in order
    pack: Pack | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """An entry of the stream; None for an event that cannot be read, as another version of Tandem might leave."""

    id: str
    event: AlertEvent | None

    @property
    def at_ms(self) -> int:
        """When it was written, by Redis's clock."""
        return int(self.id.partition("-")[0])


@dataclass(frozen=True, slots=True, kw_only=True)
class HookFigures:
    """A hook, for operators."""

    index: int
    where: str  # its scheme and host
    form: str
    sent: int  # messages delivered
    retried: int  # attempts that failed and were tried again
    given_up: int  # messages
    events: int  # opened and closed alerts that it was told
    error: str  # of the last attempt, if that failed; empty: it did not
    error_ms: int | None  # when that was


class AlertDelivery:
    """Reads and writes the state of the hooks."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._pack = LuaScript(client, "alert_pack")
        self._failed = LuaScript(client, "alert_failed")
        self._settled = LuaScript(client, "alert_settled")

    def now_ms(self) -> int:
        """Return Redis's time."""
        with _translating():
            seconds, micros = self._client.time()
        return int(seconds) * 1000 + int(micros) // 1000

    def begin(self, hooks: Sequence[AlertHook]) -> None:
        """Make room for the figures of these hooks, where there is none; forget those of hooks that the setting does not
        have any more."""
        with _translating():
            kept = _by_hook(self._client.hgetall(_FIGURES))
            stale = [f"{index} {name}" for index, figures in kept.items() for name in figures
                     if index >= len(hooks) or figures.get("name") != hooks[index].name]
            fresh = [hook for hook in hooks if kept.get(hook.index, {}).get("name") != hook.name]
            with self._client.pipeline() as pipeline:
                if stale:
                    pipeline.hdel(_FIGURES, *stale)
                for hook in fresh:
                    pipeline.hset(_FIGURES, mapping={f"{hook.index} name": hook.name, f"{hook.index} where": hook.where,
                                                     f"{hook.index} form": hook.form.value})
                pipeline.execute()

    def state(self, hook: AlertHook, *, now_ms: int) -> HookState:
        """Return how far a hook has come. A hook that was never seen begins with the alerts of the last minutes."""
        key = _key(hook)
        with _translating():
            self._client.hsetnx(key, "position", f"{max(now_ms - _FIRST_LOOK_MS, 0)}-0")
            kept = {name.decode(): value.decode() for name, value in self._client.hgetall(key).items()}
        pack = Pack(id=message_id(hook, kept["last"]), last=kept["last"], packed_ms=int(kept["packed"]),
                    attempts=int(kept["attempts"]), next_ms=int(kept["next"])) if "last" in kept else None
        told = tuple(int(each) for each in kept.get("told", "").split(",") if each)
        return HookState(position=kept["position"], moved="moved" in kept, told_ms=told, pack=pack)

    def entries(self, after: str, *, last: str = "+") -> list[Entry]:
        """Return the first entries of the stream after one, up to one, at most `MOST_EVENTS`."""
        with _translating():
            found = self._client.xrange(_STREAM, f"({after}", last, count=MOST_EVENTS)
        return [_entry(entry_id.decode(), fields) for entry_id, fields in found]

    def has_gap(self, state: HookState) -> bool:
        """Whether entries may be missing that the hook was not told of: the stream keeps the last ones only, and where the
        hook stands is no more among them."""
        with _translating():
            return state.moved and not self._client.xrange(_STREAM, state.position, state.position)

    def told(self, hook: AlertHook, words: Sequence[str]) -> set[str]:
        """Return which of these words, "opened <alert>" and "closed <alert>", the hook has been told already."""
        if not words:
            return set()
        with _translating():
            scores = self._client.zmscore(_told_key(hook), list(words))
        return {word for word, score in zip(words, scores, strict=True) if score is not None}

    def pack(self, hook: AlertHook, *, after: str, last: str, now_ms: int) -> bool:
        """Make up a message of the entries after one, up to one; False where another has made one up, or went past."""
        return bool(self._pack((_key(hook),), after, last, now_ms))

    def failed(self, hook: AlertHook, pack: Pack, *, next_ms: int, error: str, now_ms: int) -> bool:
        """An attempt at a message failed; it is tried again. False where it is not under way any more."""
        return bool(self._failed((_key(hook), _FIGURES), pack.last, next_ms, hook.index, hook.scrubbed(error), now_ms))

    def delivered(self, hook: AlertHook, pack: Pack, *, words: Iterable[str], now_ms: int) -> bool:
        """A message is delivered, once; False where that was known."""
        return self._settle(hook, pack, "sent", "", words, now_ms)

    def given_up(self, hook: AlertHook, pack: Pack, *, error: str, now_ms: int) -> bool:
        """A message is given up; the hook goes on with the next. False where it is not under way any more."""
        return self._settle(hook, pack, "given_up", error, (), now_ms)

    def nothing_new(self, hook: AlertHook, pack: Pack, *, now_ms: int) -> bool:
        """All of a message had been told before: it is not sent."""
        return self._settle(hook, pack, "", "", (), now_ms)

    def _settle(self, hook: AlertHook, pack: Pack, figure: str, error: str, words: Iterable[str], now_ms: int) -> bool:
        return bool(self._settled((_key(hook), _FIGURES, _told_key(hook)), pack.last, now_ms, hook.index, figure,
                                  hook.scrubbed(error), *words))

    def figures(self) -> list[HookFigures]:
        """Return the hooks' figures, in the order of the setting."""
        with _translating():
            kept = _by_hook(self._client.hgetall(_FIGURES))
        return [HookFigures(
            index=index, where=each.get("where", ""), form=each.get("form", ""), sent=int(each.get("sent", 0)),
            retried=int(each.get("retried", 0)), given_up=int(each.get("given_up", 0)), events=int(each.get("events", 0)),
            error=each.get("error", ""), error_ms=int(each["error_ms"]) if each.get("error_ms") else None)
            for index, each in sorted(kept.items())]


def message_id(hook: AlertHook, last: str) -> str:
    """Return the id of the message that ends with this entry."""
    return f"alerts-{hook.name}-{last}"


def _by_hook(kept: dict[bytes, bytes]) -> dict[int, dict[str, str]]:
    found: dict[int, dict[str, str]] = {}
    for field, value in kept.items():
        index, _, name = field.decode().partition(" ")
        found.setdefault(int(index), {})[name] = value.decode(errors="replace")
    return found


def _entry(entry_id: str, fields: dict[bytes, bytes]) -> Entry:
    try:
        return Entry(id=entry_id, event=msgspec.json.decode(fields[b"event"], type=AlertEvent))
    except (KeyError, msgspec.MsgspecError) as exc:
        logs.event("alert_unreadable", entry=entry_id, why=f"{type(exc).__name__}: {exc}")
        return Entry(id=entry_id, event=None)


def _key(hook: AlertHook) -> str:
    return f"alerts:hook:{hook.name}"


def _told_key(hook: AlertHook) -> str:
    return f"alerts:told:{hook.name}"


@contextmanager
def _translating() -> Iterator[None]:
    try:
        yield
    except (redis.exceptions.RedisError, OSError) as exc:
        raise unavailable(exc) from exc
