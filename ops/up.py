"""`make up`: everything, to a first real answer.

Starts the embedded Redis (unless TANDEM_REDIS_URL names one), Flower, and every server of the topology; makes a demo
account; submits a job over HTTP like any caller, and prints its answer. The stack stays up until `make down`.
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
from app.topology import Topology
from ops import embedded_redis, first_job, readiness, stack
from ops.interruption import Interruption
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
    if files.up.exists() and len(supervisors.alive()) == len(plan.servers) + 1:
        print(f"Tandem is up already; `make down` stops it.\n{summary(json.loads(files.up.read_text()))}")
        return 0
    if stale := supervisors.stop():
        print(f"stopped what an earlier start had left: {', '.join(stale)}")
        stack.wait_for_ports_to_close(plan)
    interruption = Interruption()
    try:
        start(settings, plan, supervisors, interruption)
    except (TandemError, TimeoutError, OSError, redis.exceptions.RedisError, psutil.Error) as exc:
        interruption.ignore()
        print(f"\nnot started: {exc}\nstopping what was started ...", file=sys.stderr)
        supervisors.stop()
        print(f"nothing is left running; logs are in {settings.data_dir}/stack and {settings.data_dir}/servers",
              file=sys.stderr)
        return 1
    return 0


def start(settings: Settings, plan: Topology, supervisors: Supervisors, interruption: Interruption) -> None:
    """Do the steps. Raises what kept one from being done."""
    progress = Progress(steps=7, check=interruption.check)
    progress.step("looking for free ports")
    stack.check_ports(plan)
    if settings.redis_url:
        embedded_redis.check_version(open_redis(settings))
    if notice := sharing_notice(plan):
        print(f"      {notice}")
    progress.step("the demo model" if settings.engine == "torch" and not settings.model else "the model: as set")
    _prepare_model(settings)
    password = secrets.token_urlsafe(12)
    progress.step("Redis and Flower")
    with interruption.held():
        settings = _start_shared(settings, plan, supervisors, f"{first_job.USERNAME}:{password}")
    progress.step(f"{len(plan.servers)} servers: " + ", ".join(server.name for server in plan.servers))
    refusals = readiness.Refusals([run_folder(settings, server) for server in plan.servers])
    with interruption.held():
        _start_servers(settings, plan, supervisors)

    def check() -> None:
        interruption.check()
        refusals.check()

    readiness.wait_for_servers(settings, plan, check)
    progress.step("an account and an API key")
    account, api_key = first_job.demo_account(Accounts(open_redis(settings)), password)
    progress.step("a first job, over HTTP")
    readiness.wait_for_flower(plan.flower, check)
    answer = first_job.first_answer(f"http://{plan.entry}", account.username, password)
    print(f"\n  asked:    {first_job.QUESTION}\n  answered: {answer['result']['text'].strip()}")
    print(f"  by {answer['server']} on {answer['processor']}, attempt {answer['attempt']}, "
          f"{answer['usage']['prompt_tokens']} + {answer['usage']['completion_tokens']} tokens\n")
    progress.step("writing up.json")
    with interruption.held():
        report = _report(settings, plan, supervisors, {"username": account.username, "password": password}, api_key)
        _write_private(Files(settings.data_dir), report)
    print("\n" + summary(report))


def _prepare_model(settings: Settings) -> None:
    if settings.engine == "torch" and not settings.model:
        from workers.engine.demo_model import demo_model_folder

        demo_model_folder(settings.data_dir)


def _start_shared(settings: Settings, plan: Topology, supervisors: Supervisors, flower_login: str) -> Settings:
    """Start Flower and, unless a Redis is named, ours; return the settings with its URL."""
    port = None if settings.redis_url else embedded_redis.free_port()
    if port:
        settings = replace(settings, redis_url=f"redis://127.0.0.1:{port}/0")
    folder = settings.data_dir / "stack"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "supervisord.conf"
    path.touch(mode=0o600)
    path.write_text(stack.shared_configuration(settings, plan, redis_port=port, flower_login=flower_login))
    pid = supervisors.start("stack", _supervisord(str(path)), {**os.environ, "TANDEM_REDIS_URL": settings.redis_url})

    def alive() -> None:
        if "stack" not in supervisors.alive():
            raise OSError(f"supervisord (pid {pid}) ended; see {Files(settings.data_dir).log}")

    if port:
        embedded_redis.wait_for_answer(port, alive, folder / "redis.log")
        topology.embedded_url_file(settings.data_dir).write_text(settings.redis_url + "\n")
    return settings


def _start_servers(settings: Settings, plan: Topology, supervisors: Supervisors) -> None:
    environ = {**os.environ, "TANDEM_REDIS_URL": settings.redis_url}
    for server in plan.servers:
        path = write_configuration(settings, plan, server)
        supervisors.start(server.name, _supervisord(str(path)), environ)


def _supervisord(path: str) -> list[str]:
    return [sys.executable, "-m", "supervisor.supervisord", "--configuration", path]


def _report(settings: Settings, plan: Topology, supervisors: Supervisors, account: dict[str, str],
            api_key: str) -> dict[str, Any]:
    """Return what scripts read in up.json."""
    workers = {worker.name: worker.pid for worker in Registry(open_redis(settings)).workers()}
    return {
        "entry": f"http://{plan.entry}", "gateways": {server.name: f"http://{server.gateway}" for server in plan.servers},
        "flower": f"http://{plan.flower}", "mns": None, "redis": settings.redis_url, "account": account,
        "api_key": api_key, "pids": {**supervisors.alive(), **workers}}


def _write_private(files: Files, report: dict[str, Any]) -> None:
    """Write up.json so that only its owner can read it: it holds a password."""
    files.up.unlink(missing_ok=True)
    files.up.touch(mode=0o600)
    files.up.write_text(json.dumps(report, indent=2) + "\n")


def summary(report: dict[str, Any]) -> str:
    """Return the addresses, for people."""
    gateways = ", ".join(f"{name} {address}" for name, address in report["gateways"].items())
    return (f"  entry     {report['entry']}   (a page to chat on; /docs shows the calls; /v1 for OpenAI's clients)\n"
            f"  gateways  {gateways}\n"
            f"  flower    {report['flower']}   (login: the account below)\n"
            f"  redis     {report['redis']}\n"
            f"  account   {report['account']['username']} / {report['account']['password']}\n"
            f"  api key   {report['api_key']}\n"
            "  all of it in var/up.json; `make down` stops everything")


if __name__ == "__main__":
    sys.exit(main())
