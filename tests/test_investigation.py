"""An investigation says what was slow and where its time went, within seconds, and nothing of what callers asked or got."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import msgspec
import pytest
import redis

from app import topology
from app.investigation_records import Report, SystemPart
from app.investigation_text import text
from app.investigations import Investigations
from app.job import Lane, Service, State, model_part
from app.ledger import Claim, Ending, Ledger, Piece, Saying, Voice, new_owner
from app.routing_records import Decision, Gauge, Level, Remembered, Shown
from app.settings import Settings
from app.signals import Signals
from ops.waiting import wait_until
from routing.investigation import Investigator, system
from tests.alerts import an_alert
from tests.busy import a_process
from tests.model_ledger import PLACE, a_job, a_running_job

PROMPT = b'{"prompt": "the-prompt-of-a-caller"}'
ANSWER = b'{"text": "the-answer-to-it"}'


@contextmanager
def investigating(settings: Settings, *servers: str) -> Iterator[None]:
    """What looks into reports, as the queue workers of these servers run it."""
    _, plan = topology.load({})
    running = [Investigator(replace(settings, server=name), plan, who=f"queue@{name}") for name in servers]
    for each in running:
        each.start()
    try:
        yield
    finally:
        for each in running:
            each.stop()
        for each in running:
            each.join(20)


def register(ledger: Ledger, name: str, pid: int, *, busy: int = 1, service: str = "model") -> None:
    """Say that a worker lives."""
    ledger.register(name, {
        "server": name.partition("@")[2], "services": service, "pid": pid, "host": socket.gethostname(), "processors": "P2",
        "cpus": "0", "slots": 8, "busy": busy, "idle_ms": 0, "beat_ms": 0, "figures": "{}"}, 60.0)


def whole(report_id: str, client: redis.Redis, *servers: str) -> Report:
    """Wait until a report has these parts."""
    reports = Investigations(client)

    def come() -> Report | None:
        report = reports.read(report_id)
        return report if report.system and set(report.servers) >= set(servers) else None

    found = wait_until(come, timeout_s=15, what=f"the parts of {servers} and of the whole")
    assert found
    return found


def seen(client: redis.Redis, settings: Settings) -> SystemPart:
    """What is seen of the whole now."""
    return system.look(client, settings, ("server-1",), who="queue@server-1", now_ms=Investigations(client).now_ms())


# -- the parts of a stack


def test_each_server_and_one_for_the_whole_contribute_within_seconds(
        client: redis.Redis, settings: Settings, ledger: Ledger) -> None:
    with a_process() as busy, investigating(settings, "server-1", "server-2"):
        register(ledger, "model@server-1", busy)
        register(ledger, "queue@server-2", os.getpid(), busy=0, service="queue")
        report_id = Investigations(client).ask(an_alert("response_s"))
        report = whole(report_id, client, "server-1", "server-2")

    assert report.missing == ()
    assert report.system
    assert report.system.servers == ("server-1", "server-2")
    assert [worker.name for worker in report.system.workers] == ["model@server-1", "queue@server-2"]
    one, two = report.servers["server-1"], report.servers["server-2"]
    (process,) = one.stacks
    assert (process.worker, process.pid, process.threads[0].holds_gil) == ("model@server-1", busy, True)
    assert two.stacks == ()  # it has no worker of a slow service
    assert busy in [each.pid for each in two.by_cpu if each.worker == "model@server-1"]  # whose ever it is
    (hot,) = [each for each in one.by_cpu if each.pid == busy]
    assert (hot.worker, hot.name.partition(" ")[2]) == ("model@server-1", "-c")
    assert hot.cpu_percent > 10
    assert len(one.by_memory) == 10
    assert one.cpus == os.cpu_count()
    assert max(one.took_s, two.took_s) < 8


def test_a_worker_of_another_machine_is_not_looked_into(client: redis.Redis, settings: Settings, ledger: Ledger) -> None:
    """Its pid means another process here."""
    register(ledger, "model@server-1", os.getpid())
    client.hset("worker:model@server-1", "host", "another-machine")
    with investigating(settings, "server-1"):
        report = whole(Investigations(client).ask_by_hand("ann", "slow"), client, "server-1")

    assert report.servers["server-1"].stacks == ()
    assert report.servers["server-1"].notes == ("model@server-1 does not run on this machine, or is gone",)


def test_where_the_one_that_looks_at_the_whole_dies_another_does(
        client: redis.Redis, settings: Settings, ledger: Ledger) -> None:
    ledger.lead("investigation", "queue@server-2", 1.5)
    with investigating(settings, "server-1"):
        report = whole(Investigations(client).ask_by_hand("ann", "slow"), client)

    assert report.system
    assert report.system.who == "queue@server-1"


# -- where the time of jobs went


def test_the_time_of_a_job_is_told_as_waiting_until_its_first_word_and_speaking(
        client: redis.Redis, settings: Settings, ledger: Ledger) -> None:
    now_ms = Investigations(client).now_ms()
    ledger.now_ms = now_ms - 10_000
    job_id = ledger.submit(a_job(input=PROMPT)).job_id
    ledger.now_ms = now_ms - 7000
    claim = ledger.claim(job_id, PLACE, owner=new_owner())
    assert isinstance(claim, Claim)
    ledger.now_ms = now_ms - 3000
    ledger.say([Saying(claim, Piece(1, 5, Voice.CONTENT, "hello"))])
    ledger.now_ms = now_ms - 1000
    ledger.settle(claim, State.SUCCEEDED, Ending(result=ANSWER))
    ledger.now_ms = None
    quick = a_running_job(ledger)
    ledger.settle(quick, State.SUCCEEDED)

    slowest, *_ = found = seen(client, settings).slowest
    assert [each.id for each in found] == [job_id, quick.id]
    assert (slowest.total_s, slowest.waiting_s, slowest.until_word_s, slowest.speaking_s) == (9.0, 3.0, 4.0, 2.0)
    assert (slowest.state, slowest.server, slowest.worker, slowest.attempt) == (
        State.SUCCEEDED, "server-1", "model@server-1", 1)


def test_a_chat_tells_of_its_model_part(client: redis.Redis, settings: Settings, ledger: Ledger) -> None:
    chat = a_running_job(ledger, Service.CHAT)
    ledger.now_ms = Investigations(client).now_ms() - 4000
    part = ledger.submit(a_job(id=model_part(chat.id), parent=chat.id)).job_id
    ledger.now_ms += 3000
    ledger.claim(part, PLACE, owner=new_owner())

    of_chat = next(each for each in seen(client, settings).running if each.id == chat.id)
    assert of_chat.model
    assert (of_chat.model.id, of_chat.model.state, of_chat.model.waiting_s) == (part, State.RUNNING, 3.0)
    assert 0.9 <= of_chat.model.running_s < 3


def test_jobs_that_run_and_wait_are_told_longest_first(client: redis.Redis, settings: Settings, ledger: Ledger) -> None:
    now_ms = Investigations(client).now_ms()
    jobs = []
    for age_ms in (5000, 20_000, 1000):
        ledger.now_ms = now_ms - age_ms
        jobs.append(ledger.submit(a_job(lane=Lane.BATCH)).job_id)
    ledger.now_ms = now_ms - 500
    running = [ledger.claim(job_id, PLACE, owner=new_owner()) for job_id in jobs[:2]]
    assert all(isinstance(each, Claim) for each in running)

    found = seen(client, settings)
    assert [each.id for each in found.running] == [jobs[1], jobs[0]]
    assert [each.id for each in found.waiting] == [jobs[2]]
    waiting, = found.waiting
    assert (waiting.until_word_s, waiting.speaking_s) == (None, None)
    assert waiting.waiting_s == waiting.total_s >= 1.0
    assert found.running[0].until_word_s is not None
    (queue,) = [each for each in found.queues if each.service == "model"]
    assert (queue.waiting, queue.running) == (1, 2)


def test_jobs_that_ended_long_ago_are_not_told(client: redis.Redis, settings: Settings, ledger: Ledger) -> None:
    ledger.now_ms = Investigations(client).now_ms() - 400_000
    ledger.settle(a_running_job(ledger), State.SUCCEEDED)

    assert seen(client, settings).slowest == ()


# -- Redis, routing


@pytest.fixture
def watched(client: redis.Redis) -> Iterator[None]:
    """A Redis that notes every command as slow, and what takes it longer than 5 ms."""
    names = ("slowlog-log-slower-than", "latency-monitor-threshold")
    before = {name: value for each in names for name, value in client.config_get(each).items()}
    client.slowlog_reset()
    client.config_set(names[0], 0)
    client.config_set(names[1], 5)
    yield
    for name, value in before.items():
        client.config_set(name, value)
    client.slowlog_reset()
    client.execute_command("LATENCY", "RESET")


def test_slow_commands_are_told_by_name_and_script_and_what_was_late_with_its_history(
        client: redis.Redis, settings: Settings, ledger: Ledger, watched: None) -> None:
    client.eval("local t = redis.call('TIME'); repeat local n = redis.call('TIME') "
                "until (n[1] - t[1]) * 1000000 + n[2] - t[2] > 20000", 0)
    ledger.submit(a_job(input=PROMPT))

    found = seen(client, settings)
    assert "EVALSHA ledger.submit" in [each.command for each in found.slow_log]
    assert found.slow_log[0].command == "EVAL"
    assert 20 <= found.slow_log[0].took_ms < 1000
    event = next(each for each in found.latency if each.worst_ms >= 20)
    assert event.history[-1][1] == event.latest_ms
    assert found.redis["latency-monitor-threshold"] == "5"
    assert found.redis["role"] == "master"
    assert found.notes == ()


def test_signals_are_told_as_the_last_round_of_routing_had_them(client: redis.Redis, settings: Settings) -> None:
    gauges = {"response_s@server-1": Gauge(level=Level.ALERT, since_s=1_764_000_000, value=2.5)}
    shown = Shown(at_ms=1, leader="queue@server-1", epoch=1, paused=False, acting=True,
                  signals=Signals(at_ms=1, servers={}, queues={}), remembered=Remembered(gauges=gauges),
                  decision=Decision(reason="all is calm but the answers"))
    client.set("routing:shown", msgspec.json.encode(shown))

    found = seen(client, settings)
    (level,) = found.levels
    assert (level.signal, level.level, level.value) == ("response_s@server-1", Level.ALERT, 2.5)
    assert found.reason == "all is calm but the answers"


def test_what_cannot_be_seen_is_left_out_with_a_note(client: redis.Redis, settings: Settings) -> None:
    client.set("finished", "no set")
    client.set("routing:shown", "{")

    found = seen(client, settings)
    assert (found.slowest, found.levels, found.redis["role"]) == ((), (), "master")
    assert [note.partition(" cannot be told")[0] for note in found.notes] == [
        "how routing stood", "which jobs were slowest"]


# -- what is not in a report


def test_nothing_of_callers_and_no_secret_is_in_a_report(
        client: redis.Redis, settings: Settings, ledger: Ledger, watched: None) -> None:
    with a_process() as busy, investigating(settings, "server-1"):
        register(ledger, "model@server-1", busy)
        running = a_running_job(ledger, input=PROMPT, idempotency_key="key-of-the-caller")
        ended = a_running_job(ledger, input=PROMPT)
        ledger.settle(ended, State.SUCCEEDED, Ending(result=ANSWER))
        client.set("a-key-with-secret", "a-value")
        report = whole(Investigations(client).ask(an_alert("response_s")), client, "server-1")

    written = msgspec.json.encode(report).decode() + text(report)
    assert running.id in written
    assert ended.id in written
    assert str(busy) in written
    for secret in ("the-prompt-of-a-caller", "the-answer-to-it", "key-of-the-caller", "s3cr3t-key", "a-key-with-secret",
                   "a-value", "ann"):
        assert secret not in written


def test_a_report_reads_well(client: redis.Redis, settings: Settings, ledger: Ledger) -> None:
    with a_process() as busy, investigating(settings, "server-1"):
        register(ledger, "model@server-1", busy)
        claim = a_running_job(ledger)
        report = whole(Investigations(client).ask(an_alert("response_s")), client, "server-1")

    lines = text(report).splitlines()
    assert lines[0] == f"Report {report.asked.id}"
    for part in ("alert: response_s on server-1; 91.25 % for 10 s", "== Jobs that run", "== Queues", "== Workers",
                 "== Redis", f"Threads of model@server-1 (pid {busy}, 1 jobs):",
                 "  1 x MainThread: holds the interpreter", "== server-2 has not contributed: its queue worker was down, "
                 "or busy with another report"):
        assert part in lines
    assert any(line.startswith(claim.id) for line in lines)
    assert any("grind_the_prompt" in line for line in lines)
