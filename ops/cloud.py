"""`celery -A workers cloud ...`: send jobs to the cloud, have them back, and see how it stands, for operators."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import click
import msgspec
import redis

from app import cloud_state, queues, topology
from app.cloud_registry import CloudRegistry
from app.errors import JobGone, JobUnknown, TandemError
from app.job import Job, Route, Service, State, model_part
from app.ledger import Cap, CloudLedger, Ledger
from app.routing_board import RoutingBoard
from app.routing_rules import Rules
from app.settings import Settings
from app.store import open_redis
from ops.operator_command import with_settings
from routing.cloud import broker

if TYPE_CHECKING:
    from routing.cloud.sending import Sender, Sent

_DECISION = msgspec.json.encode({"rule": "by-hand", "detail": "an operator sent it to the cloud"})
_WIDTH = 10  # of the names in front of what is shown
_PEEKED = 16  # messages that MNS shows of a queue at most

#: What the ledger counts of the cloud, as operators read it.
_COUNTS = {"sent": "sent", "came_home": "came home", "stale": "late answers refused"}


class CloudError(TandemError):
    """What was asked for cannot be done."""


@click.group(name="cloud")
def cloud() -> None:
    """Jobs in the cloud: send, recall, status."""


@cloud.command("send")
@click.argument("job_ids", metavar="[JOB]...", nargs=-1)
@click.option("--waiting", type=click.IntRange(min=1), metavar="N", help="Those N that would wait longest here.")
@with_settings
def send(settings: Settings, job_ids: tuple[str, ...], waiting: int | None) -> None:
    """Send waiting jobs of the model service. Of a job of the chat service, the model's part is sent."""
    if bool(job_ids) == (waiting is not None):
        raise click.UsageError("name jobs, or say --waiting N; one of the two")
    from routing.cloud.post import Post  # with Alibaba's SDK, which the other commands need not load
    from routing.cloud.sending import Sender

    _check_set(settings)
    client = open_redis(settings)
    rules = RoutingBoard(client).rules(topology.load()[1].rules)
    with Post(settings) as post:
        sender = Sender(CloudLedger(client, settings), post, settings)
        if waiting is None:
            _send_named(client, settings, sender, job_ids, rules)
        else:
            sent = sender.send_waiting(waiting, decision=_DECISION, rules=rules)
            _show_sent(settings, sent)
            if sent.cap:
                raise CloudError(f"{sent.refused} of {waiting} were not sent: {_capped(sent.cap, rules)}")
            if not sent.sent:
                click.echo("no job waits")
                return
            if len(sent.sent) < waiting:
                click.echo("no other job waits")
    if not CloudRegistry(client).workers():
        click.echo(f"no cloud worker is heard of; what was sent comes home in {settings.cloud_wait_s:g} s unless one comes",
                   err=True)


def _send_named(client: redis.Redis, settings: Settings, sender: "Sender", job_ids: tuple[str, ...], rules: Rules) -> None:
    """Send these jobs. Raises `CloudError`, `JobUnknown` or `JobGone` for a single one; for several, they are said, and at
    the end `CloudError` is raised."""
    failed = 0
    for job_id in job_ids:
        try:
            _send_one(client, settings, sender, job_id, rules)
        except (CloudError, JobUnknown, JobGone) as exc:
            if len(job_ids) == 1:
                raise
            failed += 1
            click.echo(f"not sent: {exc}", err=True)
    if failed:
        raise CloudError(f"{failed} of {len(job_ids)} were not sent")


def _send_one(client: redis.Redis, settings: Settings, sender: "Sender", job_id: str, rules: Rules) -> None:
    """Send a job, or the model's part of one. Raises `CloudError`, `JobUnknown` or `JobGone`."""
    part = _sendable(Ledger(client, settings), job_id)
    sent = sender.send_job(part, decision=_DECISION, rules=rules)
    if isinstance(sent, Cap):
        raise CloudError(f"job {job_id} was not sent: {_capped(sent, rules)}")
    if sent is None or isinstance(sent, State):
        raise CloudError(_why_not(client, settings, part))
    _show_sent(settings, sent, of=job_id if part != job_id else None)


def _capped(cap: Cap, rules: Rules) -> str:
    """Say which cap is reached, and what to do."""
    if cap is Cap.JOBS:
        fact = f"{rules.cloud_jobs_per_minute} jobs a minute may be sent, and were"
    else:
        fact = f"of {rules.cloud_money_per_hour:g} that an hour may cost, not enough is left for its worst case"
    return f"{fact}; wait, or change it with `celery -A workers route set`"


def _show_sent(settings: Settings, sent: "Sent", *, of: str | None = None) -> None:
    """Show what became of the jobs, which are parts `of` another, if any. Raises `CloudError` where not all were sent."""
    more = f", the model's part of {of}" if of else ""
    for job_id in sent.sent:
        click.echo(f"sent: {job_id}{more}")
    for job_id in sent.perhaps:
        click.echo(f"perhaps sent: {job_id}{more}; it comes home in {settings.cloud_wait_s:g} s if no cloud worker begins "
                   "it")
    kept = [f"job {job_id} stays here: {why}" for job_id, why in sent.kept.items()]
    if kept and not sent.sent and not sent.failure:
        raise CloudError("\n".join(kept))
    for line in kept:
        click.echo(line)
    if sent.failure:
        fact = "nobody can say whether MNS took it" if sent.perhaps else "MNS did not take it"
        raise CloudError(f"{fact}: {sent.failure}")


def _sendable(ledger: Ledger, job_id: str) -> str:
    """Return the id of the job to send where an operator names this one. Raises `CloudError`, `JobUnknown` or `JobGone`."""
    job = ledger.read(job_id)
    if job.service is Service.MODEL:
        return job_id
    if job.service is not Service.CHAT:
        raise CloudError(f"job {job_id} is of the service {job.service}; only the model's jobs can run in the cloud")
    part = model_part(job_id)
    try:
        ledger.read(part)
    except JobUnknown as exc:
        raise CloudError(f"chat job {job_id} is {job.state} and has not asked the model; there is nothing to send") from exc
    return part


def _why_not(client: redis.Redis, settings: Settings, job_id: str) -> str:
    """Say why a job cannot be sent."""
    job = Ledger(client, settings).read(job_id)
    if job.state.terminal:
        return f"job {job_id} is {job.state}; only jobs that wait can be sent"
    if job.state is State.RUNNING:
        return f"job {job_id} runs on {job.worker}; only jobs that wait can be sent"
    if job.route is Route.CLOUD:
        return f"job {job_id} was sent to the cloud already"
    if client.zscore("held", job_id) is not None:
        return f"job {job_id} is held for another: for its turn in a line, or for the answer to the same request"
    if client.zscore("delayed", job_id) is not None:
        return f"job {job_id} waits for the time of its next attempt; send it then"
    return f"job {job_id} moved while it was looked at; try again"


@cloud.command("recall")
@click.argument("job_ids", metavar="[JOB]...", nargs=-1)
@click.option("--all", "whole", is_flag=True, help="All that no cloud worker has begun.")
@with_settings
def recall(settings: Settings, job_ids: tuple[str, ...], whole: bool) -> None:
    """Have jobs back that were sent and that no cloud worker has begun, as far as is known here."""
    if bool(job_ids) == whole:
        raise click.UsageError("name jobs, or say --all; one of the two")
    client = open_redis(settings)
    ledger, home = CloudLedger(client, settings), Ledger(client, settings)
    if whole:
        back = ledger.recall(most=home.census().cloud)
    else:
        named = [_part_of(home, job_id) for job_id in job_ids]
        back = ledger.recall(job_ids=named)
        for job_id in named:
            if job_id not in back:
                click.echo(f"not recalled: {_why_not_back(home.read(job_id))}", err=True)
    for job_id in back:
        click.echo(f"came home: {job_id}")
    if whole and not back:
        click.echo("no job is out there that has not begun")
    if not whole and len(back) < len(job_ids):
        raise CloudError(f"{len(job_ids) - len(back)} of {len(job_ids)} did not come home")


def _part_of(ledger: Ledger, job_id: str) -> str:
    """Return the id of the job itself, or of the model's part of a chat job. Raises `JobUnknown` or `JobGone`."""
    return model_part(job_id) if ledger.read(job_id).service is Service.CHAT else job_id


def _why_not_back(job: Job) -> str:
    if job.route is not Route.CLOUD:
        return f"job {job.id} is {job.state}, and not in the cloud"
    if job.state is State.RUNNING:
        return f"job {job.id} runs on {job.worker} in the cloud; cancel it, or wait for its end"
    return f"job {job.id} is {job.state}"


@cloud.command("status")
@with_settings
def status(settings: Settings) -> None:
    """Show whether the queues are reached, what is in the cloud, who works there, and what was counted."""
    _check_set(settings)
    client = open_redis(settings)
    found = cloud_state.read(client, settings, queues.read(client))
    counts = Ledger(client, settings).census().counts
    assert found is not None, "MNS is set"
    _show("queues", f"{found.url}, names begin with {found.prefix}")
    for link in found.links:
        fact = "reaches them" if link.reachable else f"has not reached them for {link.for_s:.0f} s: {link.why}"
        _show("at home", f"{link.who}: {fact}")
    if not found.links:
        _show("at home", "no queue worker says whether it reaches them; none lives, or none has mns_url set")
    _show("sent", f"{found.sent} not begun, as far as is known here")
    _show("running", str(found.running))
    for worker in found.workers:
        _show("worker", f"{worker.name}  {worker.busy} of {worker.slots} slots busy  engine {worker.engine}  "
                        f"{worker.processor or 'not pinned'}  heard of {worker.heard_s:.1f} s ago"
                        f"{'  stopping' if worker.stopping else ''}")
    if not found.workers:
        _show("worker", "none lives")
    _show("counted", ", ".join(f"{text} {counts.get(name, 0)}" for name, text in _COUNTS.items()))
    for line in _look(settings):  # last: an MNS that does not answer is waited for
        _show("from here", line)


def _look(settings: Settings) -> Iterator[str]:
    """Say whether the queues are reached from here, and what was put aside there."""
    from routing.cloud.post import ERRORS

    try:
        with broker.connected(settings) as connection:
            channel = connection.channel()
            yield "they are reached"
            for queue in (broker.jobs_queue(settings), broker.results_queue(settings)):
                dead = broker.dead_queue(queue)
                if found := channel.peek(dead):
                    yield f"{found}{' or more' if found >= _PEEKED else ''} messages were put aside in {dead}"
    except ERRORS as exc:
        yield f"they are not reached: {exc}"


def _show(name: str, text: str) -> None:
    click.echo(f"{name:{_WIDTH}} {text}")


def _check_set(settings: Settings) -> None:
    if not settings.mns_url:
        raise CloudError("there is no cloud: set mns_url (TANDEM_MNS_URL) and, unless the keys are in the environment, "
                         "mns_credentials; or give the topology a [cloud] table and run `make up`")
