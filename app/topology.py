"""The topology: which servers there are, which service runs on which processor, and the thresholds.

Read from `topology.toml` once, at start. Every fault of the file, and of the settings over it, is listed at once.
"""

import json
import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from app.errors import SettingsError
from app.job import Service
from app.routing_rules import Rules, read_rules, read_thresholds
from app.settings import Settings, read_settings

#: The topology file of a checkout; TANDEM_TOPOLOGY names another.
DEFAULT_FILE = Path(__file__).resolve().parent.parent / "topology.toml"


class Profile(StrEnum):
    """How much of the topology is used, and how services share processes."""

    STANDARD = "standard"  # the first server only
    PARALLEL = "parallel"  # every server, a worker process per service
    SIMPLIFIED = "simplified"  # every server, one worker process for all services
    CLOUD = "cloud"  # no server: this machine runs a cloud worker, which has no way to the Redis at home


@dataclass(frozen=True, slots=True)
class Address:
    """Where something listens."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSpec:
    """One worker process to run: the services it consumes, its processors and its slots."""

    name: str  # "model", or "all" in the simplified profile
    services: tuple[Service, ...]
    processors: tuple[int, ...]  # numbers of the labels: 2 is P2
    concurrency: int
    most: int  # slots that scale-up may give it


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """One server: its gateway's address and its workers."""

    name: str
    gateway: Address
    gateway_processes: int
    workers: tuple[WorkerSpec, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CloudSpec:
    """A cloud worker: its slots, and the processors that it is pinned to; none: it may run anywhere."""

    concurrency: int
    processors: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Topology:
    """The whole file, as the profile has it."""

    profile: Profile
    entry: Address
    flower: Address
    servers: tuple[Server, ...]
    rules: Rules
    cloud: CloudSpec | None = None  # None: no cloud

    def server(self, name: str) -> Server:
        """Return the server of that name. Raises `SettingsError` naming the ones there are."""
        for server in self.servers:
            if server.name == name:
                return server
        names = ", ".join(server.name for server in self.servers)
        raise SettingsError([f"there is no server '{name}' in the topology (profile {self.profile}); there are: {names}"])


def load(environ: Mapping[str, str] | None = None, *, embedded: bool = True) -> tuple[Settings, Topology]:
    """Read the topology file and the settings. Raises `SettingsError` with every fault of either.

    Where no Redis is named, the settings get the one that `make up` has running, so that operators' commands find it;
    `embedded=False` leaves the URL empty.
    """
    environ = os.environ if environ is None else environ
    path = Path(environ.get("TANDEM_TOPOLOGY") or DEFAULT_FILE)
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as exc:
        raise SettingsError([f"the topology file {path} cannot be read ({exc.strerror}); set TANDEM_TOPOLOGY"]) from exc
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
        raise SettingsError([f"{path}: {exc}"]) from exc
    reader = _Reader(document, environ.get("TANDEM_PROFILE"))
    table = reader.table(document, "settings") if "settings" in document else {}
    values, faults = read_settings(environ, table)
    topology = reader.read()
    if faults + reader.faults or topology is None:
        raise SettingsError(faults + reader.faults)
    settings = Settings(**values)
    if embedded and not settings.redis_url and (note := embedded_url_file(settings.data_dir)).exists():
        settings = replace(settings, redis_url=note.read_text(encoding="utf-8").strip())
    if embedded and not settings.mns_url and (note := local_mns_file(settings.data_dir)).exists():
        settings = replace(settings, **json.loads(note.read_text(encoding="utf-8")))
    return settings, topology


def local_mns_file(data_dir: Path) -> Path:
    """Where `make up` notes how to reach the local MNS server that it started, for as long as that runs: the settings
    mns_url, mns_credentials and cloud_store, as JSON."""
    return data_dir / "mns" / "settings.json"


def embedded_url_file(data_dir: Path) -> Path:
    """Where `make up` notes the URL of the Redis it started, for as long as that runs."""
    return data_dir / "redis" / "url"


class _Reader:
    """Walks the document, collecting faults instead of stopping at the first."""

    def __init__(self, document: dict[str, Any], profile: str | None) -> None:
        self.document = document
        self.profile = profile
        self.faults: list[str] = []

    def read(self) -> Topology | None:
        self.only(self.document, {"profile", "entry", "flower", "services", "servers", "settings", "thresholds", "cloud",
                                  "routing"}, "the file")
        profile = self.choice(Profile, self.profile or self.document.get("profile", "parallel"), "profile")
        entry, flower = self.listener("entry"), self.listener("flower")
        slots = self.concurrency()
        servers = self.servers(profile or Profile.PARALLEL, slots)
        cloud = self.cloud() if "cloud" in self.document else None
        if profile is Profile.CLOUD and cloud is None:
            self.faults.append("the profile cloud needs a [cloud] table")
        addresses = [entry, flower, *(server.gateway for server in servers)]
        self.unique([str(address) for address in addresses if address.port], "address")  # port 0: a fault, listed
        thresholds = read_thresholds(self.table(self.document, "thresholds"), self.faults)
        rules = read_rules(self.table(self.document, "routing") if "routing" in self.document else {}, thresholds,
                           self.faults)
        if self.faults or profile is None:
            return None
        used = servers[:1] if profile is Profile.STANDARD else servers
        return Topology(profile=profile, entry=entry, flower=flower, servers=tuple(used), rules=rules, cloud=cloud)

    def servers(self, profile: Profile, slots: dict[Service, tuple[int, int]]) -> list[Server]:
        blocks = self.document.get("servers")
        if not isinstance(blocks, list) or not blocks or not all(isinstance(block, dict) for block in blocks):
            self.faults.append("there must be at least one [[servers]] block")
            return []
        servers = [self.one_server(block, number, profile, slots) for number, block in enumerate(blocks, start=1)]
        self.unique([server.name for server in servers], "server name")
        self.unique([f"P{p}" for server in servers for w in server.workers for p in w.processors], "processor")
        return servers

    def one_server(self, block: dict[str, Any], number: int, profile: Profile,
                   slots: dict[Service, tuple[int, int]]) -> Server:
        where = f"[[servers]] block {number}"
        self.only(block, {"name", "host", "port", "gateway_processes", "processors"}, where)
        name = str(block.get("name", ""))
        if not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,62}", name):
            self.faults.append(f"{where}: name must be lower-case letters, digits and '-'; got {name!r}")
        labels = self.table(block, "processors", where)
        self.only(labels, set(Service), f"{where}: processors")
        pins = {service: self.labels(labels.get(service), f"{where}: processors.{service}") for service in Service}
        if profile is Profile.SIMPLIFIED:
            workers = [WorkerSpec(name="all", services=tuple(Service),
                                  concurrency=sum(first for first, _ in slots.values()),
                                  most=sum(most for _, most in slots.values()),
                                  processors=tuple(sorted(p for some in pins.values() for p in some)))]
        else:
            workers = [WorkerSpec(name=service.value, services=(service,), processors=pins[service],
                                  concurrency=slots[service][0], most=slots[service][1]) for service in Service]
        return Server(name=name, gateway=self.address(block, where), workers=tuple(workers),
                      gateway_processes=self.whole(block, "gateway_processes", where, default=1))

    def cloud(self) -> CloudSpec:
        table = self.table(self.document, "cloud")
        self.only(table, {"concurrency", "processors"}, "[cloud]")
        labels = table.get("processors", [])
        return CloudSpec(concurrency=self.whole(table, "concurrency", "[cloud]"),
                         processors=self.labels(labels, "[cloud] processors") if labels != [] else ())

    def concurrency(self) -> dict[Service, tuple[int, int]]:
        """The slots of each service's workers: at first, and at most."""
        table = self.table(self.document, "services")
        self.only(table, set(Service), "[services]")
        slots = {}
        for service in Service:
            body, where = self.table(table, service, "[services]"), f"[services] {service}"
            self.only(body, {"concurrency", "most"}, where)
            first = self.whole(body, "concurrency", where)
            slots[service] = first, self.whole(body, "most", where, default=first)
            if slots[service][1] < first:
                self.faults.append(f"{where}: most must not be below concurrency; got {slots[service][1]} and {first}")
        return slots

    def labels(self, value: Any, where: str) -> tuple[int, ...]:
        listed = value if isinstance(value, list) else [value]
        if not listed or not all(isinstance(label, str) and re.fullmatch(r"P[1-9]\d{0,3}", label) for label in listed):
            self.faults.append(f'{where} must be a label such as "P1", or a list of them; got {value!r}')
            return ()
        return tuple(int(label[1:]) for label in listed)

    def listener(self, key: str) -> Address:
        body = self.table(self.document, key)
        self.only(body, {"host", "port"}, f"[{key}]")
        return self.address(body, f"[{key}]")

    def address(self, body: dict[str, Any], where: str) -> Address:
        host = body.get("host", "127.0.0.1")
        if not isinstance(host, str) or not host:
            self.faults.append(f"{where}: host must be text; got {host!r}")
        port = self.whole(body, "port", where)
        if port > 65_535:
            self.faults.append(f"{where}: port must be at most 65535; got {port}")
        return Address(str(host), port)

    def whole(self, body: dict[str, Any], key: str, where: str, default: int | None = None) -> int:
        value = body.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            self.faults.append(f"{where}: {key} must be a whole number above 0; got {value!r}")
            return 0
        return value

    def choice(self, kind: Any, value: Any, where: str) -> Any:
        try:
            return kind(value)
        except ValueError:
            self.faults.append(f"{where} must be one of {', '.join(kind)}; got {value!r}")
            return None

    def table(self, body: dict[str, Any], key: str, where: str = "the file") -> dict[str, Any]:
        value = body.get(key)
        if not isinstance(value, dict):
            self.faults.append(f"{where}: the table {key} is missing")
            return {}
        return value

    def only(self, body: dict[str, Any], known: set[Any], where: str) -> None:
        names = {str(name) for name in known}
        self.faults += [f"{where}: {key} is not known; there are: {', '.join(sorted(names))}"
                        for key in body if key not in names]

    def unique(self, values: list[str], what: str) -> None:
        twice = sorted({value for value in values if values.count(value) > 1})
        self.faults += [f"the {what} {value} is used twice" for value in twice]
