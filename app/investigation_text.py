"""A report of an investigation, as people read it."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime

from app.investigation_records import (
    JobTimes,
    Process,
    ProcessStacks,
    Report,
    ServerPart,
    SystemPart,
    ThreadStack,
    WorkerState,
)
from app.job import timestamp

_FRAMES = 12  # of a stack that are written
_WAITERS = 5  # places where threads wait that are written for each process


def text(report: Report) -> str:
    """Return the whole report, line by line."""
    return "\n".join(_lines(report)) + "\n"


def _lines(report: Report) -> Iterator[str]:
    asked = report.asked
    yield f"Report {asked.id}"
    yield f"asked for at {timestamp(asked.at_ms)} by {asked.who}: {asked.why}"
    if asked.alert:
        yield f"alert: {asked.alert.name} on {asked.alert.scope}; {asked.alert.detail}"
    if report.system is None:
        yield "No queue worker has looked at the whole yet: it comes within seconds, or never if none runs."
    else:
        yield from _of_system(report.system)
    for part in report.servers.values():
        yield from _of_server(part)
    for server in report.missing:
        yield from _head(f"{server} has not contributed: its queue worker was down, or busy with another report")


def _head(title: str) -> Iterator[str]:
    yield ""
    yield f"== {title}"


def _of_system(part: SystemPart) -> Iterator[str]:
    yield from _head(f"The whole, as {part.who} saw it at {timestamp(part.at_ms)}")
    yield f"routing: {part.reason or 'nothing to say'}"
    for level in part.levels:
        value = "unknown" if level.value is None else f"{level.value:.2f}"
        yield f"  {level.signal} {level.level}, {value}, since {_clock(level.since_s)}"
    yield from _jobs("Slowest jobs that ended lately", part.slowest)
    yield from _jobs("Jobs that run", part.running)
    yield from _jobs("Jobs that wait", part.waiting)
    yield from _head("Queues")
    yield from _table([["service", "waiting", "woken", "running", "in cloud", "sent", "held", "oldest"], *(
        [q.service, str(q.waiting), str(q.woken), str(q.running), str(q.in_cloud), str(q.sent), str(q.held), _s(q.oldest_s)]
        for q in part.queues)])
    yield from _workers(part.workers)
    if part.cloud:
        yield from _head("Cloud")
        yield ", ".join(f"{name} {value}" for name, value in part.cloud.items() if value != "")
    yield from _redis(part)
    yield from (f"note: {note}" for note in part.notes)


def _jobs(title: str, jobs: Sequence[JobTimes]) -> Iterator[str]:
    if not jobs:
        return
    yield from _head(title)
    rows = [["job", "service", "state", "where", "attempt", "total", "waiting", "to first word", "speaking"]]
    rows += [[job.id, job.service, job.state.value, job.server or job.route, str(job.attempt), _s(job.total_s),
              _s(job.waiting_s), _s(job.until_word_s), _s(job.speaking_s)] for job in jobs]
    lines = list(_table(rows))
    yield lines[0]
    for job, line in zip(jobs, lines[1:], strict=True):
        yield line
        if job.model:
            yield (f"  its model part {job.model.id}: {job.model.state}, {_s(job.model.waiting_s)} waiting, "
                   f"{_s(job.model.running_s)} running on {job.model.server or 'no server'}")


def _workers(workers: Sequence[WorkerState]) -> Iterator[str]:
    if not workers:
        return
    yield from _head("Workers")
    yield from _table([["worker", "pid", "busy", "slots", "idle", "heard", "held"], *(
        [w.name, str(w.pid), str(w.busy), str(w.slots), _s(w.idle_s), _s(w.heard_s), ",".join(w.held) or "-"]
        for w in workers)])


def _redis(part: SystemPart) -> Iterator[str]:
    yield from _head("Redis")
    yield ", ".join(f"{name} {value}" for name, value in part.redis.items())
    yield from (f"slow: {_clock(each.at_s)} {each.command} {each.took_ms:.1f} ms" for each in part.slow_log)
    for event in part.latency:
        yield f"latency: {event.event} {event.latest_ms} ms at {_clock(event.at_s)}, at worst {event.worst_ms} ms"
    if not part.latency and part.redis.get("latency-monitor-threshold") == "0":
        yield "latency: not watched; `CONFIG SET latency-monitor-threshold 100` has Redis note what takes 100 ms"


def _of_server(part: ServerPart) -> Iterator[str]:
    load = " ".join(f"{each:.2f}" for each in part.load)
    yield from _head(f"{part.server} at {timestamp(part.at_ms)}: load {load} on {part.cpus} CPUs")
    yield from (f"note: {note}" for note in part.notes)
    for title, found in (("By CPU", part.by_cpu), ("By memory", part.by_memory)):
        yield f"{title}:"
        yield from _processes(found)
    for process in part.stacks:
        yield from _stacks(process)


def _processes(found: Iterable[Process]) -> Iterator[str]:
    yield from _table([["pid", "name", "CPU %", "MB", "threads", "worker"], *(
        [str(p.pid), p.name, f"{p.cpu_percent:.1f}", f"{p.memory_mb:.0f}", str(p.threads), p.worker or "-"]
        for p in found)])


def _stacks(process: ProcessStacks) -> Iterator[str]:
    yield f"Threads of {process.worker} (pid {process.pid}, {process.busy} jobs):"
    shown = [each for each in process.threads if each.active or each.holds_gil]
    waiting = [each for each in process.threads if each not in shown]
    for thread in [*shown, *waiting[:_WAITERS]]:
        yield from _thread(thread)
    if left := sum(each.count for each in waiting[_WAITERS:]):
        yield f"  {left} more threads wait elsewhere"
    if process.note:
        yield f"  {process.note}"


def _thread(thread: ThreadStack) -> Iterator[str]:
    state = "holds the interpreter" if thread.holds_gil else "runs" if thread.active else "waits"
    yield f"  {thread.count} x {', '.join(thread.names)}: {state}"
    yield from (f"      {frame}" for frame in thread.frames[:_FRAMES])
    if len(thread.frames) > _FRAMES:
        yield f"      ... {len(thread.frames) - _FRAMES} more"


def _table(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        yield "  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()


def _s(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds:.2f} s"


def _clock(at_s: float) -> str:
    return datetime.fromtimestamp(at_s, UTC).strftime("%H:%M:%SZ")
