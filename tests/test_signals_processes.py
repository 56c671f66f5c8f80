"""A gateway's own processes report while they serve: each for itself, through an outage of Redis, and until they end."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
import requests

from app.accounts import Accounts, Role
from app.signal_board import SignalBoard
from ops import embedded_redis
from ops.embedded_redis import EmbeddedRedis, free_port
from ops.waiting import wait_until

REQUESTS = 30


class Served:
    """A gateway of two processes on a Redis that can be stopped."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.redis_port, port = folder, free_port(), free_port()
        self.log = folder / "gateway.log"
        self.client = redis.Redis(port=self.redis_port)
        self.board = SignalBoard(self.client)
        self.redis = self.start_redis()
        self.address = f"http://127.0.0.1:{port}"
        environ = {name: value for name, value in os.environ.items() if not name.startswith("TANDEM_")}
        with self.log.open("w") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "gunicorn", "--worker-class", "ops.gateway_worker.GatewayWorker", "--workers", "2",
                 "--no-control-socket", "--bind", f"127.0.0.1:{port}", "--graceful-timeout", "5",
                 "app.api:from_environment()"],
                env={**environ, "TANDEM_REDIS_URL": f"redis://127.0.0.1:{self.redis_port}/0", "TANDEM_SERVER": "server-1",
                     "TANDEM_DATA_DIR": str(folder)}, stdout=output, stderr=output)

    def start_redis(self) -> EmbeddedRedis:
        self.redis = embedded_redis.start(self.folder / "redis", port=self.redis_port, fsync="no")
        return self.redis

    def pids(self) -> set[int]:
        return {report.pid for report in self.board.gateways("server-1")}

    def requests(self) -> int:
        return sum(report.requests for report in self.board.gateways("server-1"))

    def end(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(20)


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    one = Served(tmp_path)
    try:
        wait_until(lambda: len(one.pids()) == 2, timeout_s=30, what="both processes to report")
        yield one
    finally:
        if one.process.poll() is None:
            one.process.kill()
            one.process.wait(20)
        one.client.close()
        one.redis.stop()


def test_each_process_reports_what_it_served_and_nothing_once_it_has_ended(served: Served) -> None:
    accounts = Accounts(served.client)
    key, _ = accounts.add_key(accounts.add("ada", Role.USER, "-"), "tests")
    for _ in range(REQUESTS):  # each on a connection of its own, so that either process gets some
        assert requests.get(f"{served.address}/v1/jobs", headers={"Authorization": f"Bearer {key}"}, timeout=20).ok

    wait_until(lambda: served.requests() == REQUESTS, timeout_s=10, what="all requests to be reported")
    assert served.board.users() == 1
    served.end()
    wait_until(lambda: not served.pids(), timeout_s=15, what="the reports to expire")
    assert "Traceback" not in served.log.read_text()


def test_an_outage_of_redis_is_told_once_by_each_and_then_they_report_again(served: Served) -> None:
    pids = served.pids()
    served.redis.stop()
    wait_until(lambda: served.log.read_text().count("reporting_unheard") == 2, timeout_s=20, what="both to miss Redis")
    assert requests.get(f"{served.address}/healthz", timeout=20).ok
    served.start_redis()

    wait_until(lambda: served.pids() == pids, timeout_s=20, what="the same processes to report again")
    assert served.log.read_text().count("reporting_unheard") == 2
    assert "Traceback" not in served.log.read_text()
