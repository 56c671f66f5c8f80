"""Followers of a job while workers, gateways and Redis are killed and stopped; each test ends with the audit.

The stack beats slowly, so that what is heard at once is not heard with a beat.
"""

import signal
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

import psutil
import pytest
import requests

from app.api.events import paced
from app.registry import Registry
from ops.sandbox import Sandbox, is_gone, kill
from ops.waiting import wait_until
from tests.caller import Caller
from tests.reader import Reader, follow, read, text_of

BEAT_S, LEASE_S = 3.0, 6.0
AT_ONCE_S = 1.5  # well below the beat
SOON_S = 10.0
LONG = 200_000  # bytes; forty times that is more than what two sockets hold


@pytest.fixture(scope="module")
def slow_beat(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    sandbox = Sandbox.lay(tmp_path_factory.mktemp("slow"), lease_s=f"{LEASE_S}", beat_s=f"{BEAT_S}", redis_timeout_s="1",
                          edits={"concurrency = 16, most = 32": "concurrency = 1"})
    sandbox.up()
    yield sandbox
    sandbox.down()


@pytest.fixture
def one(slow_beat: Sandbox) -> Iterator[Caller]:
    """A caller; in the end no job is left, and the books balance."""
    report = slow_beat.report()
    wait_until(lambda: len(live(slow_beat)) == 10, timeout_s=30, what="ten live workers", every_s=0.2)
    with Caller(report["entry"], report["api_key"]) as caller:
        yield caller
    audit = slow_beat.celery("audit")
    assert audit.returncode == 0, audit.stdout + audit.stderr
    assert "live 0" in audit.stdout


def live(stack: Sandbox) -> dict[str, int]:
    return {worker.name: worker.pid for worker in Registry(stack.client()).workers() if not is_gone(worker.pid)}


def reader(stack: Sandbox, job_id: str, *, gateway: int = 0, after: str | None = None) -> Reader:
    report = stack.report()
    return Reader([*report["gateways"].values()][gateway], report["api_key"], job_id, after)


def master(stack: Sandbox, server: str) -> psutil.Process:
    (found,) = [process for process in psutil.Process(stack.report()["pids"][server]).children()
                if "gunicorn" in " ".join(process.cmdline())]
    return found


def is_closed(address: tuple[str, int]) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(address) != 0


def callers(gateway: psutil.Process, port: int) -> int:
    """Return how many connections a gateway has at a port."""
    return sum(connection.status == psutil.CONN_ESTABLISHED and connection.laddr.port == port
               for process in gateway.children() for connection in process.net_connections())


def gateway_is_back(stack: Sandbox, gone: psutil.Process) -> None:
    def back() -> bool:
        try:
            return (not gone.is_running() and master(stack, "server-1").pid != gone.pid
                    and requests.get(stack.report()["gateways"]["server-1"] + "/readyz", timeout=5).status_code == 200)
        except (requests.ConnectionError, requests.Timeout, ValueError, psutil.NoSuchProcess):
            return False  # its port takes connections before there is a process that answers

    wait_until(back, timeout_s=60, what="the gateway of server-1 to be back", every_s=0.2)


# -- workers


def test_when_a_worker_is_killed_the_reader_is_told_to_start_anew_and_reads_the_result(
        one: Caller, slow_beat: Sandbox) -> None:
    job = one.submit("one [stall 300ms] two [stall 2s] three")
    reading = reader(slow_beat, job["id"]).reaches("two")
    had = reading.events[-1].id
    kill(live(slow_beat)[f"model@{one.job(job['id'])['server']}"])

    events = reading.ends()
    names = [event.name for event in events]
    assert names.count("started") == names.count("restarted") == 1
    assert events[names.index("restarted")].data == {"attempt": 2}
    assert text_of(events) == events[-1].data["result"]["text"] == "one two three"
    again = read(one, job["id"], had)
    assert (again[0].name, again[0].id) == ("restarted", "2-0")
    assert text_of(again) == "one two three"
    assert [event.name for event in read(one, job["id"])].count("restarted") == 0, "he knows of no other attempt"


@pytest.mark.parametrize("service", ["model", "chat"])
def test_a_job_that_is_cancelled_while_it_speaks_frees_its_workers_slot_at_once(
        one: Caller, slow_beat: Sandbox, service: str) -> None:
    script = "[stall 100ms] hello [stall 300s]"
    bodies: list[dict[str, Any]] = [{"prompt": script}] * 2 if service == "model" else [
        {"conversation": name, "message": script} for name in ("c", "d")]
    jobs = [one.submit(service=service, input=body) for body in bodies]  # each worker of the model has one slot
    readers = [reader(slow_beat, job["id"]).reaches("hello") for job in jobs]
    began = time.monotonic()
    one.call("DELETE", f"/v1/jobs/{jobs[0]['id']}")
    assert one.ended(one.submit("free again")["id"])["state"] == "succeeded"
    took_s = time.monotonic() - began
    one.call("DELETE", f"/v1/jobs/{jobs[1]['id']}")

    assert took_s < AT_ONCE_S
    for reading in readers:
        assert reading.ends()[-1].name == "cancelled"
        assert follow(one, reading.events[-1].data["id"], reading.events[-1].id).status_code == 204


# -- gateways


def test_a_gateway_that_is_told_to_stop_ends_its_streams_at_once_and_their_readers_go_on_elsewhere(
        one: Caller, slow_beat: Sandbox) -> None:
    job = one.submit("one [stall 200ms] two [stall 3s] three")
    reading = reader(slow_beat, job["id"]).reaches("two")
    stopped = master(slow_beat, "server-1")
    began = time.monotonic()
    stopped.send_signal(signal.SIGTERM)
    had = reading.ends()
    took_s = time.monotonic() - began
    rest = reader(slow_beat, job["id"], gateway=1, after=had[-1].id).ends()

    assert not reading.broken
    assert took_s < 2
    assert text_of(had) + text_of(rest) == "one two three"
    assert [event.name for event in rest] == ["token", "succeeded"]
    wait_until(lambda: is_gone(stopped.pid), timeout_s=8, what="the gateway to be gone, well before it would be killed")
    gateway_is_back(slow_beat, stopped)
    assert one.job(job["id"]) == rest[-1].data


def test_a_stopping_gateway_hangs_up_on_those_who_ask_nothing_and_answers_those_who_asked(
        one: Caller, slow_beat: Sandbox) -> None:
    report = slow_beat.report()
    here = ("127.0.0.1", urlsplit(report["gateways"]["server-1"]).port)
    stopped = master(slow_beat, "server-1")
    job = one.submit("[stall 2s] done")
    with (requests.Session() as idle, socket.create_connection(here) as silent, ThreadPoolExecutor() as pool,
          Caller(report["gateways"]["server-1"], report["api_key"]) as waiting):
        idle.get(f"{report['gateways']['server-1']}/healthz", timeout=5)
        answer = pool.submit(waiting.call, "GET", f"/v1/jobs/{job['id']}?wait=10")
        wait_until(lambda: callers(stopped, here[1]) == 3, timeout_s=5, what="three connections")
        stopped.send_signal(signal.SIGTERM)
        wait_until(lambda: is_closed(here), timeout_s=5, what="the gateway to take no more connections")

        last = idle.get(f"{report['gateways']['server-1']}/healthz", timeout=5)
        assert (last.status_code, last.headers["Connection"]) == (200, "close")
        assert answer.result().json()["state"] == "succeeded"
        silent.settimeout(5)
        assert silent.recv(1) == b""
        wait_until(lambda: is_gone(stopped.pid), timeout_s=8, what="the gateway to be gone, well before it would be killed")
    gateway_is_back(slow_beat, stopped)


def test_a_gateway_that_is_killed_and_started_anew_goes_on_with_its_readers(one: Caller, slow_beat: Sandbox) -> None:
    job = one.submit("one [stall 200ms] two [stall 5s] three")
    reading = reader(slow_beat, job["id"]).reaches("two")
    killed = master(slow_beat, "server-1")
    for process in [*killed.children(), killed]:
        kill(process.pid)
    had = reading.ends()
    gateway_is_back(slow_beat, killed)
    rest = reader(slow_beat, job["id"], after=had[-1].id).ends()

    assert text_of(had) + text_of(rest) == rest[-1].data["result"]["text"] == "one two three"
    assert one.job(job["id"]) == rest[-1].data


def test_a_reader_who_reads_nothing_does_not_keep_a_gateway_from_stopping(one: Caller, slow_beat: Sandbox) -> None:
    report = slow_beat.report()
    job = one.submit("[stall 300s]")
    wait_until(lambda: one.job(job["id"])["state"] == "running", timeout_s=10, what="the job to run")
    for end in range(1, 41):
        slow_beat.client().xadd(f"said:{job['id']}", {"content": "x" * LONG}, id=f"1-{end * LONG}")
    stopped = master(slow_beat, "server-1")
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(("127.0.0.1", urlsplit(report["gateways"]["server-1"]).port))
        connection.sendall(f"GET /v1/jobs/{job['id']}/events HTTP/1.1\r\nHost: here\r\n"
                           f"Authorization: Bearer {report['api_key']}\r\n\r\n".encode())
        assert b"200" in connection.recv(100)
        stopped.send_signal(signal.SIGTERM)
        wait_until(lambda: is_gone(stopped.pid), timeout_s=8, what="the gateway to be gone, well before it would be killed")
    gateway_is_back(slow_beat, stopped)
    one.call("DELETE", f"/v1/jobs/{job['id']}")


def taken(chunks: Iterator[bytes], here: socket.socket) -> int:
    """Send what a stream gives out, as a gateway does; return how many bytes."""
    sent = 0
    for chunk in chunks:
        assert len(chunk) <= LONG
        here.sendall(chunk)
        sent += len(chunk)
    return sent


@pytest.mark.parametrize("stopping", [True, False])
def test_the_connection_of_a_reader_who_takes_nothing_is_closed(*, stopping: bool) -> None:
    here, there = socket.socketpair()
    with here, there:
        began = time.monotonic()
        sent = taken(paced([b"x" * 100 * LONG], here, lambda: stopping, job_id="j",
                           send_s=60.0 if stopping else 0.5), here)

        assert time.monotonic() - began < 10
        assert 0 < sent < 100 * LONG
        assert here.gettimeout() is None
        while there.recv(65536):
            pass  # what was under way; then the end


def test_a_reader_who_reads_slowly_gets_everything() -> None:
    here, there = socket.socketpair()
    with here, there, ThreadPoolExecutor(1) as gateway:
        sending = gateway.submit(taken, paced([b"x" * 20 * LONG, b"y"], here, lambda: False, job_id="j",
                                             send_s=5.0), here)
        had = b""
        while not had.endswith(b"y"):
            had += there.recv(4096)
        assert sending.result(SOON_S) == len(had) == 20 * LONG + 1


# -- Redis


def test_readers_wait_while_redis_is_away_and_read_on_when_it_is_back(one: Caller, slow_beat: Sandbox) -> None:
    job = one.submit("one [stall 200ms] two [stall 3s] three [stall 1s] four")
    readings = [reader(slow_beat, job["id"], gateway=number % 2).reaches("two") for number in range(4)]
    kill(slow_beat.redis_pid())

    for reading in readings:
        events = reading.ends()
        assert not reading.broken
        assert events[-1].name == "succeeded"
        assert text_of(events) == "one two three four"
        assert [event.name for event in events].count("queued") == 1
