"""`make up` and `make down`, as scripts and people use them, on ports and a data folder of their own."""

import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import requests

from app.registry import Registry
from ops.sandbox import Sandbox, is_gone, kill
from ops.waiting import wait_until
from tests.caller import Caller


@pytest.fixture
def laid(tmp_path: Path) -> Iterator[Sandbox]:
    """A stack of one server, not started; stopped in the end whatever happened."""
    sandbox = Sandbox.lay(tmp_path, profile="standard")
    yield sandbox
    sandbox.down()


def up(sandbox: Sandbox) -> subprocess.CompletedProcess[str]:
    return sandbox.run(sys.executable, "-m", "ops.up")


def processes(sandbox: Sandbox) -> list[psutil.Process]:
    """Every process that was started with this sandbox's topology."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("TANDEM_TOPOLOGY") == sandbox.environ["TANDEM_TOPOLOGY"] and not is_gone(process.pid):
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found


def listening_port(sandbox: Sandbox, table: str) -> int:
    text = Path(sandbox.environ["TANDEM_TOPOLOGY"]).read_text()
    found = re.search(rf"^\[{table}\].*?^port = (\d+)", text, re.MULTILINE | re.DOTALL)
    assert found
    return int(found[1])


# -- one story: most of a start's time is that of its processes, so the starts that it takes are few


def test_a_stack_is_up_and_stays_up_is_cleaned_up_after_a_death_and_its_jobs_outlive_it_into_another_profile(
        laid: Sandbox) -> None:
    up_prints_an_answer_and_the_addresses_and_leaves_a_stack_that_scripts_can_use(laid)
    up_again_leaves_it_as_it_is(laid)
    what_a_dead_stack_left_behind_is_cleaned_up_by_the_next_start(laid)
    with Caller(laid.report()["entry"], laid.report()["api_key"]) as caller:
        ended = caller.ended(caller.submit("kept")["id"])
        cut = caller.submit("[stall 1s] on the way")
        caller.reaches(cut["id"], "running")
    down_leaves_nothing_running(laid)

    simplified = replace(laid, environ={**laid.environ, "TANDEM_PROFILE": "simplified"})
    report = simplified.up()
    with Caller(report["entry"], report["api_key"]) as caller:
        assert caller.job(ended["id"]) == ended
        assert caller.ended(cut["id"])["state"] == "succeeded"
        all_services_run_in_one_pinned_process_a_server(simplified, caller)
    audit = simplified.celery("audit")
    assert audit.returncode == 0, audit.stdout


def up_prints_an_answer_and_the_addresses_and_leaves_a_stack_that_scripts_can_use(laid: Sandbox) -> None:
    done = up(laid)
    assert done.returncode == 0, done.stdout + done.stderr

    assert "answered: What is the capital of France?" in done.stdout  # the scripted engine echoes
    assert re.search(r"by server-1 on P2, attempt 1, \d+ \+ \d+ tokens", done.stdout)
    report = laid.report()
    assert set(report) >= {"entry", "gateways", "flower", "mns", "account", "api_key", "pids", "redis"}
    for address in (report["entry"], report["flower"], *report["gateways"].values()):
        assert address in done.stdout
    assert set(report["gateways"]) == {"server-1"}
    assert stat.S_IMODE((laid.folder / "var" / "up.json").stat().st_mode) == 0o600, "it holds a password"
    assert all(psutil.pid_exists(pid) for pid in report["pids"].values())
    with Caller(report["entry"]) as caller:
        answer = caller.call("POST", "/v1/auth/login", json=report["account"])
        assert answer.status_code == 200
    with Caller(report["entry"], answer.json()["access_token"]) as caller:
        assert caller.ended(caller.submit("by token")["id"])["result"]["text"] == "by token"
    with Caller(report["entry"], report["api_key"]) as caller:
        assert caller.ended(caller.submit("by key")["id"])["result"]["text"] == "by key"


def up_again_leaves_it_as_it_is(laid: Sandbox) -> None:
    report = laid.report()
    again = up(laid)
    assert again.returncode == 0
    assert "up already" in again.stdout
    assert report["entry"] in again.stdout
    assert laid.report() == report


def what_a_dead_stack_left_behind_is_cleaned_up_by_the_next_start(laid: Sandbox) -> None:
    first = laid.report()
    kill(first["pids"]["server-1"])  # the supervisor; its children live on, and hold the ports
    assert any(psutil.pid_exists(first["pids"][name]) for name in ("model@server-1", "chat@server-1"))

    done = up(laid)

    assert done.returncode == 0, done.stdout + done.stderr
    second = laid.report()
    assert is_gone(first["pids"]["model@server-1"])
    assert second["pids"]["server-1"] != first["pids"]["server-1"]
    with Caller(second["entry"], second["api_key"]) as caller:
        assert caller.ended(caller.submit("again")["id"])["state"] == "succeeded"


def down_leaves_nothing_running(laid: Sandbox) -> None:
    laid.down()
    wait_until(lambda: not processes(laid), timeout_s=20, what="everything to be stopped")
    assert not (laid.folder / "var" / "up.json").exists()
    assert laid.run(sys.executable, "-m", "ops.down").stdout.strip().endswith("nothing was running")


def every_service_answers(caller: Caller) -> dict[str, dict[str, object]]:
    """Have each service do a job; return what the job objects say, by service."""
    inputs = {"model": {"prompt": "a"}, "chat": {"conversation": "c", "message": "b"},
              "cache": {"operation": "put", "key": "k", "value": 1}, "queue": {"operation": "publish", "topic": "t",
                                                                               "message": 1}}
    ended = {service: caller.ended(caller.submit(service=service, input=body)["id"]) for service, body in inputs.items()}
    assert {job["state"] for job in ended.values()} == {"succeeded"}
    return ended


def all_services_run_in_one_pinned_process_a_server(simplified: Sandbox, caller: Caller) -> None:
    names = {"all@server-1", "all@server-2"}
    assert {name for name, pid in simplified.report()["pids"].items() if "@" in name and not is_gone(pid)} == names
    wait_until(lambda: {worker.name for worker in Registry(simplified.client()).workers()} == names, timeout_s=30,
               what="the workers of the profile before to be forgotten")
    every_service_answers(caller)
    chats = [caller.submit(service="chat", input={"conversation": f"c{number}", "message": "hello"})
             for number in range(60)]  # more than there are slots, each waiting for a slot of the model's
    assert {caller.ended(chat["id"])["state"] for chat in chats} == {"succeeded"}
    for server in caller.call("GET", "/v1/status").json()["servers"]:
        (worker,) = server["workers"]
        assert worker["live"]["cpus"] == sorted(os.sched_getaffinity(worker["live"]["pid"]))
    pins = simplified.run(sys.executable, "-m", "ops.server", "pins")
    assert pins.returncode == 0, pins.stdout


# -- starts that come to nothing


@pytest.mark.parametrize("after", ["Redis and Flower", "1 servers"])
def test_ctrl_c_during_the_start_leaves_nothing_running(laid: Sandbox, after: str) -> None:
    with subprocess.Popen([sys.executable, "-m", "ops.up"], env=dict(laid.environ), text=True, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, start_new_session=True) as process:
        assert process.stdout
        for line in process.stdout:
            if after in line:
                os.kill(process.pid, signal.SIGINT)
                break
        rest = process.stdout.read()

    assert process.returncode == 1
    assert "nothing is left running" in rest
    assert processes(laid) == []
    assert not (laid.folder / "var" / "up.json").exists()


def test_a_port_that_is_taken_is_named_with_the_remedy_and_nothing_is_started(laid: Sandbox) -> None:
    port = listening_port(laid, "flower")
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", port))
        other.listen()
        done = up(laid)

    assert done.returncode == 1
    assert f"port {port} (flower) is in use by another program" in done.stderr
    assert "topology.toml" in done.stderr
    assert processes(laid) == []


def test_bad_settings_are_all_listed_and_nothing_is_started(tmp_path: Path) -> None:
    sandbox = Sandbox.lay(tmp_path, engine="vllm", lease_s="soon")
    done = up(sandbox)

    assert done.returncode == 1
    assert "fix these 2 faults" in done.stderr
    assert "TANDEM_LEASE_S must be a number" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "var").exists()


def test_a_model_that_is_not_there_is_named_and_the_start_gives_up_cleanly(tmp_path: Path) -> None:
    sandbox = Sandbox.lay(tmp_path, engine="torch", model=str(tmp_path / "no-such-model"), profile="standard")
    done = up(sandbox)

    assert done.returncode == 1
    assert "no-such-model" in done.stderr + done.stdout
    assert "TANDEM_MODEL" in done.stderr + done.stdout
    assert processes(sandbox) == []


# -- with other parts


def test_a_server_of_the_users_own_redis_is_used_and_none_is_started(tmp_path: Path, redis_server: object) -> None:
    url = str(redis_server.url)  # type: ignore[attr-defined]
    sandbox = Sandbox.lay(tmp_path, profile="standard", redis_url=url)
    try:
        report = sandbox.up()
        assert report["redis"] == url
        assert not any("redis-server" in " ".join(process.cmdline()) for process in processes(sandbox))
        with Caller(report["entry"], report["api_key"]) as caller:
            jobs = every_service_answers(caller)
        assert {job["server"] for job in jobs.values()} == {"server-1"}
    finally:
        sandbox.down()


def test_the_demo_model_answers_a_job_that_goes_queued_running_succeeded(tmp_path: Path) -> None:
    from workers.engine.demo_model import demo_model_folder

    model = demo_model_folder(Path("var")).resolve()
    sandbox = Sandbox.lay(tmp_path, engine="torch", model=str(model), profile="standard")
    try:
        report = sandbox.up()
        with Caller(report["entry"], report["api_key"]) as caller:
            body = {"messages": [{"role": "user", "content": "What is the capital of France?"}], "temperature": 0,
                    "max_tokens": 12}
            jobs = [caller.submit(input=body, headers={"Cache-Control": "no-cache"}) for _ in range(2)]
            assert jobs[1]["state"] == "queued"
            assert caller.reaches(jobs[1]["id"], "running", "succeeded")["started_at"]
            ended = [caller.ended(job["id"]) for job in jobs]
    finally:
        sandbox.down()

    for job in ended:
        assert job["state"] == "succeeded"
        assert "Paris" in job["result"]["text"]
        assert job["usage"]["prompt_tokens"] > 20
        assert 0 < job["usage"]["completion_tokens"] <= 12
        assert (job["server"], job["processor"], job["attempt"]) == ("server-1", "P2", 1)
        assert job["created_at"] < job["started_at"] < job["finished_at"]


def test_up_json_is_json_and_the_entry_serves_its_contract(stack: Sandbox) -> None:
    report = json.loads((stack.folder / "var" / "up.json").read_text())

    assert requests.get(f"{report['entry']}/openapi.json", timeout=10).json()["openapi"].startswith("3.1")
