"""What the ledger's scripts cost Redis, measured on a server of its own that writes every change to disk, as ours does."""

import multiprocessing
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import msgspec
import redis

from app.job import Lane, NewJob, Service, State, new_job_id
from app.ledger import Claim, Ending, Ledger, Piece, Place, Saying, Voice, new_owner
from app.settings import Settings
from app.signal_board import SignalBoard
from app.signals import GatewayReport, Histogram, ServerSignals
from app.store import open_redis

BATCH = 16  # attempts of one worker, whose leases and words go in one call

_PLACE = Place(worker="model@server-1", server="server-1", processor="P2")
_INPUT = msgspec.json.encode({"messages": [{"role": "user", "content": "word " * 100}], "max_tokens": 256})
_RESULT = msgspec.json.encode({"text": "word " * 200})
_USAGE = msgspec.json.encode({"prompt_tokens": 100, "completion_tokens": 200})
_CALLERS = 16  # at once, when it is measured what a call costs
_PROCESSES = 2
_START_S = 4.0  # until the processes that make load have come up
_LATEST_END_S = 60.0  # for their last answers


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """One call."""

    name: str
    who: str  # calls it, and how often
    redis_us: float  # of Redis's processor time, when many call at once
    call_ms: float  # as the caller sees it, when nobody else calls


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """Whole jobs, submitted, taken and settled as fast as some callers can, each with a connection of its own."""

    callers: int
    jobs_s: float
    scripts_s: float
    redis_percent: float  # of a processor


def measure(settings: Settings, *, jobs: int) -> list[Cost]:
    """Measure each call that a job, a worker and a server make."""
    with open_redis(settings) as client:
        client.flushall()
        client.hset("windows", Service.MODEL.value, 64)
        ledger, board = Ledger(client, settings), SignalBoard(client)
        new = [_new_job() for _ in range(jobs)]
        claims: list[Claim] = []
        costs = [_cost(client, "submit", "gateway: each job", [partial(ledger.submit, job) for job in new]),
                 _cost(client, "take", "worker: each job", [partial(_take, ledger, claims) for _ in new])]
        batches = [claims[start:start + BATCH] for start in range(0, len(claims) - BATCH + 1, BATCH)]
        costs += [
            _cost(client, f"beat, {BATCH} leases", f"worker: every {settings.beat_s:g} s",
                  [partial(ledger.beat, batch) for batch in batches]),
            _cost(client, f"say, {BATCH} attempts", "worker: up to 33 times a second while answers are written",
                  [partial(ledger.say, _sayings(batch, place)) for place in (40, 80) for batch in batches]),
            _cost(client, "read", "gateway: each poll", [partial(ledger.read, job.id) for job in new]),
            _cost(client, "settle", "worker: each job", [partial(_settle, ledger, claim) for claim in claims]),
            _cost(client, "register", f"worker: every {settings.beat_s:g} s",
                  [partial(register, ledger, "server-1", Service.MODEL)] * (jobs // 4)),
            _cost(client, "gateway's report", "gateway process: every second",
                  [partial(board.put_gateway, _report(), [f"tenant-{n}" for n in range(50)])] * (jobs // 4)),
            _cost(client, "server's signals", "server: every second",
                  [partial(board.put_server, _signals())] * (jobs // 4))]
        return costs


def load(settings: Settings, *, callers: int, seconds: float) -> Load:
    """Let so many callers, in `_PROCESSES` processes, do whole jobs, each one after the other."""
    context = multiprocessing.get_context("spawn")
    with open_redis(settings) as client, context.Pool(_PROCESSES) as pool:
        client.flushall()
        client.hset("windows", Service.MODEL.value, 64)
        begin_at = time.time() + _START_S
        each = max(callers // _PROCESSES, 1)
        waiting = pool.starmap_async(_do_jobs, [(settings.redis_url, each, begin_at, seconds)] * _PROCESSES)
        _sleep_until(begin_at)
        before, scripts, began = _cpu_s(client), _scripts(client), time.perf_counter()
        _sleep_until(begin_at + seconds)
        used_s, called, took_s = _cpu_s(client) - before, _scripts(client) - scripts, time.perf_counter() - began
        done = waiting.get(timeout=_LATEST_END_S + seconds)
    return Load(callers=each * _PROCESSES, jobs_s=sum(done) / seconds, scripts_s=called / took_s,
                redis_percent=100 * used_s / took_s)


def register(ledger: Ledger, server: str, service: Service) -> None:
    """Say that a worker lives, as a worker does."""
    ledger.register(f"{service.value}@{server}", {
        "server": server, "services": service.value, "pid": 1, "host": "here", "processors": "P2", "cpus": "1", "slots": 16,
        "busy": 16, "idle_ms": 0, "held": "", "attempts": 500, "attempts_failed": 1, "beat_ms": 0,
        "figures": msgspec.json.encode({"batch": 16, "kv_mb": 512})}, 15.0)


def _do_jobs(url: str, callers: int, begin_at: float, seconds: float) -> int:
    """Run in a process of its own; return how many jobs its callers did within the time."""
    with ThreadPoolExecutor(callers) as threads:
        return sum(threads.map(partial(_do_some, url, begin_at), [begin_at + seconds] * callers))


def _do_some(url: str, begin_at: float, end_at: float) -> int:
    """Submit, take, beat, settle."""
    settings, done = Settings(redis_url=url), 0
    with open_redis(settings) as client:
        ledger = Ledger(client, settings)
        _sleep_until(begin_at)
        while time.time() < end_at:
            ledger.submit(_new_job())
            claim = ledger.take(Service.MODEL, _PLACE, owner=new_owner())
            if claim is not None:
                ledger.beat([claim])
                _settle(ledger, claim)
                done += 1
    return done


def _cost(client: redis.Redis, name: str, who: str, calls: list[Callable[[], object]]) -> Cost:
    """Make a part of the calls one after the other, for how long one takes, and the others by many at once, for what one
    costs: a busy Redis reads, and writes to disk, for several callers together."""
    calls[0]()  # the first loads the script
    alone, together = calls[1:1 + len(calls) // 8], calls[1 + len(calls) // 8:]
    began = time.perf_counter()
    for call in alone:
        call()
    call_ms = 1000 * (time.perf_counter() - began) / max(len(alone), 1)
    with ThreadPoolExecutor(_CALLERS) as threads:
        before = _cpu_s(client)
        list(threads.map(_call, together))
        redis_us = 1e6 * (_cpu_s(client) - before) / max(len(together), 1)
    return Cost(name=name, who=who, redis_us=redis_us, call_ms=call_ms)


def _call(call: Callable[[], object]) -> None:
    call()


def _new_job() -> NewJob:
    return NewJob(id=new_job_id(), service=Service.MODEL, task="model.generate", tenant="scale", input=_INPUT,
                  lane=Lane.STANDARD)


def _take(ledger: Ledger, claims: list[Claim]) -> None:
    claim = ledger.take(Service.MODEL, _PLACE, owner=new_owner())
    if claim is not None:
        claims.append(claim)


def _settle(ledger: Ledger, claim: Claim) -> None:
    ledger.settle(claim, State.SUCCEEDED, Ending(result=_RESULT, usage=_USAGE))


def _sayings(claims: list[Claim], position: int) -> list[Saying]:
    return [Saying(claim, Piece(claim.attempt, position, Voice.CONTENT, "some words more, as said ")) for claim in claims]


def _report() -> GatewayReport:
    return GatewayReport(server="server-1", pid=1, at_ms=0, calls=Histogram(), answers=Histogram(), requests=5000)


def _signals() -> ServerSignals:
    return ServerSignals(server="server-1", at_ms=0, cpu_percent=40.0, processors=dict.fromkeys("abcde", 40.0),
                         memory_percent=40.0, workers=tuple(f"{service.value}@server-1" for service in Service))


def _cpu_s(client: redis.Redis) -> float:
    used = client.info("cpu")
    return float(used["used_cpu_user"] + used["used_cpu_sys"])


def _scripts(client: redis.Redis) -> int:
    return int(client.info("commandstats").get("cmdstat_evalsha", {}).get("calls", 0))


def _sleep_until(at: float) -> None:
    time.sleep(max(at - time.time(), 0.0))
