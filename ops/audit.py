"""`celery -A workers audit`: do the books balance?

Two looks. The census, one step in Redis, holds at any moment: accepted = ended + live. The deep look reads every record and
compares it with the sets; on a busy system a job may move between two of its reads, so a difference is looked at again
before it counts.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import click
import redis

from app.errors import TandemError
from app.job import Route, Service, State
from app.ledger import Census, Ledger
from app.store import open_redis

_BATCH = 500
_PLACES = ("leases", "delayed", "finished", "held", "cloud")  # of jobs of all services


@dataclass(slots=True)
class Audit:
    """What was found. `faults` is empty when the books balance."""

    census: Census
    states: Counter[str] = field(default_factory=Counter)
    recorded_twice: int = 0
    attempts_over_one: int = 0
    faults: list[str] = field(default_factory=list)

    @property
    def balanced(self) -> bool:
        """Whether nothing is amiss."""
        return self.census.balanced and not self.faults


def take(client: redis.Redis, ledger: Ledger) -> Audit:
    """Return an audit of the whole ledger."""
    result = Audit(ledger.census())
    suspects = dict(_faults(client, result))
    for job_id in suspects:  # a job that moved while we looked is well the second time
        fault = _fault(*_look(client, [job_id])[0])
        if fault:
            result.faults.append(f"job {job_id}: {fault}")
    if not result.census.balanced:
        result.faults.append(f"the counts do not balance: {result.census}")
    result.faults += _orphans(client)
    result.faults += [f"job {job_id}: is held, and nobody will let it go"
                      for job_id in _held(client) if _stranded(client, job_id) and _stranded(client, job_id)]
    return result


def _faults(client: redis.Redis, result: Audit) -> Iterator[tuple[str, str]]:
    batch: list[str] = []
    for key in client.scan_iter(match="job:*", count=_BATCH):
        batch.append(key.decode().removeprefix("job:"))
        if len(batch) >= _BATCH:
            yield from _check(client, batch, result)
            batch = []
    yield from _check(client, batch, result)


def _check(client: redis.Redis, batch: list[str], result: Audit) -> Iterator[tuple[str, str]]:
    for job_id, (record, places) in zip(batch, _look(client, batch), strict=True):
        result.states[record["state"]] += 1
        result.recorded_twice += int(record["recorded"] or 0) > 1
        result.attempts_over_one += int(record["attempt"] or 0) > 1
        if fault := _fault(record, places):
            yield job_id, fault


def _look(client: redis.Redis, batch: list[str]) -> list[tuple[dict[str, str], set[str]]]:
    """Return what of each job's record is checked, and the sets it is in. One transaction a job, so it cannot move."""
    fields = ("state", "recorded", "attempt", "service", "route", "ticket")
    found = []
    with client.pipeline(transaction=True) as pipeline:
        for job_id in batch:
            pipeline.hmget(f"job:{job_id}", fields)
            for where in _PLACES:
                pipeline.zscore(where, job_id)
            for service in Service:
                pipeline.zscore(f"waiting:{service.value}", job_id)
        replies = pipeline.execute()
    width = 1 + len(_PLACES) + len(Service)
    for start in range(0, len(replies), width):
        values, *scores = replies[start:start + width]
        record = {name: (value or b"").decode() for name, value in zip(fields, values, strict=True)}
        names = [*_PLACES, *(f"waiting:{service.value}" for service in Service)]
        found.append((record, {name for name, score in zip(names, scores, strict=True) if score is not None}))
    return found


def _fault(record: dict[str, str], places: set[str]) -> str | None:
    """Say what is wrong with a job: where it lies must follow from its state, and an ended one was recorded once."""
    if not record["state"]:
        return None  # purged meanwhile
    state = State(record["state"])
    lawful = {State.QUEUED: [{f"waiting:{record['service']}"}, {"delayed"}, {"held"}, {"cloud"}],
              State.RUNNING: [{"leases"}]}.get(state, [{"finished"}])
    if places not in lawful:
        return f"is {state} but lies in {sorted(places) or 'no set'}"
    if int(record["recorded"] or 0) != int(state.terminal):
        return f"is {state} and was recorded {record['recorded'] or 0} times"
    return _astray(state, record, places)


def _astray(state: State, record: dict[str, str], places: set[str]) -> str | None:
    """Say what is wrong with a job's route: a live one that goes to the cloud has a ticket, and no other has; a queued one
    is where it is to run."""
    away = record["route"] == Route.CLOUD and not state.terminal
    if away != bool(record["ticket"]):
        return f"is {state} by the route {record['route']}, {'with a' if record['ticket'] else 'without a'} ticket"
    if state is State.QUEUED and away != (places == {"cloud"}):
        return f"is {state} by the route {record['route']} but lies in {sorted(places)}"
    return None


def _held(client: redis.Redis) -> list[str]:
    return [job_id.decode() for job_id in client.zrange("held", 0, -1)]


def _stranded(client: redis.Redis, job_id: str) -> bool:
    """Whether a held job waits for nothing: what it follows is not live, and it is not behind another in a line."""
    follows, line = client.hmget(f"job:{job_id}", "follows", "line")
    if client.zscore("held", job_id) is None:
        return False
    if follows:
        state = client.hget(f"job:{follows.decode()}", "state")
        return state is None or State(state.decode()).terminal
    ahead = client.lrange(f"line:{line.decode()}", 0, 0) if line else []
    return not ahead or ahead[0].decode() == job_id


def _orphans(client: redis.Redis) -> list[str]:
    """Find ids in the sets of live jobs that have no record."""
    faults = []
    for name in ("leases", "delayed", "held", "cloud", "deadlines", *(f"waiting:{service.value}" for service in Service)):
        for job_id in client.zrange(name, 0, -1):
            if not client.exists(f"job:{job_id.decode()}") and client.zscore(name, job_id) is not None:
                faults.append(f"{name} holds {job_id.decode()}, which has no record")
    return faults


@click.command(name="audit")
@click.pass_context
def audit(context: click.Context) -> None:
    """Check that every accepted job is accounted for, once. Exits 1 when not."""
    settings = context.obj.app.tandem_settings
    try:
        client = open_redis(settings)
        result = take(client, Ledger(client, settings))
    except (TandemError, redis.exceptions.RedisError, OSError) as exc:
        raise click.ClickException(str(exc)) from exc
    counts = result.census.counts
    click.echo(f"accepted {counts.get('accepted', 0)} = ended {result.census.terminal} + live {result.census.live}")
    click.echo("records: " + (", ".join(f"{state} {number}" for state, number in sorted(result.states.items())) or "none"))
    click.echo(f"recorded twice {result.recorded_twice}; ran more than once {result.attempts_over_one}; "
               f"late results refused {counts.get('stale', 0)}; wake-ups repeated {counts.get('rewoken', 0)}")
    for fault in result.faults[:20]:
        click.echo(f"FAULT {fault}")
    click.echo("balanced" if result.balanced else f"NOT BALANCED: {len(result.faults)} faults")
    if not result.balanced:
        context.exit(1)
