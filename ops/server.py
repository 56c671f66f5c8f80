"""One server: a supervisord that keeps its gateway and its five pinned workers running.

    python -m ops.server up server-1        write its configuration and run supervisord in the foreground
    python -m ops.server config server-1    print the configuration
    python -m ops.server pins               show every live worker's processors, as asked for and as the kernel has them

Needs TANDEM_REDIS_URL: all servers share one Redis.
"""

import argparse
import hashlib
import os
import resource
import shlex
import shutil
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

import psutil

from app import topology
from app.errors import SettingsError, TandemError
from app.registry import Registry
from app.settings import Settings
from app.store import open_redis
from app.topology import Server, Topology, WorkerSpec
from ops.pins import cpus_of, sharing_notice

_GATEWAY_CONNECTIONS = 20_000  # what one gateway process holds open at once, waiting callers mostly
_STOP_MARGIN_S = 10  # past shutdown_s, supervisord kills


def configuration(settings: Settings, plan: Topology, server: Server) -> str:
    """Return supervisord's configuration for a server, as text."""
    folder = run_folder(settings, server)
    programs = [_gateway(settings, plan, server), *(_worker(settings, server, spec) for spec in server.workers)]
    names = ["gateway", *(spec.name for spec in server.workers)]
    return "\n".join([
        *remote_control(folder),
        "[supervisord]", f"logfile = {folder / 'supervisord.log'}", "logfile_maxbytes = 10MB", "logfile_backups = 2",
        f"pidfile = {folder / 'supervisord.pid'}", f"childlogdir = {folder}", "minfds = 4096", "nodaemon = true",
        "silent = true", f"identifier = {server.name}", "",
        f"[group:{server.name}]", f"programs = {','.join(names)}", "",  # one group, so that they stop at the same time
        *programs])


def run_folder(settings: Settings, server: Server) -> Path:
    """Where a server's configuration, logs and pid lie."""
    return settings.data_dir.resolve() / "servers" / server.name


def remote_control(folder: Path) -> list[str]:
    """Return the blocks of a supervisord's configuration that let its owner ask and tell it things (`supervisorctl`)."""
    path = socket_path(folder)
    return ["[unix_http_server]", f"file = {path}", "chmod = 0700", "",
            "[rpcinterface:supervisor]",
            "supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface", "",
            "[supervisorctl]", f"serverurl = unix://{path}", ""]


def socket_path(folder: Path) -> Path:
    """Where the supervisord of a folder listens: a path short enough for the kernel (107 bytes), whatever the checkout's,
    and the same for whoever asks."""
    path = folder / "supervisor.sock"
    mark = hashlib.sha256(str(folder).encode()).hexdigest()[:16]
    return path if len(str(path)) <= 100 else Path("/tmp") / f"tandem-{mark}.sock"  # noqa: S108


def _gateway(settings: Settings, plan: Topology, server: Server) -> str:
    """The gateway listens on its server's own address and, with the other servers', on the entry."""
    command = [
        sys.executable, "-m", "gunicorn", "--worker-class", "ops.gateway_worker.GatewayWorker",
        "--workers", str(server.gateway_processes),
        "--worker-connections", str(_GATEWAY_CONNECTIONS), "--backlog", "4096", "--reuse-port", "--no-control-socket",
        "--bind", str(server.gateway), "--bind", str(plan.entry), "--keep-alive", "75", "--timeout", "60",
        "--graceful-timeout", str(round(settings.shutdown_s)), "--worker-tmp-dir", _memory_folder(),
        "app.api:from_environment()"]
    return _program("gateway", command, settings, server)


def _worker(settings: Settings, server: Server, spec: WorkerSpec) -> str:
    cpus = ",".join(str(cpu) for cpu in cpus_of(spec.processors))
    command = [
        "taskset", "--cpu-list", cpus, sys.executable, "-m", "celery", "-A", "workers", "worker",
        "-Q", ",".join(spec.services), "-n", f"{spec.name}@{server.name}",
        "--concurrency", str(spec.concurrency), "--task-events", "--disable-prefetch", "--without-gossip",
        "--without-mingle", "--loglevel", settings.log_level]
    return _program(spec.name, command, settings, server)


def _program(name: str, command: Sequence[str], settings: Settings, server: Server) -> str:
    return program(name, command, settings, folder=run_folder(settings, server),
                   environment=f"TANDEM_SERVER=\"{server.name}\",OMP_WAIT_POLICY=\"PASSIVE\"")


def program(name: str, command: Sequence[str], settings: Settings, *, folder: Path, environment: str,
            autostart: bool = True) -> str:
    """Return supervisord's block for a program that gets its time to stop (`shutdown_s`) and logs in `folder`. Without
    `autostart` it waits until it is asked for."""
    stop_s = round(settings.shutdown_s) + _STOP_MARGIN_S
    return "\n".join([
        f"[program:{name}]", f"command = {shlex.join(command)}".replace("%", "%%"), f"environment = {environment}",
        f"directory = {Path.cwd()}", f"autostart = {str(autostart).lower()}", "autorestart = true",
        "startsecs = 2", "startretries = 1000",
        "stopsignal = TERM", f"stopwaitsecs = {stop_s}", "stopasgroup = false", "killasgroup = true",
        "redirect_stderr = true", f"stdout_logfile = {folder / (name + '.log')}",
        "stdout_logfile_maxbytes = 20MB", "stdout_logfile_backups = 2", ""])


def _memory_folder() -> str:
    """Where gunicorn's heartbeat files go: in memory, so that a slow disk does not look like a dead worker."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else "/tmp"  # noqa: S108


def write_configuration(settings: Settings, plan: Topology, server: Server) -> Path:
    """Write the configuration and return its path. Raises `SettingsError` when the server cannot be started here."""
    if not settings.redis_url:
        raise SettingsError(["TANDEM_REDIS_URL is not set; `make up` starts a Redis and sets it"])
    if shutil.which("taskset") is None:
        raise SettingsError(["taskset was not found; `apt-get install util-linux`"])
    path = run_folder(settings, server) / "supervisord.conf"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(configuration(settings, plan, server))
    return path


def raise_open_files() -> None:
    """Allow as many open files as the machine lets us: a gateway holds a connection for each waiting caller."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def up(name: str) -> None:
    """Become the server's supervisord."""
    settings, plan = topology.load()
    os.umask(0o077)  # logs and secrets are nobody else's to read
    server = plan.server(name)
    path = write_configuration(settings, plan, server)
    if notice := sharing_notice(plan):
        print(notice, file=sys.stderr)
    raise_open_files()
    os.execv(sys.executable, [  # noqa: S606 - our own interpreter and arguments
        sys.executable, "-W", "ignore::UserWarning", "-m", "supervisor.supervisord",
                              "--configuration", str(path)])


def show_pins() -> int:
    """Print each live worker's pins; return how many are not what the topology asks for."""
    settings, plan = topology.load()
    wrong = 0
    if notice := sharing_notice(plan):
        print(notice)
    print(f"{'worker':22} {'processors':12} {'pid':>8}  {'asked':8} kernel")
    for worker in Registry(open_redis(settings)).workers():
        asked = cpus_of([int(label[1:]) for label in worker.processors], range(os.cpu_count() or 1))
        here = worker.host == socket.gethostname()
        kernel = tuple(psutil.Process(worker.pid).cpu_affinity()) if here else worker.cpus
        wrong += kernel != asked
        print(f"{worker.name:22} {','.join(worker.processors):12} {worker.pid:>8}  {_list(asked):8} {_list(kernel)}"
              + ("" if kernel == asked else "   <- differs") + ("" if here else f"   (on {worker.host})"))
    return wrong


def _list(cpus: Sequence[int]) -> str:
    return ",".join(str(cpu) for cpu in cpus)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m ops.server", description="Run and look at one server.")
    commands = parser.add_subparsers(dest="command", required=True)
    for command in ("up", "config"):
        commands.add_parser(command).add_argument("name", help="a server of the topology, e.g. server-1")
    commands.add_parser("pins")
    chosen = parser.parse_args(arguments)
    try:
        if chosen.command == "pins":
            return 1 if show_pins() else 0
        if chosen.command == "config":
            settings, plan = topology.load()
            print(configuration(settings, plan, plan.server(chosen.name)))
            return 0
        up(chosen.name)
    except TandemError as exc:
        print(exc, file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
