"""The cloud on this machine, as `make up` runs it where the topology has a [cloud] table and no MNS is named: a local MNS
server, with a store for what is too long for a message, and cloud workers: one at first, more when they are asked for
(`ops.scale_cloud`).

They run as if on another machine: with a data folder of their own, and without the address of any Redis. Whatever they hear
and say goes through MNS.
"""

import json
import secrets
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import psutil

from app.settings import Settings
from app.topology import CloudSpec, Topology, local_mns_file
from ops.embedded_redis import free_port
from ops.pins import cpus_of
from ops.server import program, remote_control

#: Celery's node name of the first cloud worker; the others are "cloud@local-2" and so on.
WORKER = "cloud@local"

#: Cloud workers that this machine may have: a hand's more than anybody has cores and memory for.
MOST = 16

#: Their group under supervisord, so that they stop at the same time.
GROUP = "cloud"

#: What the home side's Redis, secrets and listeners are called by; a cloud worker's environment has none of it.
_OF_HOME = ("TANDEM_REDIS_URL", "TANDEM_CACHE_URL", "TANDEM_METRICS_TOKEN", "TANDEM_ALERT_WEBHOOKS", "TANDEM_SCALE_COMMAND",
            "TANDEM_SERVER")


@dataclass(frozen=True, slots=True)
class LocalMns:
    """The local MNS server: where it listens on loopback, and where its messages and its keys lie."""

    folder: Path
    port: int
    admin_port: int
    objects_port: int

    @classmethod
    def for_stack(cls, settings: Settings, plan: Topology) -> "LocalMns | None":
        """Return the one to start, on free ports; None where the topology has no cloud, or an MNS is named."""
        if plan.cloud is None or settings.mns_url:
            return None
        return cls(settings.data_dir.resolve() / "mns", free_port(), free_port(), free_port())

    @property
    def keys(self) -> Path:
        """The file with the one pair of keys that the server takes."""
        return self.folder / "keys.json"

    def command(self) -> list[str]:
        """Return the server's command line."""
        return [sys.executable, "-m", "ops.mns_server", "--port", str(self.port), "--admin-port", str(self.admin_port),
                "--objects-port", str(self.objects_port), "--data", str(self.folder / "messages.sqlite"),
                "--keys", str(self.keys)]

    def make_keys(self) -> None:
        """Make the folder and, the first time, the keys, which nobody else may read."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if not self.keys.exists():
            draft = self.keys.with_suffix(".new")
            draft.touch(mode=0o600)
            draft.write_text(json.dumps({"access_key_id": f"local{secrets.token_hex(6)}",
                                         "access_key_secret": secrets.token_urlsafe(24)}) + "\n")
            draft.rename(self.keys)

    def used_by(self, settings: Settings) -> Settings:
        """Return the settings with which both sides reach this server."""
        store = f"oss://tandem/bodies?region=local&endpoint=http://127.0.0.1:{self.objects_port}"
        return replace(settings, mns_url=f"mns://127.0.0.1:{self.port}", mns_credentials=str(self.keys),
                       cloud_store=settings.cloud_store or store)

    def report(self) -> dict[str, str]:
        """Return what stands in up.json."""
        return {"url": f"mns://127.0.0.1:{self.port}", "admin": f"http://127.0.0.1:{self.admin_port}",
                "objects": f"http://127.0.0.1:{self.objects_port}"}


def mns_environ(settings: Settings) -> dict[str, str]:
    """Return the settings about MNS as environment variables."""
    return {"TANDEM_MNS_URL": settings.mns_url, "TANDEM_MNS_CREDENTIALS": settings.mns_credentials,
            "TANDEM_CLOUD_STORE": settings.cloud_store}


def write_note(settings: Settings) -> None:
    """Note how the local MNS server is reached, so that operators' commands find it (`topology.load`)."""
    note = {name: getattr(settings, name) for name in ("mns_url", "mns_credentials", "cloud_store")}
    local_mns_file(settings.data_dir).write_text(json.dumps(note) + "\n")


def run_folder(settings: Settings) -> Path:
    """Where the cloud workers' configuration, logs and data lie."""
    return settings.data_dir.resolve() / "cloud"


def worker_environ(settings: Settings, environ: Mapping[str, str], *, model: str) -> dict[str, str]:
    """Return the environment of the cloud workers, made of `environ`. `model` is a folder or a hub name, since what is
    in home's data folder is not in theirs."""
    return {**{name: value for name, value in environ.items() if name not in _OF_HOME}, **mns_environ(settings),
            "TANDEM_REDIS_URL": "", "TANDEM_CACHE_URL": "",  # also over what the topology file says
            "TANDEM_PROFILE": "cloud", "TANDEM_DATA_DIR": str(run_folder(settings)), "TANDEM_MODEL": model}


def write_worker_configuration(settings: Settings, cloud: CloudSpec) -> Path:
    """Write supervisord's configuration for the cloud workers and return its path."""
    folder = run_folder(settings)
    folder.mkdir(parents=True, exist_ok=True)
    pin = ["taskset", "--cpu-list", ",".join(str(cpu) for cpu in cpus_of(cloud.processors))] if cloud.processors else []
    programs = [program(program_name(number), [
        *pin, sys.executable, "-m", "celery", "-A", "workers", "worker", "-n", worker_name(number),
        "--concurrency", str(cloud.concurrency), "--loglevel", settings.log_level],
        settings, folder=folder, environment='OMP_WAIT_POLICY="PASSIVE"', autostart=number == 1)
        for number in range(1, MOST + 1)]
    path = folder / "supervisord.conf"
    path.write_text("\n".join([
        *remote_control(folder),
        "[supervisord]", f"logfile = {folder / 'supervisord.log'}", f"pidfile = {folder / 'supervisord.pid'}",
        f"childlogdir = {folder}", "nodaemon = true", "silent = true", "identifier = cloud", "",
        f"[group:{GROUP}]", f"programs = {','.join(program_name(number) for number in range(1, MOST + 1))}", "",
        *programs]))
    return path


def program_name(number: int) -> str:
    """Return what supervisord calls the cloud worker of this number, from 1."""
    return "cloud" if number == 1 else f"cloud-{number}"


def worker_name(number: int) -> str:
    """Return Celery's node name of the cloud worker of this number, from 1."""
    return WORKER if number == 1 else f"{WORKER}-{number}"


def pids(supervisors: Mapping[str, int]) -> dict[str, int]:
    """Return the pids of the cloud workers, by their node names, and of the MNS server, found by the pids of their
    supervisors."""
    found = {}
    for child in psutil.Process(supervisors["cloud"]).children():
        if "-n" in (command := _command(child)):
            found[command[command.index("-n") + 1]] = child.pid
    for child in psutil.Process(supervisors["stack"]).children():
        if "ops.mns_server" in _command(child):
            found["mns"] = child.pid
    return found


def _command(process: psutil.Process) -> list[str]:
    """Return a process's command line; nothing where it has just ended, as a worker that is one too many does."""
    try:
        return list(process.cmdline())
    except psutil.Error:
        return []
