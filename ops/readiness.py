"""Waits until what was started can be used, and finds out early when that will not happen."""

import contextlib
import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from functools import partial
from pathlib import Path

from app.cloud_registry import CloudRegistry
from app.registry import Registry
from app.settings import Settings
from app.store import open_redis
from app.topology import Address, Server, Topology
from ops import local_cloud
from ops.local_cloud import LocalMns
from ops.server import run_folder
from ops.waiting import wait_until

_GATEWAY_S = 60.0
_WORKERS_S = 300.0  # loading a model on a slow disk takes its time
_FLOWER_S = 60.0
_WINDOWS_S = 60.0
_MNS_S = 60.0  # it reads what an earlier run left


class Refusals:
    """Finds a worker that refused to start, by its log: it would go on trying, and whoever waits for it wait in vain."""

    def __init__(self, folders: list[Path]) -> None:
        self._folders = folders
        self._seen = {path: path.stat().st_size for path in self._logs()}

    def check(self) -> None:
        """Raise `OSError` with what a worker said when it refused since this object was made."""
        for path in self._logs():
            with path.open("rb") as log:
                log.seek(self._seen.get(path, 0))
                for line in log:
                    if b'"event":"worker_refused"' in line:
                        said = json.loads(line)
                        raise OSError(f"{said['worker']} does not start: {said['why']}")

    def _logs(self) -> list[Path]:
        return [path for folder in self._folders for path in folder.glob("*.log")]


def wait_for_servers(settings: Settings, plan: Topology, check: Callable[[], None]) -> None:
    """Wait until every gateway can accept jobs, every worker has said that it lives, and the ledger counts its slots: until
    then queues are short and no wait can be told. `check` may raise meanwhile."""
    for server in plan.servers:
        wait_until(partial(_ready, f"http://{server.gateway}/readyz", check), timeout_s=_GATEWAY_S, every_s=0.2,
                   what=f"the gateway of {server.name}; see {run_folder(settings, server) / 'gateway.log'}")
    registry = Registry(open_redis(settings))
    for server in plan.servers:
        _wait_for_workers(settings, server, registry, check)

    def counted() -> bool:
        check()
        return registry.windows_are_set(registry.workers())

    wait_until(counted, timeout_s=_WINDOWS_S, every_s=0.1,
               what="the workers' slots to be counted; see the logs of the queue workers")


def _wait_for_workers(settings: Settings, server: Server, registry: Registry, check: Callable[[], None]) -> None:
    wanted = {f"{spec.name}@{server.name}" for spec in server.workers}
    missing = set(wanted)

    def complete() -> bool:
        check()
        missing.clear()
        missing.update(wanted - {worker.name for worker in registry.workers()})
        return not missing

    with contextlib.suppress(TimeoutError):
        wait_until(complete, timeout_s=_WORKERS_S, every_s=0.2, what="workers")
    if missing:
        raise TimeoutError(f"these workers did not start within {_WORKERS_S:g} s: {', '.join(sorted(missing))}; "
                           f"their logs are in {run_folder(settings, server)}")


def wait_for_mns(mns: LocalMns, check: Callable[[], None], log: Path) -> None:
    """Wait until the local MNS server answers on its admin port. `check` may raise meanwhile."""
    wait_until(partial(_ready, f"{mns.report()['admin']}/audit", check), timeout_s=_MNS_S, every_s=0.1,
               what=f"the local MNS server to answer; see {log}")


def wait_for_cloud_worker(settings: Settings, check: Callable[[], None], *, since_s: float) -> None:
    """Wait until home has heard of the local cloud worker, through MNS, since that time (monotonic): of an earlier one it
    may have heard seconds before. `check` may raise meanwhile."""
    registry = CloudRegistry(open_redis(settings))

    def heard() -> bool:
        check()
        return any(worker.name == local_cloud.WORKER and not worker.stopping and worker.heard_s < time.monotonic() - since_s
                   for worker in registry.workers())

    wait_until(heard, timeout_s=_WORKERS_S, every_s=0.2,
               what=f"the cloud worker to be heard of; its log is in {local_cloud.run_folder(settings)}, home's hearing in "
                    f"the logs of the queue workers, and `celery -A workers cloud status` tells how it stands")


def wait_for_flower(flower: Address, check: Callable[[], None]) -> None:
    """Wait for Flower: without credentials it answers 401, so it is there and asks for a login."""
    def asks_for_login() -> bool:
        check()
        try:
            with urllib.request.urlopen(f"http://{flower}/", timeout=2):
                return False
        except urllib.error.HTTPError as exc:
            return exc.code == 401
        except OSError:
            return False

    wait_until(asks_for_login, timeout_s=_FLOWER_S, every_s=0.2, what=f"Flower to ask for a login at {flower}")


def _ready(url: str, check: Callable[[], None]) -> bool:
    check()
    try:
        with urllib.request.urlopen(url, timeout=2) as response:
            return bool(response.status == 200)
    except OSError:
        return False
