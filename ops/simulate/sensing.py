"""What the routing task would have gathered: the modelled world as `Signals`."""

from app.job import Service
from app.queues import Queue
from app.routing_rules import Rules
from app.signals import BELIEVED_S, CloudSignals, QueueSignals, ServerSignals, Signals, Times
from app.topology import Topology
from ops.simulate.cloud import Cloud
from ops.simulate.home import Home, Server
from ops.simulate.spend import price
from routing.rates import Rates

#: The Unix time at which every run begins: a full hour.
EPOCH_S = 486_112 * 3600


class Sensing:
    """Reads the signals of a modelled home and cloud."""

    def __init__(self, topology: Topology, rules: Rules, home: Home, cloud: Cloud | None) -> None:
        self._rules, self._home, self._cloud = rules, home, cloud
        self._workers = {server.name: tuple(f"{worker.name}@{server.name}" for worker in server.workers)
                         for server in topology.servers}
        # the other services have nothing to do here
        self._queues = {service.value: QueueSignals(slots=sum(
            worker.concurrency for server in topology.servers for worker in server.workers if service in worker.services))
            for service in Service}
        self._rates = Rates()
        self._last: dict[str, ServerSignals | None] = {server.name: None for server in topology.servers}

    def signals(self, now_s: float, users: int | None) -> Signals:
        """Return what is measured at this time of the run."""
        at_ms = round((EPOCH_S + now_s) * 1000)
        servers = {server.name: self._server(server, now_s, at_ms) for server in self._home.servers}
        queues = {**self._queues, Service.MODEL.value: self._queue(now_s)}
        return Signals(at_ms=at_ms, servers=servers, queues=queues, users=users, cloud=self._of_cloud())

    def cpu_percent(self, server: Server) -> float:
        """Return how busy a server is; nothing of one that is down."""
        world = self._home.world
        return _level(server, "cpu", world.cpu_idle_percent, world.cpu_full_percent) if server.up else 0.0

    def _server(self, server: Server, now_s: float, at_ms: int) -> ServerSignals | None:
        if not server.up:
            return self._last[server.name] if now_s - server.down_s < BELIEVED_S else None
        world = self._home.world
        self._last[server.name] = ServerSignals(
            server=server.name, at_ms=at_ms, cpu_percent=self.cpu_percent(server),
            memory_percent=_level(server, "memory", world.memory_idle_percent, world.memory_full_percent),
            calls=self._calls(server), answers=server.answers.times(), requests=server.requests.all,
            attempts=server.attempts.all, attempts_failed=server.attempts.failed, workers=self._workers[server.name],
            held=server.held)
        return self._last[server.name]

    def _calls(self, server: Server) -> Times:
        told = server.said.get("calls")
        time_s = self._home.world.call_s if told is None else told
        return Times(count=server.requests.all, mean_s=time_s, p50_s=time_s, p95_s=time_s)

    def _queue(self, now_s: float) -> QueueSignals:
        home, cloud = self._home, self._cloud
        waiting, in_cloud = len(home.line), len(cloud.running) if cloud else 0
        line = Queue(waiting=waiting, woken=waiting, messages=waiting, in_cloud=in_cloud, sent=0, held=0,
                     running=sum(len(server.running) for server in home.servers) + in_cloud,
                     oldest_s=home.line.oldest_s(now_s))
        slots = sum(server.slots for server in home.servers if server.up and not server.takes_none)
        self._rates.note(now_s, {Service.MODEL.value: home.ended}, [Service.MODEL] if waiting else [])
        return self._rates.told(Service.MODEL, line, slots=slots, pace_s=home.pace_s)

    def _of_cloud(self) -> CloudSignals | None:
        cloud, rules = self._cloud, self._rules
        if cloud is None:
            return None
        spend, workers = cloud.spend, cloud.known_workers()
        usual = price(self._home.world.tokens * self._home.world.worst_tokens, rules)
        return CloudSignals(
            reachable=cloud.down_s is None, workers=workers, slots=cloud.slots if workers else 0, sent=len(cloud.sent),
            running=len(cloud.running), pace_s=cloud.pace_s, posts=cloud.posts, posts_failed=cloud.posts_failed,
            begun=cloud.begun, lapsed=cloud.lapsed, jobs_left=max(rules.cloud_jobs_per_minute - spend.minute, 0),
            money_left=max(rules.cloud_money_per_hour - spend.hour, 0.0), money_hour=spend.hour, jobs_minute=spend.minute,
            job_cost=spend.job_cost or usual)


def _level(server: Server, signal: str, idle: float, full: float) -> float:
    """How high a signal is with so many slots busy; or what the trace says."""
    said = server.said.get(signal)
    return min(idle + (full - idle) * len(server.running) / server.first, 100.0) if said is None else said
