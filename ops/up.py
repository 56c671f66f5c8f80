"""`make up`: everything, to a first real answer.

Starts the embedded Redis (unless TANDEM_REDIS_URL names one), Flower, and every server of the topology; makes a demo
account; submits a job over HTTP like any caller, and prints its answer. The stack stays up until `make down`.
"""

import contextlib
import json
import os
import secrets
import signal
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, replace
from functools import partial
from types import FrameType
from typing import Any, NoReturn

from app import topology
from app.accounts import Account, Accounts, Role
from app.errors import TandemError
from app.passwords import hashed
from app.registry import Registry
from app.settings import Settings
from app.store import open_redis
from app.topology import Server, Topology
from ops import embedded_redis, stack
from ops.pins import sharing_notice
from ops.server import run_folder, write_configuration
from ops.stack import Files, Supervisors
from ops.waiting import wait_until

_USERNAME = "demo"
_QUESTION = "What is the capital of France? Answer in one sentence."
_START_S = 300.0  # loading a model on a slow disk takes its time
_ANSWER_S = 60


@dataclass(slots=True)
class Progress:
    """Numbered steps on standard output, with seconds since the start."""

    steps: int
    done: int = 0
    began: float = 0.0

    def step(self, text: str) -> None:
        """Say what comes next."""
        self.began = self.began or time.monotonic()
        self.done += 1
        print(f"[{self.done}/{self.steps}] {text:58} {time.monotonic() - self.began:6.1f} s", flush=True)


class Interrupted(TandemError):
    """Ctrl-C, or a signal to end."""

    code = "interrupted"


def main() -> int:
    """Start the stack, or say that it runs."""
    try:
        settings, plan = topology.load(embedded=False)
    except TandemError as exc:
        print(exc, file=sys.stderr)
        return 1
    files = Files(settings.data_dir)
    supervisors = Supervisors(files)
    if files.up.exists() and len(supervisors.alive()) == len(plan.servers) + 1:
        print(f"Tandem is up already; `make down` stops it.\n{summary(json.loads(files.up.read_text()))}")
        return 0
    if stale := supervisors.stop():
        print(f"stopped what an earlier start had left: {', '.join(stale)}")
        stack.wait_for_ports_to_close(plan)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    try:
        start(settings, plan, supervisors)
    except (TandemError, TimeoutError, OSError) as exc:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        print(f"\nnot started: {exc}\nstopping what was started ...", file=sys.stderr)
        supervisors.stop()
        print(f"nothing is left running; logs are in {settings.data_dir}/stack and {settings.data_dir}/servers",
              file=sys.stderr)
        return 1
    return 0


def _interrupt(number: int, _frame: FrameType | None) -> NoReturn:
    raise Interrupted(f"interrupted by {signal.Signals(number).name}")


def start(settings: Settings, plan: Topology, supervisors: Supervisors) -> None:
    """Do the steps. Raises what kept one from being done."""
    progress = Progress(steps=7)
    progress.step("looking for free ports")
    stack.check_ports(plan)
    if notice := sharing_notice(plan):
        print(f"      {notice}")
    progress.step("the demo model" if settings.engine == "torch" and not settings.model else "the model: as set")
    _prepare_model(settings)
    password = secrets.token_urlsafe(12)
    progress.step("Redis and Flower")
    settings = _start_shared(settings, plan, supervisors, f"{_USERNAME}:{password}")
    environ = {**os.environ, "TANDEM_REDIS_URL": settings.redis_url}
    progress.step(f"{len(plan.servers)} servers: " + ", ".join(server.name for server in plan.servers))
    for server in plan.servers:
        path = write_configuration(settings, plan, server)
        supervisors.start(server.name, _supervisord(str(path)), environ)
    _wait_for_servers(settings, plan)
    progress.step("an account and an API key")
    account, api_key = _demo_account(settings, password)
    progress.step("a first job, over HTTP")
    address = f"http://{plan.entry}"
    _wait_for_flower(plan)
    answer = _first_answer(address, account.username, password)
    print(f"\n  asked:    {_QUESTION}\n  answered: {answer['result']['text'].strip()}")
    print(f"  by {answer['server']} on {answer['processor']}, attempt {answer['attempt']}, "
          f"{answer['usage']['prompt_tokens']} + {answer['usage']['completion_tokens']} tokens\n")
    progress.step("writing up.json")
    report = {
        "entry": address, "gateways": {server.name: f"http://{server.gateway}" for server in plan.servers},
        "flower": f"http://{plan.flower}", "mns": None, "redis": settings.redis_url,
        "account": {"username": account.username, "password": password}, "api_key": api_key,
        "pids": {**supervisors.alive(), **{w.name: w.pid for w in Registry(open_redis(settings)).workers()}}}
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
    else:
        embedded_redis.check_version(open_redis(settings))
    return settings


def _supervisord(path: str) -> list[str]:
    return [sys.executable, "-m", "supervisor.supervisord", "--configuration", path]


def _wait_for_servers(settings: Settings, plan: Topology) -> None:
    """Wait until every gateway can accept jobs and every worker has said that it lives."""
    for server in plan.servers:
        wait_until(partial(_answers, f"http://{server.gateway}/readyz"), timeout_s=60, every_s=0.2,
                   what=f"the gateway of {server.name}; see {run_folder(settings, server) / 'gateway.log'}")
    registry = Registry(open_redis(settings))
    for server in plan.servers:
        _wait_for_workers(settings, server, registry)


def _wait_for_workers(settings: Settings, server: Server, registry: Registry) -> None:
    wanted = {f"{spec.name}@{server.name}" for spec in server.workers}
    missing = set(wanted)

    def complete() -> bool:
        missing.clear()
        missing.update(wanted - {worker.name for worker in registry.workers()})
        return not missing

    with contextlib.suppress(TimeoutError):
        wait_until(complete, timeout_s=_START_S, every_s=0.2, what="workers")
    if missing:
        raise TimeoutError(f"these workers did not start within {_START_S:g} s: {', '.join(sorted(missing))}; "
                           f"their logs are in {run_folder(settings, server)}")


def _wait_for_flower(plan: Topology) -> None:
    """Flower without credentials answers 401: it is there, and asks for a login."""
    def asks_for_login() -> bool:
        try:
            with urllib.request.urlopen(f"http://{plan.flower}/", timeout=2):
                return False
        except urllib.error.HTTPError as exc:
            return exc.code == 401
        except OSError:
            return False

    wait_until(asks_for_login, timeout_s=60, every_s=0.2, what=f"Flower to ask for a login at {plan.flower}")


def _demo_account(settings: Settings, password: str) -> tuple[Account, str]:
    """Return the demo account, with a new password and one new API key; earlier keys of `make up` end."""
    accounts = Accounts(open_redis(settings))
    if not accounts.set_password(_USERNAME, hashed(password)):
        accounts.add(_USERNAME, Role.OPERATOR, hashed(password))
    for key in accounts.keys(_USERNAME):
        if key.name == "make up":
            accounts.revoke_key(key.id)
    account = accounts.find(_USERNAME)
    if account is None:
        raise OSError("the demo account vanished while it was being made; is another `make up` running?")
    return account, accounts.add_key(account, "make up")[0]


def _first_answer(address: str, username: str, password: str) -> dict[str, Any]:
    """Log in and have a job answered. Raises `OSError` with the job as it stands when that fails."""
    token = _call(f"{address}/v1/auth/login", {"username": username, "password": password})["access_token"]
    job = _call(f"{address}/v1/jobs", {"service": "model", "lane": "interactive", "input": {
        "messages": [{"role": "user", "content": _QUESTION}], "max_tokens": 48, "temperature": 0}},
        token=token, wait_s=_ANSWER_S)
    if job["state"] != "succeeded":
        raise OSError(f"the first job did not succeed: {json.dumps(job)}")
    return job


def _call(url: str, body: dict[str, Any], *, token: str | None = None, wait_s: int = 0) -> dict[str, Any]:
    headers = {"Content-Type": "application/json"}
    if token:
        headers |= {"Authorization": f"Bearer {token}", "Prefer": f"wait={wait_s}"}
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=wait_s + 30) as response:
            return dict(json.load(response))
    except urllib.error.HTTPError as exc:
        raise OSError(f"{url} answered {exc.code}: {exc.read().decode(errors='replace')}") from exc


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as response:
            return bool(response.status == 200)
    except OSError:
        return False


def _write_private(files: Files, report: dict[str, Any]) -> None:
    """Write up.json so that only its owner can read it: it holds a password."""
    files.up.unlink(missing_ok=True)
    files.up.touch(mode=0o600)
    files.up.write_text(json.dumps(report, indent=2) + "\n")


def summary(report: dict[str, Any]) -> str:
    """Return the addresses, for people."""
    gateways = ", ".join(f"{name} {address}" for name, address in report["gateways"].items())
    return (f"  entry     {report['entry']}   (GET /openapi.json says what it serves)\n"
            f"  gateways  {gateways}\n"
            f"  flower    {report['flower']}   (login: the account below)\n"
            f"  redis     {report['redis']}\n"
            f"  account   {report['account']['username']} / {report['account']['password']}\n"
            f"  api key   {report['api_key']}\n"
            "  all of it in var/up.json; `make down` stops everything")


if __name__ == "__main__":
    sys.exit(main())
