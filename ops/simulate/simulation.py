"""A run in virtual time: the policy that decides in the real routing task decides here, once a second, over a modelled
home and cloud.

Promises: every accepted job has ended or is somewhere at the end of each second (`BooksDiffer` otherwise); the same load,
rules and world give the same run.
"""

import time
from collections.abc import Callable, Iterator

from app.errors import TandemError
from app.job import Lane
from app.routing_records import Change, Decision, Remembered
from app.routing_rules import Rules
from app.signals import Signals
from app.topology import Topology
from ops.simulate.books import Books
from ops.simulate.clock import Clock
from ops.simulate.cloud import Cloud
from ops.simulate.home import Home
from ops.simulate.jobs import Job
from ops.simulate.load import Arrival, Moment, of_trace
from ops.simulate.record import Run, Second
from ops.simulate.sensing import EPOCH_S, Sensing
from ops.simulate.trace import Event, Trace
from ops.simulate.world import LEAD_S, World
from routing.policy import decide

#: (signals, rules, what is remembered, now) -> (what is to be remembered, what is to be done)
Policy = Callable[[Signals, Rules, Remembered, float], tuple[Remembered, Decision]]

#: Events of the trace that are values which a server's signals have from then on.
_SAID = ("cpu", "memory", "errors", "calls")


#: A second after the trace.
_AFTER = Moment([], None, ())


class BooksDiffer(TandemError):
    """A job was lost or counted twice: the simulation is wrong."""

    code = "books-differ"
    title = "The simulation lost a job"


class Simulation:
    """One run."""

    def __init__(self, topology: Topology, rules: Rules, world: World, policy: Policy) -> None:
        self._clock, self._books = Clock(), Books()
        self._home = Home(topology.servers, world, self._clock, self._books)
        self._cloud = None if topology.cloud is None else Cloud(topology.cloud.concurrency, rules, self._home, self._clock,
                                                                self._books)
        self._sensing = Sensing(topology, rules, self._home, self._cloud)
        self._rules, self._world, self._policy = rules, world, policy
        self._remembered, self._decision = Remembered(), Decision()
        self._leaderless_until_s = 0.0
        self._gateway = 0
        self._posts = 0  # up to the end of the last second
        self._shed = 0
        self._users: int | None = None
        self._seconds: list[Second] = []
        self._changes: list[tuple[float, Change]] = []

    def run(self, load: Iterator[Moment], *, name: str = "") -> Run:
        """Run the load, and on until the last job has ended, as far as the world allows."""
        began = time.process_time()
        for moment in load:
            self._users = moment.users
            self._second(moment)
        left_s = self._world.after_s
        while self._live() and left_s > 0:
            self._second(_AFTER)
            left_s -= 1
        return self._result(name, time.process_time() - began)

    def _second(self, moment: Moment) -> None:
        self._books.tick()
        self._home.tick()
        self._shed = 0
        for event in moment.events:
            self._happen(event)
        for arrival in moment.arrivals:
            self._clock.at(arrival.t_s, self._arrive, arrival)
        self._clock.run_until(len(self._seconds) + 1)
        if self._cloud is not None:
            self._cloud.tick()
        if self._clock.now_s >= self._leaderless_until_s and any(server.up for server in self._home.servers):
            self._round()
        self._write(len(moment.arrivals))

    def _arrive(self, arrival: Arrival, _stamp: int) -> None:
        """A job reaches the next gateway that is up."""
        servers = self._home.servers
        for step in range(len(servers)):
            gateway = servers[(self._gateway + step) % len(servers)]
            if gateway.up:
                break
        else:
            self._books.unreachable += 1
            return
        self._gateway = gateway.number + 1
        if arrival.lane in self._decision.shed.lanes:
            self._books.shed[arrival.lane] += 1
            self._shed += 1
            return
        gateway.requests.add()
        worst = arrival.tokens if arrival.worst_tokens is None else arrival.worst_tokens
        self._home.accept(Job(accepted_s=arrival.t_s, run_s=arrival.service_s, tokens=arrival.tokens, worst_tokens=worst,
                              lane=arrival.lane, gateway=gateway.number))

    def _happen(self, event: Event) -> None:
        if event.what in _SAID:
            self._home.by_name[event.server].said[event.what] = event.value
        elif event.what == "fail":
            leader = next((server for server in self._home.servers if server.up), None)
            if leader is not None and leader.name == event.server:
                self._leaderless_until_s = self._clock.now_s + LEAD_S
            self._home.fail(self._home.by_name[event.server])
        elif event.what == "back":
            self._home.back(self._home.by_name[event.server])
        elif self._cloud is not None:
            {"mns-down": self._cloud.lose_mns, "mns-up": self._cloud.find_mns, "cloud-down": self._cloud.lose_workers,
             "cloud-up": self._cloud.find_workers}[event.what]()

    def _round(self) -> None:
        """What the routing task does once a second."""
        now_s = self._clock.now_s
        signals = self._sensing.signals(now_s, self._users)
        self._remembered, decision = self._policy(signals, self._rules, self._remembered, EPOCH_S + now_s)
        self._decision = decision
        self._changes += [(now_s, change) for change in decision.changes]
        for server in self._home.servers:
            server.hold(decision.hold.get(server.name, ()))
        self._home.grow(grown=decision.grow)
        self._home.fill()
        if self._cloud is not None:
            if decision.recall:
                self._cloud.recall(decision.recall)
            self._cloud.order(decision.send)
            if decision.cloud_workers is not None:
                self._cloud.want(decision.cloud_workers)

    def _live(self) -> int:
        home, cloud = self._home, self._cloud
        return (len(home.line) + home.elsewhere + sum(len(server.running) for server in home.servers)
                + (0 if cloud is None else cloud.live))

    def _write(self, arrivals: int) -> None:
        home, cloud, books = self._home, self._cloud, self._books
        if books.accepted != books.ended + (live := self._live()):
            raise BooksDiffer(f"second {len(self._seconds)}: {books.accepted} accepted, but {books.ended} ended and {live} "
                              "live; report this with the trace and the options")
        self._seconds.append(Second(
            arrivals=arrivals, accepted=books.accepted, ended=books.ended, shed=self._shed, waiting=len(home.line),
            running=sum(len(server.running) for server in home.servers), elsewhere=home.elsewhere,
            sent=len(cloud.sent) if cloud else 0, cloud=cloud.live if cloud else 0, begun=books.now_begun,
            begun_cloud=books.now_begun_cloud, oldest_s=home.line.oldest_s(self._clock.now_s), users=self._users,
            cpu=tuple(self._sensing.cpu_percent(server) for server in home.servers),
            open=sum(server.up and not server.takes_none for server in home.servers),
            slots=sum(server.slots for server in home.servers if server.up),
            free=sum(server.slots - len(server.running) for server in home.servers if server.free),
            jobs_minute=cloud.spend.minute if cloud else 0, money_hour=cloud.spend.hour if cloud else 0.0,
            money=cloud.spend.total if cloud else 0.0, share=self._remembered.share,
            sending=(cloud.posts - self._posts) if cloud else 0,
            cloud_workers=cloud.workers if cloud else 0))
        self._posts = cloud.posts if cloud else 0

    def _result(self, name: str, cpu_s: float) -> Run:
        books = self._books
        return Run(name=name, servers=tuple(server.name for server in self._home.servers), seconds=self._seconds,
                   changes=self._changes, accepted=books.accepted, succeeded=books.succeeded, failed=books.failed,
                   live=self._live(), shed={lane.value: books.shed[lane] for lane in Lane}, unreachable=books.unreachable,
                   waits_s=sorted(books.waits_s), responses_s=sorted(books.responses_s), begun=books.begun,
                   posts=self._cloud.posts if self._cloud else 0, cpu_s=cpu_s)


def simulate(trace: Trace, topology: Topology, *, rules: Rules | None = None, world: World | None = None,
             policy: Policy = decide) -> Run:
    """Run a trace; by default with the topology's rules. Raises `BadTrace` where it names a server that is not there."""
    trace.check({server.name for server in topology.servers})
    world = world or World()
    return Simulation(topology, rules or topology.rules, world, policy).run(of_trace(trace, world), name=trace.name)
