"""The cloud on this machine, as `make up` runs it where the topology has a [cloud] table and no MNS is named: a local MNS
server, with a store for what is too long for a message, and a cloud worker.

The worker runs as if on another machine: with a data folder of its own, and without the address of any Redis. Whatever it
hears and says goes through MNS.
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
from ops.server import program

#: Celery's node name of the cloud worker.
WORKER = "cloud@local"

#: What the home side's Redis, secrets and listeners are called by; a cloud worker's environment has none of it.
_OF_HOME = ("TANDEM_REDIS_URL", "TANDEM_CACHE_URL", "TANDEM_METRICS_TOKEN", "TANDEM_SERVER")


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
    """Where the cloud worker's configuration, log and data lie."""
    return settings.data_dir.resolve() / "cloud"


def worker_environ(settings: Settings, environ: Mapping[str, str], *, model: str) -> dict[str, str]:
    """Return the environment of the cloud worker, made of `environ`. `model` is a folder or a hub name, since what is
    in home's data folder is not in the worker's."""
    return {**{name: value for name, value in environ.items() if name not in _OF_HOME}, **mns_environ(settings),
            "TANDEM_REDIS_URL": "", "TANDEM_CACHE_URL": "",  # also over what the topology file says
            "TANDEM_PROFILE": "cloud", "TANDEM_DATA_DIR": str(run_folder(settings)), "TANDEM_MODEL": model}


def write_worker_configuration(settings: Settings, cloud: CloudSpec) -> Path:
    """Write supervisord's configuration for the cloud worker and return its path."""
    folder = run_folder(settings)
    folder.mkdir(parents=True, exist_ok=True)
    pin = ["taskset", "--cpu-list", ",".join(str(cpu) for cpu in cpus_of(cloud.processors))] if cloud.processors else []
    command = [*pin, sys.executable, "-m", "celery", "-A", "workers", "worker", "-n", WORKER,
               "--concurrency", str(cloud.concurrency), "--loglevel", settings.log_level]
    path = folder / "supervisord.conf"
    path.write_text("\n".join([
        "[supervisord]", f"logfile = {folder / 'supervisord.log'}", f"pidfile = {folder / 'supervisord.pid'}",
        f"childlogdir = {folder}", "nodaemon = true", "silent = true", "identifier = cloud", "",
        program("cloud", command, settings, folder=folder, environment='OMP_WAIT_POLICY="PASSIVE"')]))
    return path


def pids(supervisors: Mapping[str, int]) -> dict[str, int]:
    """Return the pids of the cloud worker and the MNS server, found by the pids of their supervisors."""
    found = {}
    for name, supervisor, word in ((WORKER, "cloud", "celery"), ("mns", "stack", "ops.mns_server")):
        for child in psutil.Process(supervisors[supervisor]).children():
            if word in child.cmdline():
                found[name] = child.pid
    return found
