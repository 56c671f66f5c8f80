"""The whole stack on one machine, as `make up` runs it: what it consists of, and where its parts leave their traces.

Each server has a supervisord of its own (ops.server), and so has the cloud worker (ops.local_cloud), called "cloud". What
the servers share here, the embedded Redis, Flower and the local MNS server, is kept by one more, called "stack".
"""

import contextlib
import json
import os
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from app.errors import SettingsError
from app.settings import Settings
from app.topology import Topology, embedded_url_file, local_mns_file
from ops import embedded_redis
from ops.local_cloud import LocalMns
from ops.server import raise_open_files
from ops.waiting import wait_until

_STOP_S = 60.0  # a stopping server lets its jobs end (shutdown_s), then some


@dataclass(frozen=True, slots=True)
class Files:
    """Where the stack leaves its traces, under the data folder."""

    data_dir: Path

    @property
    def up(self) -> Path:
        """What scripts read: addresses, account, pids."""
        return self.data_dir / "up.json"

    @property
    def pids(self) -> Path:
        """The supervisords started so far, for stopping what a broken start left behind."""
        return self.data_dir / "stack" / "pids.json"

    @property
    def log(self) -> Path:
        """What the supervisords themselves print."""
        return self.data_dir / "stack" / "supervisors.log"


class Supervisors:
    """The supervisord processes of the stack, remembered on disk by pid and birth."""

    def __init__(self, files: Files) -> None:
        self._files = files

    def start(self, name: str, command: list[str], environ: Mapping[str, str]) -> int:
        """Start one in a session of its own and remember it; return its pid."""
        self._files.pids.parent.mkdir(parents=True, exist_ok=True)
        with self._files.log.open("ab") as log:
            process = subprocess.Popen(command, env=dict(environ), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                       start_new_session=True, preexec_fn=raise_open_files)
        known = self._read()
        known[name] = {"pid": process.pid, "born": _born(process.pid)}
        self._files.pids.write_text(json.dumps(known))
        return process.pid

    def alive(self) -> dict[str, int]:
        """Return name -> pid of those that still run. A pid that now belongs to another program does not count."""
        running = {}
        for name, entry in self._read().items():
            with contextlib.suppress(psutil.NoSuchProcess, OSError):
                zombie = psutil.Process(entry["pid"]).status() == psutil.STATUS_ZOMBIE
                if _born(entry["pid"]) == entry["born"] and not zombie:
                    running[name] = entry["pid"]
        return running

    def stop(self) -> list[str]:
        """Stop them and what outlived one of them: the cloud worker first, so that home hears how its jobs end; then the
        servers, and last what they share. Return the names of those of which something ran."""
        families = {name: members for name, entry in self._read().items() if (members := _session(entry))}
        for group in (families.keys() & {"cloud"}, families.keys() - {"cloud", "stack"}, families.keys() & {"stack"}):
            for name in group:
                _ask_to_end(families[name])
            _, left = psutil.wait_procs([process for name in group for process in families[name]], timeout=_STOP_S)
            for process in left:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
        self._files.pids.unlink(missing_ok=True)
        self._files.up.unlink(missing_ok=True)
        embedded_url_file(self._files.data_dir).unlink(missing_ok=True)
        local_mns_file(self._files.data_dir).unlink(missing_ok=True)
        return list(families)

    def _read(self) -> dict[str, Any]:
        try:
            return dict(json.loads(self._files.pids.read_text()))
        except (FileNotFoundError, json.JSONDecodeError):
            return {}


def _born(pid: int) -> str:
    """Return when a process was started: the boot, and the clock ticks since then, which no change of the clock moves."""
    ticks = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    return f"{_boot()} {ticks}"


def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def _session(entry: Mapping[str, Any]) -> list[psutil.Process]:
    """Return the processes of a supervisor's session, itself first. They keep its session id when it dies. When its pid has
    gone to another program there are none: within a boot, the kernel gives it to one only after the whole session has
    ended."""
    leader, members = entry["pid"], []
    if not entry["born"].startswith(_boot()):
        return []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.NoSuchProcess, ProcessLookupError, PermissionError):
            if os.getsid(process.pid) == leader and process.status() != psutil.STATUS_ZOMBIE:
                members.append(process)
    if any(process.pid == leader and _born(leader) != entry["born"] for process in members):
        return []
    return sorted(members, key=lambda process: process.pid != leader)


def _ask_to_end(members: list[psutil.Process]) -> None:
    """Ask a supervisor, which asks its children; or, where it is dead, the children it left."""
    supervisors = [process for process in members if process.pid == os.getsid(process.pid)]
    for process in supervisors or members:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(signal.SIGTERM)


def shared_configuration(settings: Settings, plan: Topology, *, redis_port: int | None, mns: LocalMns | None,
                         flower_login: str) -> str:
    """Return supervisord's configuration for what the servers share: Flower, Redis unless one was named, and the local MNS
    server where there is one."""
    folder = (settings.data_dir / "stack").resolve()
    programs = {"flower": [
        "nice", "-n", "19",  # whoever watches must not slow what it watches
        sys.executable, "-m", "celery", "-A", "workers", "flower", f"--address={plan.flower.host}",
        f"--port={plan.flower.port}", "--logging=warning"]}
    if redis_port is not None:
        programs["redis"] = embedded_redis.command(
            settings.data_dir.resolve() / "redis", port=redis_port,
            program=settings.redis_program or embedded_redis.find_program(), log=folder / "redis.log")
    if mns is not None:
        programs["mns"] = mns.command()
    blocks = [
        f"[supervisord]\nlogfile = {folder / 'supervisord.log'}\npidfile = {folder / 'supervisord.pid'}\n"
        "nodaemon = true\nsilent = true\nidentifier = stack\n"]
    for name, command in programs.items():
        environment = f'environment = FLOWER_BASIC_AUTH="{flower_login}"' if name == "flower" else ""
        blocks.append("\n".join([
            f"[program:{name}]", f"command = {shlex.join(command)}".replace("%", "%%"), environment,
            f"directory = {Path.cwd()}",
            "autorestart = true", "startsecs = 1", "startretries = 1000", "stopwaitsecs = 15",
            f"priority = {999 if name == 'flower' else 1}", "redirect_stderr = true",
            f"stdout_logfile = {folder / (name + '.out')}", "stdout_logfile_maxbytes = 10MB", ""]))
    return "\n".join(blocks)


def check_ports(plan: Topology) -> None:
    """Raise `SettingsError` naming every port of the topology that another program holds."""
    wanted = {"entry": plan.entry, "flower": plan.flower,
              **{f"gateway of {server.name}": server.gateway for server in plan.servers}}
    faults = []
    for what, address in wanted.items():
        with socket.socket() as probe:
            probe.settimeout(1)
            if probe.connect_ex((address.host, address.port)) == 0:
                faults.append(f"port {address.port} ({what}) is in use by another program; stop that, or change the "
                              "port in topology.toml")
    if faults:
        raise SettingsError(faults)


def wait_for_ports_to_close(plan: Topology) -> None:
    """Wait until nothing of the stack listens any more."""
    def closed() -> bool:
        try:
            check_ports(plan)
        except SettingsError:
            return False
        return True

    wait_until(closed, timeout_s=10, what="the stack's ports to close")
