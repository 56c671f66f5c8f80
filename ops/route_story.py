"""What `route explain` tells of a job: where it is, why, how it moved, and where its time went.

The record keeps when a job was accepted, its moves between here and the cloud, and of its last attempt when that began,
when it said its first word, and when it ended. What earlier attempts took is within the waiting.
"""

from collections.abc import Iterator
from typing import Any

import msgspec

from app.job import Job, Route, State
from ops.route_text import UNKNOWN, exactly, members, moment, show, show_wrapped

#: Where a job is after a move, in the words of the sum.
_AFTER = {"sent": "on the way to the cloud", "begun": "running in the cloud"}
_AT_HOME = "waiting at home"
_AFTER_WIDTH = 7  # columns, of how long after a job was accepted
_RUNNING = "running at home"

#: The moves, as operators read them.
_WORDS = {"sent": "sent to the cloud", "begun": "begun in the cloud", "recalled": "recalled", "kept": "kept here",
          "lapsed": "came home: not heard of in time", "returned": "handed back by the cloud"}


class Move(msgspec.Struct, frozen=True, kw_only=True):
    """A move of a job between here and the cloud."""

    at_ms: int
    move: str
    why: Any = None


class Step(msgspec.Struct, frozen=True):
    """Something that happened to a job, and where it has been since; empty: it has not moved."""

    at_ms: int
    what: str
    since: str
    why: str = ""


def moves(text: bytes | None) -> list[Move]:
    """Return the moves of a job's record, in order. What cannot be read is left out."""
    found = []
    for line in (text or b"").splitlines():
        try:
            found.append(msgspec.json.decode(line, type=Move))
        except msgspec.MsgspecError:
            continue
    return found


def tell(job: Job, moved: list[Move], now_ms: int, *, name: str, now: str = "") -> None:
    """Tell the story of a job under this name; `now` is what holds at the moment of one that waits at home."""
    show(name, f"{job.id}  {job.task}, lane {job.lane}")
    show("state", _where(job))
    show_wrapped("why", _why(job))
    show_wrapped("now", now)
    steps = list(_steps(job, moved))
    after = [exactly((step.at_ms - job.created_ms) / 1000) for step in steps]
    width = max(_AFTER_WIDTH, *map(len, after))
    for step, later in zip(steps, after, strict=True):
        show("", f"{moment(step.at_ms / 1000)}  +{later:>{width}}  {step.what}")
        show_wrapped("", step.why, indent=14 + width)
    end_ms = job.finished_ms or now_ms
    spent = _spent(steps, end_ms)
    whole = f"{exactly((end_ms - job.created_ms) / 1000)}{'' if job.state.terminal else ' until now'}"
    show_wrapped("time", f"{whole}: " + ", ".join(f"{where} {exactly(ms / 1000)}" for where, ms in spent.items()))
    if job.error:
        show("error", job.error_text())


def _where(job: Job) -> str:
    attempts = f"attempt {job.attempt}" + (f", {job.lost} lost their worker" if job.lost else "")
    if job.state is State.RUNNING:
        return f"running on {job.worker or UNKNOWN}{f' ({job.processor})' if job.processor else ''}, {attempts}"
    if job.state.terminal:
        on = f" on {job.worker}" if job.worker else ""
        return f"{job.state}{on}, {attempts}" if job.attempt else str(job.state)
    if job.route is Route.CLOUD:
        return f"sent to the cloud and not begun there, as far as is known here; {attempts}"
    line = "" if job.position is None else f", {job.position} before it" if job.position else ", next in line"
    eta = "" if job.eta_s is None else f", about {exactly(job.eta_s)} to its end"
    return f"waiting at home{line}{eta}; {attempts}"


def _why(job: Job) -> str:
    if not job.decision:
        return "nothing was decided about it: jobs stay at home, unless there is an excess"
    try:
        return _said(msgspec.json.decode(job.decision))
    except msgspec.DecodeError:
        return job.decision.decode(errors="replace")  # another version's


def _said(why: Any) -> str:
    """Write a decision, or why a job moved: rule and detail first."""
    if not isinstance(why, dict):
        return "" if why is None else str(why)
    rest = {name: _flat(value) for name, value in why.items() if name not in ("rule", "detail")}
    parts = [f"rule {why['rule']}" if why.get("rule") else "", str(why.get("detail") or ""), members(rest)]
    return "; ".join(part for part in parts if part)


def _beyond(why: Any, decision: bytes | None) -> Any:
    """Return what a move's reason says beyond the decision, which is told above it."""
    try:
        told = msgspec.json.decode(decision or b"null")
    except msgspec.DecodeError:
        return why
    if not isinstance(why, dict) or not isinstance(told, dict):
        return why
    return {name: value for name, value in why.items() if name not in told or told[name] != value}


def _flat(value: Any) -> Any:
    return members(value) if isinstance(value, dict) else value


def _steps(job: Job, moved: list[Move]) -> Iterator[Step]:
    """All that is known to have happened, in order."""
    found = [Step(job.created_ms, "accepted", _AT_HOME)]
    found += [Step(move.at_ms, _WORDS.get(move.move, move.move), _AFTER.get(move.move, _AT_HOME),
                   _said(_beyond(move.why, job.decision)))
              for move in moved]
    here = job.route is Route.LOCAL
    if job.started_ms is not None and here:
        found.append(Step(job.started_ms, f"begun on {job.worker or UNKNOWN}", _RUNNING))
    if job.first_ms is not None:
        found.append(Step(job.first_ms, "first word", ""))
    if job.finished_ms is not None:
        found.append(Step(job.finished_ms, str(job.state), ""))
    yield from sorted(found, key=lambda step: step.at_ms)


def _spent(steps: list[Step], end_ms: int) -> dict[str, int]:
    """How long it has been where, in milliseconds."""
    spent: dict[str, int] = {}
    places = [step for step in steps if step.since]
    for step, until_ms in zip(places, [*(later.at_ms for later in places[1:]), end_ms], strict=True):
        spent[step.since] = spent.get(step.since, 0) + max(until_ms - step.at_ms, 0)
    return spent
