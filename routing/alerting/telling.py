"""What is said of alerts: events folded by alert, as records for programs and as lines for people. Pure."""

from collections import Counter
from collections.abc import Collection, Sequence
from typing import Any

import msgspec

from app.job import timestamp
from app.routing_records import Alert, AlertEvent

OPENED, CLOSED = "opened", "closed"


class Telling(msgspec.Struct, frozen=True, kw_only=True):
    """What a message says of one alert."""

    alert: Alert
    opened: bool  # it tells that the alert opened
    closed: bool  # and that it closed: then the alert was over before the message went

    @property
    def event(self) -> str:
        """It in words."""
        return " and ".join(word for word, is_so in ((OPENED, self.opened), (CLOSED, self.closed)) if is_so)

    @property
    def words(self) -> list[str]:
        """What the hook has been told with it."""
        return [f"{word} {self.alert.id}" for word, is_so in ((OPENED, self.opened), (CLOSED, self.closed)) if is_so]


def words_of(events: Sequence[AlertEvent]) -> list[str]:
    """Return what these events would tell, each once."""
    return list(dict.fromkeys(f"{each.event} {each.alert.id}" for each in events))


def fold(events: Sequence[AlertEvent], told: Collection[str]) -> list[Telling]:
    """Return what is to be told of these events, by alert in the order of the events; nothing of what was told."""
    found: dict[str, Telling] = {}
    for each in events:
        if f"{each.event} {each.alert.id}" in told or each.event not in (OPENED, CLOSED):
            continue
        before = found.get(each.alert.id)
        found[each.alert.id] = Telling(
            alert=_later(before.alert, each.alert) if before else each.alert,
            opened=each.event == OPENED or (before is not None and before.opened),
            closed=each.event == CLOSED or (before is not None and before.closed))
    return list(found.values())


def _later(one: Alert, other: Alert) -> Alert:
    """Return what is known of an alert by two events of it: an event that closes it need not know of the report."""
    last = other if other.closed_s is not None or one.closed_s is None else one
    first = one if last is other else other
    return msgspec.structs.replace(last, investigation=last.investigation or first.investigation)


def record(telling: Telling) -> dict[str, Any]:
    """Return it for programs."""
    alert = telling.alert
    return {"event": telling.event, "id": alert.id, "name": alert.name, "scope": alert.scope, "value": alert.value,
            "threshold": alert.threshold, "action": alert.action, "detail": alert.detail,
            "opened_at": timestamp(_ms(alert.opened_s)), "closed_at": timestamp(_ms(alert.closed_s)),
            "investigation": alert.investigation}


def title(tellings: Sequence[Telling]) -> str:
    """Return a message's title: "Tandem: 2 alerts opened, 1 closed"."""
    counts = Counter(telling.event for telling in tellings)
    if len(tellings) == 1:
        (telling,) = tellings
        return f"Tandem: {telling.alert.name} on {telling.alert.scope} {telling.event}"
    parts = [f"{counts[event]} {event}" for event in (OPENED, f"{OPENED} and {CLOSED}", CLOSED) if counts[event]]
    return f"Tandem: {len(tellings)} alerts, {', '.join(parts)}"


def lines(tellings: Sequence[Telling]) -> list[str]:
    """Return a line for each alert."""
    return [_line(telling) for telling in tellings]


def short_lines(tellings: Sequence[Telling]) -> list[str]:
    """Return a line for each kind of alert and each thing that happened to it, with the scopes, for a message that would
    else be too long."""
    scopes: dict[tuple[str, str], Counter[str]] = {}
    for telling in tellings:
        scopes.setdefault((telling.alert.name, telling.event), Counter())[telling.alert.scope] += 1
    return [f"{name} {event} on " + ", ".join(scope if count == 1 else f"{scope} ({count} times)"
                                              for scope, count in found.items())
            for (name, event), found in scopes.items()]


def _line(telling: Telling) -> str:
    alert = telling.alert
    said = [f"{alert.name} on {alert.scope} {_what_happened(telling)}"]
    if alert.value is not None and alert.threshold is not None:
        said.append(f"value {number(alert.value)}, threshold {number(alert.threshold)}")
    said += [part for part in (alert.detail, alert.action and f"action: {alert.action}") if part]
    if alert.investigation:
        said.append(f"report: {alert.investigation}")
    return "; ".join(part.rstrip(".") for part in said)


def _what_happened(telling: Telling) -> str:
    if not telling.closed or telling.alert.closed_s is None:
        return telling.event
    return f"{telling.event} after {duration(telling.alert.closed_s - telling.alert.opened_s)}"


def number(value: float) -> str:
    """Return a value as people write it: at most two decimals, and none that are 0."""
    return f"{value:.2f}".rstrip("0").rstrip(".")


def duration(seconds: float) -> str:
    """Return a time as people say it."""
    whole = max(round(seconds), 0)
    hours, minutes = divmod(whole // 60, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {whole % 60} s" if minutes else f"{whole} s"


def _ms(at_s: float | None) -> int | None:
    return None if at_s is None else round(at_s * 1000)
