"""Which jobs took longest, and where their time went. Of a job, only its id, its place and its times are read."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import redis

from app.investigation_records import JobTimes, ModelPart
from app.job import Service, State, model_part

ENDED_MS = 300_000  # jobs that ended within this time are looked at
_LOOKED_AT = 1000  # of them, the last; and of each set of those that run and wait, the first: a millisecond of Redis's
_MOST = 15  # jobs that are told of each kind

_FIELDS = ("service", "state", "route", "server", "worker", "attempt", "lost", "created_ms", "started_ms", "first_ms",
           "finished_ms")

#: A job's fields by name, "" where there is none; and its id.
_Record = dict[str, str]


class _Glance(NamedTuple):
    """A job, before it is known whether it is one of the longest."""

    id: str
    end_ms: int
    total_ms: int


def ended(client: redis.Redis, *, now_ms: int) -> tuple[JobTimes, ...]:
    """Return the jobs of the last minutes that took longest, longest first."""
    found = _glance(client, "finished", now_ms, newest_first=True)
    return _longest(client, [each for each in found if each.end_ms >= now_ms - ENDED_MS], now_ms)


def running(client: redis.Redis, *, now_ms: int) -> tuple[JobTimes, ...]:
    """Return the jobs that run, longest first."""
    return _longest(client, _glance(client, "leases", now_ms), now_ms)


def waiting(client: redis.Redis, *, now_ms: int) -> tuple[JobTimes, ...]:
    """Return the jobs that wait, here or in the cloud, longest first."""
    keys = [*(f"waiting:{service.value}" for service in Service), "cloud", "delayed", "held"]
    return _longest(client, [each for key in keys for each in _glance(client, key, now_ms)], now_ms)


def _glance(client: redis.Redis, key: str, now_ms: int, *, newest_first: bool = False) -> list[_Glance]:
    """Return the jobs of a set: when they ended, or now, and how long they had been there by then."""
    rows = client.sort(key, by="nosort", desc=newest_first, start=0, num=_LOOKED_AT, groups=True,
                       get=["#", "job:*->created_ms", "job:*->finished_ms"])
    found = []
    for job_id, created_ms, finished_ms in rows:
        if created_ms:  # else it has just gone
            end_ms = int(finished_ms or now_ms)
            found.append(_Glance(job_id.decode(), end_ms, end_ms - int(created_ms)))
    return found


def _longest(client: redis.Redis, glances: Sequence[_Glance], now_ms: int) -> tuple[JobTimes, ...]:
    first = sorted(glances, key=lambda each: -each.total_ms)[:_MOST]
    records = _records(client, [each.id for each in first])
    parts = _model_parts(client, [each["id"] for each in records if each["service"] == Service.CHAT], now_ms)
    return tuple(times_of(each, now_ms, parts.get(each["id"])) for each in records)


def _records(client: redis.Redis, ids: Sequence[str]) -> list[_Record]:
    """Return what there is of these jobs."""
    with client.pipeline(transaction=False) as pipeline:
        for job_id in ids:
            pipeline.hmget(f"job:{job_id}", _FIELDS)
        rows: list[Any] = pipeline.execute()
    found = [dict(zip(("id", *_FIELDS), (job_id, *((each or b"").decode() for each in row)), strict=True))
             for job_id, row in zip(ids, rows, strict=True)]
    return [each for each in found if each["state"]]


def _model_parts(client: redis.Redis, chats: Sequence[str], now_ms: int) -> dict[str, ModelPart]:
    """Return the model jobs that do the work of these chat jobs, by the chat's id."""
    chat_of = {model_part(chat): chat for chat in chats}
    parts = {}
    for record in _records(client, list(chat_of)):
        times = times_of(record, now_ms, None)
        parts[chat_of[record["id"]]] = ModelPart(
            id=times.id, state=times.state, server=times.server, waiting_s=times.waiting_s,
            running_s=round(times.total_s - times.waiting_s, 3))
    return parts


def times_of(record: _Record, now_ms: int, model: ModelPart | None) -> JobTimes:
    """Return where the time of a job went."""
    created_ms, end_ms = _ms(record, "created_ms", now_ms), _ms(record, "finished_ms", now_ms)
    state = State(record["state"])
    started_ms = _ms(record, "started_ms", end_ms) if state is not State.QUEUED else end_ms
    began = state is not State.QUEUED and bool(record["started_ms"])
    word_ms = _ms(record, "first_ms", end_ms)
    return JobTimes(
        id=record["id"], service=record["service"], state=state, route=record["route"], server=record["server"],
        worker=record["worker"], attempt=int(record["attempt"] or 0), lost=int(record["lost"] or 0), model=model,
        total_s=_s(end_ms - created_ms), waiting_s=_s(started_ms - created_ms),
        until_word_s=_s(word_ms - started_ms) if began else None,
        speaking_s=_s(end_ms - word_ms) if began and record["first_ms"] else None)


def _ms(record: _Record, name: str, otherwise: int) -> int:
    return int(record[name]) if record[name] else otherwise


def _s(span_ms: int) -> float:
    return max(span_ms, 0) / 1000
