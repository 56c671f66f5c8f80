"""`make up`: everything, to a first real answer.

Starts the embedded Redis (unless TANDEM_REDIS_URL names one), Flower, and every server of the topology; makes a demo
account; submits a job over HTTP like any caller, and prints its answer. Where the topology has a cloud and no MNS is named
(TANDEM_MNS_URL), a local MNS server and a cloud worker are started, too, and a second job is sent there. The stack stays up
until `make down`.
"""

import json
import os
import secrets
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import psutil
import redis

from app import topology
from app.accounts import Accounts
from app.errors import TandemError
from app.registry import Registry
from app.settings import Settings
from app.store import open_redis
from app.topology import CloudSpec, Topology
from ops import cloud_job, embedded_redis, first_job, local_cloud, readiness, stack
from ops.interruption import Interruption
from ops.local_cloud import LocalMns
from ops.pins import sharing_notice
from ops.server import run_folder, write_configuration
from ops.stack import Files, Supervisors


@dataclass(slots=True)
class Progress:
    """Numbered steps on standard output, with seconds since the start."""

    steps: int
    check: Callable[[], None]  # raises when the start is to end
    done: int = 0
    began: float = 0.0

    def step(self, text: str) -> None:
        """Say what comes next."""
        self.check()
        self.began = self.began or time.monotonic()
        self.done += 1
        print(f"[{self.done}/{self.steps}] {text:58} {time.monotonic() - self.began:6.1f} s", flush=True)


def main() -> int:
    """Start the stack, or say that it runs."""
    try:
        settings, plan = topology.load(embedded=False)
    except TandemError as exc:
        print(exc, file=sys.stderr)
        return 1
    os.umask(0o077)  # prompts, passwords and the ledger are nobody else's to read
    files = Files(settings.data_dir)
    supervisors = Supervisors(files)
    mns = LocalMns.for_stack(settings, plan)
    if files.up.exists() and len(supervisors.alive()) == len(plan.servers) + (2 if mns else 1):
        print(f"Tandem is up already; `make down` stops it.\n{summary(json.loads(files.up.read_text()))}")
        return 0
    if stale := supervisors.stop():
        print(f"stopped what an earlier start had left: {', '.join(stale)}")
        stack.wait_for_ports_to_close(plan)
    interruption = Interruption()
    try:
        start(settings, plan, mns, supervisors, interruption)
    except (TandemError, TimeoutError, OSError, redis.exceptions.RedisError, psutil.Error) as exc:
        interruption.ignore()
        print(f"\nnot started: {exc}\nstopping what was started ...", file=sys.stderr)
        supervisors.stop()
        print(f"nothing is left running; logs are in {settings.data_dir}/stack and {settings.data_dir}/servers"
              + (f", the cloud worker's in {settings.data_dir}/cloud" if mns else ""), file=sys.stderr)
        return 1
    return 0


def start(settings: Settings, plan: Topology, mns: LocalMns | None, supervisors: Supervisors,
          interruption: Interruption) -> None:
    """Do the steps. Raises what kept one from being done."""
    progress = Progress(steps=8 if mns else 7, check=interruption.check)
    progress.step("looking for free ports")
    _look_around(settings, plan)
    progress.step("the demo model" if settings.engine == "torch" and not settings.model else "the model: as set")
    model = _prepared_model(settings)
    password = secrets.token_urlsafe(12)
    progress.step("Redis and Flower" + (", a local MNS server" if mns else ""))
    with interruption.held():
        settings = _start_shared(settings, plan, mns, supervisors, f"{first_job.USERNAME}:{password}")
    progress.step(f"{len(plan.servers)} servers: {', '.join(server.name for server in plan.servers)}"
                  + (", and a cloud worker" if mns else ""))
    check = _start_workers(settings, plan, plan.cloud if mns else None, supervisors, interruption, model=model)
    progress.step("an account and an API key")
    account, api_key = first_job.demo_account(Accounts(open_redis(settings)), password)
    progress.step("a first job, over HTTP")
    readiness.wait_for_flower(plan.flower, check)
    _show_an_answer(plan, account.username, password)
    if mns:
        progress.step("a second job, sent to the cloud by hand")
        _show_an_answer_of_the_cloud(settings, plan, api_key)
    progress.step("writing up.json")
    with interruption.held():
        report = _report(settings, plan, mns, supervisors, {"username": account.username, "password": password}, api_key)
        _write_private(Files(settings.data_dir), report)
    print("\n" + summary(report))


def _look_around(settings: Settings, plan: Topology) -> None:
    stack.check_ports(plan)
    if settings.redis_url:
        embedded_redis.check_version(open_redis(settings))
    if notice := sharing_notice(plan):
        print(f"      {notice}")


def _start_workers(settings: Settings, plan: Topology, cloud: CloudSpec | None, supervisors: Supervisors,
                   interruption: Interruption, *, model: str) -> Callable[[], None]:
    """Start the servers and, if there is to be one, the cloud worker, and wait until they can be used. Return a check that
    raises when the start is to end, or a worker has refused to start."""
    refusals = readiness.Refusals([*(run_folder(settings, server) for server in plan.servers),
                                   local_cloud.run_folder(settings)])

    def check() -> None:
        interruption.check()
        refusals.check()

    began_s = time.monotonic()
    with interruption.held():
        _start_servers(settings, plan, supervisors)
        if cloud:
            _start_cloud_worker(settings, cloud, supervisors, model)
    readiness.wait_for_servers(settings, plan, check)
    if cloud:
        readiness.wait_for_cloud_worker(settings, check, since_s=began_s)
    return check


def _show_an_answer(plan: Topology, username: str, password: str) -> None:
    answer = first_job.first_answer(f"http://{plan.entry}", username, password)
    print(f"\n  asked:    {first_job.QUESTION}\n  answered: {answer['result']['text'].strip()}")
    print(f"  by {answer['server']} on {answer['processor']}, attempt {answer['attempt']}, "
          f"{answer['usage']['prompt_tokens']} + {answer['usage']['completion_tokens']} tokens\n")


def _show_an_answer_of_the_cloud(settings: Settings, plan: Topology, api_key: str) -> None:
    followed = cloud_job.cloud_answer(settings, plan, api_key)
    print(f"\n  asked:    {cloud_job.QUESTION}\n  in the cloud: {''.join(followed.pieces).strip()}\n"
          f"  route {followed.job['route']}, attempt {followed.job['attempt']}, read in {len(followed.pieces)} pieces "
          "while it was written\n")


def _prepared_model(settings: Settings) -> str:
    """Return the model's folder or name, the demo model's folder where none is set."""
    if settings.engine == "torch" and not settings.model:
        from workers.engine.demo_model import demo_model_folder

        return str(demo_model_folder(settings.data_dir).resolve())
    return settings.model


def _start_shared(settings: Settings, plan: Topology, mns: LocalMns | None, supervisors: Supervisors,
                  flower_login: str) -> Settings:
    """Start Flower and, unless a Redis is named, ours, and the local MNS server if there is to be one; return the settings
    with their URLs."""
    port = None if settings.redis_url else embedded_redis.free_port()
    if port:
        settings = replace(settings, redis_url=f"redis://127.0.0.1:{port}/0")
    if mns:
        mns.make_keys()
        settings = mns.used_by(settings)
    folder = settings.data_dir / "stack"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "supervisord.conf"
    path.touch(mode=0o600)
    path.write_text(stack.shared_configuration(settings, plan, redis_port=port, mns=mns, flower_login=flower_login))
    pid = supervisors.start("stack", _supervisord(str(path)), {**os.environ, "TANDEM_REDIS_URL": settings.redis_url})

    def alive() -> None:
        if "stack" not in supervisors.alive():
            raise OSError(f"supervisord (pid {pid}) ended; see {Files(settings.data_dir).log}")

    if port:
        embedded_redis.wait_for_answer(port, alive, folder / "redis.log")
        topology.embedded_url_file(settings.data_dir).write_text(settings.redis_url + "\n")
    if mns:
        readiness.wait_for_mns(mns, alive, folder / "mns.out")
        local_cloud.write_note(settings)
    return settings


def _start_servers(settings: Settings, plan: Topology, supervisors: Supervisors) -> None:
    environ = {**os.environ, "TANDEM_REDIS_URL": settings.redis_url, **local_cloud.mns_environ(settings)}
    for server in plan.servers:
        path = write_configuration(settings, plan, server)
        supervisors.start(server.name, _supervisord(str(path)), environ)


def _start_cloud_worker(settings: Settings, cloud: CloudSpec, supervisors: Supervisors, model: str) -> None:
    path = local_cloud.write_worker_configuration(settings, cloud)
    supervisors.start("cloud", _supervisord(str(path)), local_cloud.worker_environ(settings, os.environ, model=model))


def _supervisord(path: str) -> list[str]:
    return [sys.executable, "-m", "supervisor.supervisord", "--configuration", path]


def _report(settings: Settings, plan: Topology, mns: LocalMns | None, supervisors: Supervisors,
            account: dict[str, str], api_key: str) -> dict[str, Any]:
    """Return what scripts read in up.json."""
    workers = {worker.name: worker.pid for worker in Registry(open_redis(settings)).workers()}
    if mns:
        workers |= local_cloud.pids(supervisors.alive())
    named = {"url": settings.mns_url, "admin": None, "objects": None} if settings.mns_url else None
    return {
        "entry": f"http://{plan.entry}", "gateways": {server.name: f"http://{server.gateway}" for server in plan.servers},
        "flower": f"http://{plan.flower}", "mns": mns.report() if mns else named, "redis": settings.redis_url,
        "account": account, "api_key": api_key, "pids": {**supervisors.alive(), **workers}}


def _write_private(files: Files, report: dict[str, Any]) -> None:
    """Write up.json so that only its owner can read it: it holds a password."""
    files.up.unlink(missing_ok=True)
    files.up.touch(mode=0o600)
    files.up.write_text(json.dumps(report, indent=2) + "\n")


def summary(report: dict[str, Any]) -> str:
    """Return the addresses, for people."""
    gateways = ", ".join(f"{name} {address}" for name, address in report["gateways"].items())
    return (f"  entry     {report['entry']}   (a page to chat on; /docs shows the calls; /v1 for OpenAI's clients)\n"
            f"  console   {report['entry']}/console   (for operators, as the account below)\n"
            f"  gateways  {gateways}\n"
            f"  flower    {report['flower']}   (login: the account below)\n"
            f"  redis     {report['redis']}\n" + _mns_line(report["mns"]) +
            f"  account   {report['account']['username']} / {report['account']['password']}\n"
            f"  api key   {report['api_key']}\n"
            "  all of it in var/up.json; `make down` stops everything")


def _mns_line(mns: dict[str, str | None] | None) -> str:
    if mns is None:
        return ""
    local = f"   (local; {mns['admin']}/audit counts its messages)" if mns["admin"] else ""
    return f"  mns       {mns['url']}{local}\n"


if __name__ == "__main__":
    sys.exit(main())
