"""The number of cloud workers on this machine follows what is asked for, and a job of one that goes comes home."""

import sys
from collections.abc import Iterator
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from app.cloud_registry import CloudRegistry
from app.settings import Settings
from ops import local_cloud, scale_cloud
from ops.sandbox import Sandbox
from ops.waiting import wait_until
from tests.caller import Caller
from tests.test_up import processes

FIRST, SECOND = local_cloud.worker_name(1), local_cloud.worker_name(2)


@pytest.fixture(scope="module")
def cloudy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """One server, and a cloud whose workers do one job at a time, as the server's model worker does."""
    sandbox = Sandbox.lay(tmp_path_factory.mktemp("scaled"), cloud=True, profile="standard", shutdown_s="1",
                          edits={"concurrency = 16, most = 32": "concurrency = 1", "concurrency = 8": "concurrency = 1"})
    sandbox.up()
    yield sandbox
    sandbox.down()


@pytest.fixture
def caller(cloudy: Sandbox) -> Iterator[Caller]:
    report = cloudy.report()
    with Caller(report["entry"], report["api_key"]) as one:
        yield one


def scale(stack: Sandbox, number: int) -> CompletedProcess[str]:
    return stack.run(sys.executable, "-m", "ops.scale_cloud", str(number))


def serving(stack: Sandbox) -> dict[str, int]:
    """The cloud workers that take jobs, and how many each runs."""
    return {worker.name: worker.busy for worker in CloudRegistry(stack.client()).workers() if not worker.stopping}


def cloud_processes(stack: Sandbox) -> int:
    return sum(child_name.startswith("cloud@") for child_name in local_cloud.pids(stack.report()["pids"]))


def in_the_cloud(stack: Sandbox, caller: Caller, text: str) -> str:
    """Submit a job, and send it."""
    job_id = str(caller.submit(text)["id"])
    sent = stack.celery("cloud", "send", job_id)
    assert sent.returncode == 0, sent.stdout + sent.stderr
    return job_id


def test_a_cloud_worker_is_not_told_the_secrets_of_home(settings: Settings) -> None:
    homes = {"TANDEM_METRICS_TOKEN": "m-secret", "TANDEM_ALERT_WEBHOOKS": "https://ops.example/a-secret",
             "TANDEM_SCALE_COMMAND": "scale --key c-secret"}
    told = local_cloud.worker_environ(settings, {"PATH": "/bin", **homes}, model="m")

    assert told["PATH"] == "/bin"
    assert not homes.keys() & told.keys()


def test_a_second_worker_comes_takes_jobs_and_goes_and_what_it_had_goes_on_at_home(
        cloudy: Sandbox, caller: Caller) -> None:
    assert scale(cloudy, 2).stdout == "cloud workers: 2; started cloud-2\n"
    assert scale(cloudy, 2).stdout == "cloud workers: 2\n"
    wait_until(lambda: serving(cloudy) == {FIRST: 0, SECOND: 0}, timeout_s=40, what="the second worker to be heard of")

    at_home = caller.submit("[stall 60s] home is busy")["id"]
    caller.reaches(at_home, "running")
    jobs = [in_the_cloud(cloudy, caller, "[stall 90s] on the way") for _ in range(2)]
    wait_until(lambda: serving(cloudy) == {FIRST: 1, SECOND: 1}, timeout_s=30, what="each worker to run one")
    caller.call("DELETE", f"/v1/jobs/{at_home}")
    assert scale(cloudy, 1).stdout == "cloud workers: 1; stopping cloud-2\n"

    wait_until(lambda: cloud_processes(cloudy) == 1, timeout_s=30, what="the second worker to go")

    def runs() -> list[tuple[str, int, str]]:
        return sorted((job["state"], job["attempt"], job["route"]) for job in map(caller.job, jobs))

    wait_until(lambda: runs() == [("running", 1, "cloud"), ("running", 2, "local")], timeout_s=30,
               what="the second worker's job to run at home, and the other one to run on")
    for job_id in jobs:
        caller.call("DELETE", f"/v1/jobs/{job_id}")
    assert scale(cloudy, 1).stdout == "cloud workers: 1\n"
    assert scale(cloudy, 0).stdout == "cloud workers: 1 (the last one here stays)\n"
    assert cloud_processes(cloudy) == 1
    audit = cloudy.celery("audit")
    assert audit.returncode == 0, audit.stdout + audit.stderr


def test_down_stops_them_all(cloudy: Sandbox) -> None:
    assert scale(cloudy, 3).returncode == 0
    wait_until(lambda: cloud_processes(cloudy) == 3, timeout_s=20, what="three cloud workers to run")

    cloudy.down()
    wait_until(lambda: not processes(cloudy), timeout_s=20, what="everything to be stopped")
    refused = scale(cloudy, 2)
    assert (refused.returncode, "there is no local cloud to scale" in refused.stderr) == (1, True)


@pytest.mark.parametrize("number", [local_cloud.MOST + 1, -1])
def test_a_number_that_this_machine_is_not_made_for_is_refused(tmp_path: Path, number: int) -> None:
    with pytest.raises(scale_cloud.NotScaled, match=f"1 to {local_cloud.MOST}"):
        scale_cloud.scale(Settings(data_dir=tmp_path), number)
