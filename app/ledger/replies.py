"""What the ledger's scripts are sent and reply, in Python's terms."""

from collections.abc import Iterable, Sequence
from typing import Any

from app import logs
from app.errors import InvalidInput, JobGone, JobUnknown
from app.job import Job, Lane, NewJob, Route, State, is_job_id
from app.ledger.records import Claim, Ending, Limit, Piece, Voice
from app.ledger.scripts import Argument

_VOICES = frozenset(voice.value.encode() for voice in Voice)


def accepted(job: NewJob, reply: Sequence[Any]) -> Job:
    """Return a job that was accepted just now."""
    created, position, pace, slots = reply[:4]
    waits = position >= 0
    return Job(id=job.id, service=job.service, task=job.task, tenant=job.tenant, state=State.QUEUED, lane=job.lane,
               route=Route.LOCAL, attempt=0, created_ms=int(created), position=position if waits else None,
               eta_s=eta_s(position, pace, slots) if waits else None)


def job(job_id: str, reply: Sequence[Any]) -> Job:
    """Return a job that was read, from read.lua's reply."""
    fields, (position, pace, slots) = record(reply[1]), reply[2:]
    if position < 0:
        return Job.from_record(job_id, fields)
    return Job.from_record(job_id, fields, position=position, eta_s=eta_s(position, pace, slots))


def record(fields: Sequence[bytes]) -> dict[bytes, bytes]:
    """Return a hash that came as a flat list."""
    return dict(zip(fields[::2], fields[1::2], strict=True))


def limits(figures: Sequence[bytes]) -> tuple[Limit, ...]:
    """Return a tenant's limits, of which the script gives four figures each."""
    return tuple(Limit(name.decode(), int(most), int(left), int(whole_ms))
                 for name, most, left, whole_ms in zip(*(figures[start::4] for start in range(4)), strict=True))


def cursor(text: str) -> tuple[str, str]:
    """Return when and which job was listed last. Raises `InvalidInput`."""
    at_ms, _, job_id = text.partition(":")
    if text and not (at_ms.isascii() and at_ms.isdigit() and len(at_ms) <= 15 and is_job_id(job_id)):
        raise InvalidInput("the cursor is not one that an earlier page gave; leave it out to start with the newest")
    return at_ms, job_id


def ending(claim: Claim, state: State, ending: Ending) -> tuple[Argument, ...]:
    """Return what settle.lua takes."""
    tail: list[Argument] = [ending.append[0], *ending.append[1]] if ending.append else []
    return (claim.id, claim.owner, claim.attempt, state.value, ending.result, ending.error, ending.usage, *tail)


def claim(owner: str, reply: Sequence[bytes]) -> Claim:
    """Return the claim that claim.lua or take.lua gave."""
    job_id, attempt, errors, task, tenant, body, created, deadline, trace, lane, fingerprint = reply[1:]
    return Claim(id=job_id.decode(), owner=owner, attempt=int(attempt), errors=int(errors), task=task.decode(),
                 tenant=tenant.decode(), input=body, created_ms=int(created),
                 deadline_ms=int(deadline) if deadline else None, trace=trace.decode() or None, lane=Lane(lane.decode()),
                 fingerprint=fingerprint.decode() or None)


def place(entry: bytes) -> tuple[int, int]:
    """Return the attempt and the position of a piece's id."""
    attempt, _, position = entry.partition(b"-")
    return int(attempt), int(position)


def piece(entry: bytes, fields: Sequence[bytes]) -> Piece:
    """Return a piece that was said."""
    return Piece(*place(entry), Voice(fields[0].decode()), fields[1].decode())


def known_voice(voice: bytes, job_id: str, entry: bytes) -> bool:
    """Whether we know the voice of a piece."""
    if voice in _VOICES:
        return True
    logs.event("voice_unknown", job=job_id, piece=entry.decode(), voice=repr(voice))
    return False


def eta_s(position: int, pace_ms: bytes, slots: bytes) -> float | None:
    """Seconds until a job at this position ends, at the pace measured; None before anything was measured."""
    if not pace_ms:
        return None
    return round((position // max(int(slots or 1), 1) + 1) * float(pace_ms) / 1000, 3)


def refuse_missing(word: bytes, job_id: str) -> None:
    """Raise `JobUnknown` or `JobGone` where a script says so."""
    if word == b"unknown":
        raise JobUnknown(f"there is no job {job_id}")
    if word == b"gone":
        raise JobGone(f"job {job_id} is past its retention; its record was deleted")


def texts(values: Iterable[bytes]) -> list[str]:
    """Return bytes as text."""
    return [value.decode() for value in values]
