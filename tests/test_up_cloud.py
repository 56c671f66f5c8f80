"""`make up` with the cloud: a local MNS server and a cloud worker beside the stack; jobs that go there and come back."""

import json
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import psutil
import pytest
import requests

from app.settings import Settings
from app.topology import CloudSpec, Topology, load
from ops import local_cloud
from ops.local_cloud import LocalMns
from ops.sandbox import Sandbox
from ops.waiting import wait_until
from tests.caller import Caller
from tests.reader import Reader, text_of
from tests.test_up import processes, up


@dataclass(frozen=True)
class Cloudy:
    """A stack with a cloud, and what its start printed."""

    sandbox: Sandbox
    printed: str

    @property
    def data(self) -> Path:
        return self.sandbox.folder / "var"


@pytest.fixture(scope="module")
def cloudy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloudy]:
    """One server whose model worker does one job at a time, and the cloud."""
    sandbox = Sandbox.lay(tmp_path_factory.mktemp("cloudy"), cloud=True, profile="standard", shutdown_s="5",
                          edits={"concurrency = 16, most = 32": "concurrency = 1"})
    try:
        done = up(sandbox)
        assert done.returncode == 0, done.stdout + done.stderr
        yield Cloudy(sandbox, done.stdout)
    finally:
        sandbox.down()


@pytest.fixture
def caller(cloudy: Cloudy) -> Iterator[Caller]:
    report = cloudy.sandbox.report()
    with Caller(report["entry"], report["api_key"]) as one:
        yield one


def test_up_has_a_second_job_answered_in_the_cloud_and_says_where_mns_listens(cloudy: Cloudy) -> None:
    assert "in the cloud: What is the capital of Italy?" in cloudy.printed  # the scripted engine echoes
    assert "route cloud, attempt 1" in cloudy.printed
    mns = cloudy.sandbox.report()["mns"]
    assert f"mns       {mns['url']}" in cloudy.printed
    assert requests.get(f"{mns['admin']}/audit", timeout=10).json()["sent"] > 0
    assert json.loads((cloudy.data / "mns" / "settings.json").read_text())["mns_url"] == mns["url"]
    assert stat.S_IMODE((cloudy.data / "mns" / "keys.json").stat().st_mode) == 0o600
    again = up(cloudy.sandbox)
    assert again.returncode == 0
    assert "up already" in again.stdout


def test_the_cloud_worker_runs_as_if_on_another_machine(cloudy: Cloudy) -> None:
    pids = cloudy.sandbox.report()["pids"]
    worker = psutil.Process(pids[local_cloud.WORKER])
    environ = worker.environ()

    assert environ["TANDEM_PROFILE"] == "cloud"
    assert not environ["TANDEM_REDIS_URL"]
    assert cloudy.sandbox.report()["redis"].rpartition(":")[2].removesuffix("/0") not in {
        str(connection.raddr.port) for connection in worker.net_connections() if connection.raddr}
    assert "ops.mns_server" in psutil.Process(pids["mns"]).cmdline()
    assert {"cloud", "stack", "server-1"} < set(pids)


def test_a_job_sent_to_the_cloud_by_hand_streams_its_tokens_to_a_waiting_caller(cloudy: Cloudy, caller: Caller) -> None:
    busy = caller.submit("[stall 60s]")
    caller.reaches(busy["id"], "running")
    job = caller.submit("the first words [stall 2s] and the last")
    reader = Reader(caller.address, caller.credentials.removeprefix("Bearer "), job["id"])

    sent = cloudy.sandbox.celery("cloud", "send", job["id"])

    assert sent.returncode == 0, sent.stdout + sent.stderr
    reader.reaches("the first words")
    assert not reader.ended, "tokens come while the job runs"
    events = reader.ends()
    assert text_of(events) == "the first words and the last"
    assert [event.name for event in events if event.name != "token"] == ["queued", "started", "succeeded"]
    ended = events[-1].data
    assert (ended["route"], ended["attempt"], ended["server"]) == ("cloud", 1, "cloud")
    assert caller.job(busy["id"])["route"] == "local"
    caller.call("DELETE", f"/v1/jobs/{busy['id']}")
    status = cloudy.sandbox.celery("cloud", "status")
    assert status.returncode == 0, status.stdout + status.stderr
    assert local_cloud.WORKER in status.stdout


def test_the_books_balance_at_home_and_in_mns(cloudy: Cloudy) -> None:
    audit = cloudy.sandbox.celery("audit")
    counts = requests.get(f"{cloudy.sandbox.report()['mns']['admin']}/audit", timeout=10).json()

    assert audit.returncode == 0, audit.stdout + audit.stderr
    assert counts["dead"] == counts["expired"] == 0
    assert counts["sent"] == sum(counts[name] for name in ("deleted", "active", "inactive", "delayed"))


def test_down_leaves_nothing_of_the_cloud_running(cloudy: Cloudy) -> None:
    cloudy.sandbox.down()

    wait_until(lambda: not processes(cloudy.sandbox), timeout_s=20, what="everything to be stopped")
    assert not (cloudy.data / "mns" / "settings.json").exists()
    assert not (cloudy.data / "up.json").exists()


# -- which parts of it are started


def plan_of(folder: Path, *, cloud: bool) -> tuple[Settings, Topology]:
    return load(Sandbox.lay(folder, cloud=cloud).environ)


def test_no_local_mns_is_started_where_one_is_named_or_the_topology_has_no_cloud(tmp_path: Path) -> None:
    settings, plan = plan_of(tmp_path / "with", cloud=True)
    _, without = plan_of(tmp_path / "without", cloud=False)

    assert LocalMns.for_stack(settings, plan) is not None
    assert LocalMns.for_stack(replace(settings, mns_url="mnss://1.mns.cn-hangzhou.aliyuncs.com"), plan) is None
    assert LocalMns.for_stack(settings, without) is None


def test_a_cloud_worker_is_pinned_only_where_processors_are_given(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)

    free = local_cloud.write_worker_configuration(settings, CloudSpec(concurrency=3, processors=())).read_text()
    pinned = local_cloud.write_worker_configuration(settings, CloudSpec(concurrency=3, processors=(1,))).read_text()

    assert "taskset" not in free
    assert re.search(r"command = taskset --cpu-list \d+ ", pinned)
    assert "--concurrency 3" in free


def test_keys_are_made_once(tmp_path: Path) -> None:
    mns = LocalMns(tmp_path / "mns", 1, 2, 3)
    mns.make_keys()
    first = mns.keys.read_text()
    mns.make_keys()

    assert mns.keys.read_text() == first
    assert set(json.loads(first)) == {"access_key_id", "access_key_secret"}
