"""What operators read of the routing task and tell it: its last round, its history and alerts; thresholds and other rules
that replace the topology's, a second set that is only watched, and the pause.

The keys are described in `app.routing_records`. Promises: a change is kept whole or not at all, and what was changed, from
what to what and by whom is kept with it, in one step; a record that cannot be read, as another version of Tandem might
leave, is passed by with a log line. Every method raises `StoreUnavailable` when Redis cannot do it.
Leaves to others: what a round decides (routing.policy), and to write what it decided.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

import msgspec
import redis
from redis.client import Pipeline

from app import logs
from app.errors import SettingsError
from app.ledger.scripts import unavailable
from app.routing_overlay import Overlay, check_shadow, fitting, merged
from app.routing_records import Alert, AlertEvent, Change, Shown
from app.routing_rules import Rules

#: A round that is older is not shown: the task makes one a second, and another server leads within 5 s.
SHOWN_FOR_S = 10.0

_KEPT = 10_000  # entries of the audit and of the history, roughly
_STANDS = {True: "paused", False: "acting"}
_TRIES = 5  # at a change that another operator's comes in between

Kind = TypeVar("Kind")


class Mode(msgspec.Struct, frozen=True, kw_only=True):
    """Whether an operator has paused the routing task, and who, why and when (Unix seconds)."""

    paused: bool = False
    who: str = ""
    why: str = ""
    at_s: float | None = None


class Audited(msgspec.Struct, frozen=True, kw_only=True):
    """What an operator changed. `before` and `after` are JSON: of an overlay's members, null for none, or of why it is
    paused."""

    at_s: float
    who: str
    what: str  # "set cpu_percent", "shadow routing", "mode"
    before: str
    after: str


class RoutingBoard:
    """Reads and writes it. Safe to share between threads."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._refused = ""  # what was logged last of overlays that do not fit, not to say it each second

    # -- what the routing task says

    def shown(self) -> Shown | None:
        """Return the last round; None where no leader has spoken for `SHOWN_FOR_S`."""
        with _translating(), self._client.pipeline(transaction=False) as pipeline:
            pipeline.time()
            pipeline.get("routing:shown")
            now, text = pipeline.execute()
        shown = _read(text, Shown, "routing:shown") if text else None
        return shown if shown and _ms(now) - shown.at_ms <= 1000 * SHOWN_FOR_S else None

    def led_since_s(self) -> float | None:
        """Return since when the present leader leads (Unix seconds); None where nobody does."""
        with _translating():
            since_s = self._client.hget("leader:routing", "since_s")
        return float(since_s) if since_s else None

    def history(self, count: int, *, after: str = "") -> list[tuple[str, Change]]:
        """Return what changed, with ids: the last `count`, newest first; only what came `after` an id."""
        return self._stream("routing:history", b"change", Change, count, after)

    def alerts(self, count: int, *, after: str = "") -> list[tuple[str, AlertEvent]]:
        """Return alerts that opened and closed, as `history` does."""
        return self._stream("alerts", b"event", AlertEvent, count, after)

    def open_alerts(self) -> list[Alert]:
        """Return the alerts that are open, newest first."""
        with _translating():
            texts = self._client.hvals("alerts:open")
        found = [_read(text, Alert, "alerts:open") for text in texts]
        return sorted((alert for alert in found if alert), key=lambda alert: -alert.opened_s)

    # -- what operators tell it

    def mode(self) -> Mode:
        """Return whether it is paused."""
        with _translating():
            return _mode(self._client.hgetall("routing:mode"))

    def pause(self, who: str, why: str) -> None:
        """Have it move nothing, from the next round on; it measures, decides and alerts as before."""
        def paused(pipeline: Pipeline, now_s: float) -> None:
            pipeline.hset("routing:mode", mapping={"paused": "1", "who": who, "why": why, "at": f"{now_s:.3f}"})

        self._set_mode(who, why, paused)

    def resume(self, who: str) -> None:
        """Have it act again, from the next round on."""
        self._set_mode(who, None, lambda pipeline, _: pipeline.delete("routing:mode"))

    def overlay(self, *, shadow: bool = False) -> Overlay:
        """Return what operators set over the topology's rules; the shadow is that with the second set over it, and empty
        where there is none."""
        with _translating():
            kept = self._client.hgetall("routing:set")
            second = self._client.hgetall("routing:shadow") if shadow else {}
        if not shadow:
            return _overlay(kept)
        return merged(_overlay(kept), _overlay(second)) if second else {}

    def own(self, *, shadow: bool) -> Overlay:
        """Return one of the two sets, as it was set."""
        with _translating():
            return _overlay(self._client.hgetall(_key(shadow)))

    def rules(self, base: Rules, *, shadow: bool = False) -> Rules:
        """Return the rules in effect where the topology has `base`. What was set and does not fit them any more, as the
        topology may have changed, is left out and logged."""
        overlay = self.overlay(shadow=shadow)
        try:
            rules = base.changed(overlay)
            self._refused = ""
        except SettingsError as exc:
            rules = fitting(base, overlay)
            if self._refused != str(exc):
                self._refused = str(exc)
                logs.event("routing_overlay_refused", faults=exc.faults)
        return rules

    def set(self, changes: Mapping[str, Mapping[str, Any]], *, rules: Rules, who: str, shadow: bool = False) -> None:
        """Keep these changes with those made before, where the topology has `rules`. Raises `SettingsError` with every
        fault; nothing is changed then."""
        def changed(kept: Overlay, other: Overlay) -> Overlay:
            mine = merged(kept, changes)
            if shadow:
                rules.changed(merged(other, mine))
            else:
                rules.changed(mine)
                check_shadow(rules, mine, other)
            return mine

        self._change(changed, who=who, shadow=shadow)

    def unset(self, names: Iterable[str], *, who: str, shadow: bool = False) -> list[str]:
        """Have the topology's values again under these names; return those of them where something had been set."""
        gone = set(names)
        before = self._change(lambda kept, _: {name: members for name, members in kept.items() if name not in gone},
                              who=who, shadow=shadow)
        return sorted(gone & set(before))

    def audit(self, count: int) -> list[Audited]:
        """Return what operators changed, newest first."""
        with _translating():
            entries = self._client.xrevrange("routing:audit", count=count)
        found = [_convert(_texts(fields), Audited, "routing:audit") for _, fields in entries]
        return [each for each in found if each]

    # -- how it is done

    def _set_mode(self, who: str, why: str | None, change: Callable[[Pipeline, float], Any]) -> None:
        def noted(pipeline: Pipeline, now_s: float) -> None:
            mode = _mode(pipeline.hgetall("routing:mode"))
            pipeline.multi()
            change(pipeline, now_s)
            _note(pipeline, now_s, who, "mode", mode.why if mode.paused else None, why)
            told = Change(at_s=now_s, what="mode", scope="all", before=_STANDS[mode.paused], after=_STANDS[why is not None],
                          why=f"{who} resumed it" if why is None else f"{who} paused it: {why}")
            pipeline.xadd("routing:history", {"change": msgspec.json.encode(told)}, maxlen=_KEPT, approximate=True)

        self._together(("routing:mode",), noted)

    def _change(self, change: Callable[[Overlay, Overlay], Overlay], *, who: str, shadow: bool) -> Overlay:
        """Replace a set by what `change` makes of it and the other; return what it was."""
        key, other, word = _key(shadow), _key(not shadow), "shadow" if shadow else "set"
        before: Overlay = {}

        def changed(pipeline: Pipeline, now_s: float) -> None:
            nonlocal before
            before = _overlay(pipeline.hgetall(key))
            after = change(before, _overlay(pipeline.hgetall(other)))
            pipeline.multi()
            for name in sorted(set(before) | set(after)):
                if before.get(name) == after.get(name):
                    continue
                if name in after:
                    pipeline.hset(key, name, msgspec.json.encode(after[name]))
                else:
                    pipeline.hdel(key, name)
                _note(pipeline, now_s, who, f"{word} {name}", before.get(name), after.get(name))

        self._together((key, other), changed)
        return before

    def _together(self, keys: tuple[str, ...], step: Callable[[Pipeline, float], None]) -> None:
        """Do a step that reads these keys and then writes, anew where somebody else wrote them meanwhile."""
        with _translating(), self._client.pipeline(transaction=True) as pipeline:
            for left in reversed(range(_TRIES)):
                try:
                    pipeline.watch(*keys)
                    step(pipeline, _ms(pipeline.time()) / 1000)
                    pipeline.execute()
                    return
                except redis.exceptions.WatchError:
                    if not left:
                        raise

    def _stream(self, key: str, field: bytes, kind: type[Kind], count: int, after: str) -> list[tuple[str, Kind]]:
        with _translating():
            entries = self._client.xrevrange(key, min=f"({after}" if after else "-", count=count)
        found = [(entry_id.decode(), _read(fields.get(field, b""), kind, key)) for entry_id, fields in entries]
        return [(entry_id, each) for entry_id, each in found if each is not None]


@contextmanager
def _translating() -> Iterator[None]:
    try:
        yield
    except (redis.exceptions.RedisError, OSError) as exc:
        raise unavailable(exc) from exc


def _key(shadow: bool) -> str:
    return "routing:shadow" if shadow else "routing:set"


def _ms(time: tuple[int, int]) -> int:
    return int(time[0]) * 1000 + int(time[1]) // 1000


def _texts(fields: Mapping[bytes, bytes]) -> dict[str, str]:
    return {key.decode(errors="replace"): value.decode(errors="replace") for key, value in fields.items()}


def _mode(record: Mapping[bytes, bytes]) -> Mode:
    text = _texts(record)
    if text.get("paused") != "1":
        return Mode()
    given = {"paused": True, "who": text.get("who", ""), "why": text.get("why", ""), "at_s": text.get("at")}
    return _convert(given, Mode, "routing:mode") or Mode(paused=True, why="cannot be read")


def _overlay(record: Mapping[bytes, bytes]) -> Overlay:
    found = {name.decode(errors="replace"): _read(text, dict[str, Any], "overlay") for name, text in record.items()}
    return {name: members for name, members in found.items() if members}


def _note(pipeline: Pipeline, now_s: float, who: str, what: str, before: Any, after: Any) -> None:
    pipeline.xadd("routing:audit", {
        "at_s": f"{now_s:.3f}", "who": who, "what": what, "before": msgspec.json.encode(before),
        "after": msgspec.json.encode(after)}, maxlen=_KEPT, approximate=True)


def _read(text: bytes, kind: type[Kind], key: str) -> Kind | None:
    return _known(lambda: msgspec.json.decode(text, type=kind), key)


def _convert(given: Mapping[str, Any], kind: type[Kind], key: str) -> Kind | None:
    return _known(lambda: msgspec.convert(given, kind, strict=False), key)


def _known(read: Callable[[], Kind], key: str) -> Kind | None:
    """Return a record, None for one that cannot be read."""
    try:
        return read()
    except (msgspec.MsgspecError, RecursionError) as exc:
        logs.event("routing_record_unreadable", key=key, why=f"{type(exc).__name__}: {exc}")
        return None
